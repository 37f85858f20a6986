"""What editors save and publish reaches visitors, on a running server, and no message is dropped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import playwright.sync_api
import pytest
from playwright.sync_api import Page, expect

from assistant.content.catalogue import load_catalogue
from assistant.content.check import OVERDUE, Problem
from assistant.staff import publish_process
from tests.browser import ChatPage, chromium
from tests.conftest import Chat, Server, start_server, stop_server
from tests.staff import (
    Browser,
    copy_of_the_project,
    looked_at,
    office_of,
    out_of_reach,
    press,
    sign_in,
    signed_in,
    tab_to,
    words,
    write_into,
)

LONGEST = 600.0  # seconds for training on a busy machine
CHECKED = 60_000.0  # milliseconds for a check of all content


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A copy of the project, to be edited."""
    return copy_of_the_project(tmp_path_factory.mktemp("editing") / "project")


@pytest.fixture(scope="module")
def edited(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of that copy."""
    server = start_server(
        tmp_path_factory.mktemp("server"),
        ASSISTANT_HOME=str(project),
        ANSWER_SECONDS="200",  # nothing here is about a busy machine
    )
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def editor(edited: Server) -> Iterator[Browser]:
    with office_of(edited):
        browser = signed_in(edited, "eddie")
        browser.http.timeout = httpx.Timeout(220)
        yield browser


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.sync_api.Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: playwright.sync_api.Browser, edited: Server) -> Iterator[Page]:
    context = browser.new_context(base_url=edited.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


class Talk:
    """Visitors who keep writing; every answer must be one."""

    def __init__(self, server: Server, visitors: int = 2) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(server,)) for _ in range(visitors)
        ]

    def __enter__(self) -> Talk:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert self.failures == []

    def _write(self, server: Server) -> None:
        chat = server.open()
        while not self._over.is_set():
            response = chat.post(text="what is sciatica")
            topics = [
                m["metadata"].get("topic")
                for m in (response.json().get("messages") or [])
            ] if response.status_code == 200 else []  # fmt: skip
            if "symptoms/what_is_sciatica" not in topics:
                self.failures.append(f"{response.status_code} {response.text[:200]}")
            self.answers += 1
            self._over.wait(0.3)  # a visitor reads; training has the rest of the machine


def published(editor: Browser) -> str:
    """Press the button, wait until it has ended, and return the words of the page."""
    assert editor.post("/publish").status_code == 303
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        said = words(editor.get("/publish/progress").text)
        if re.search("The new version is live|Not published", said):
            return said
        time.sleep(0.5)  # between looks; the deadline decides
    raise AssertionError(f"publishing did not end: {said}")


def test_a_file_edited_by_hand_is_served_within_two_seconds(edited: Server, project: Path) -> None:
    file = project / "data" / "faq" / "diet.yml"
    before = file.read_text(encoding="utf-8")
    old = load_catalogue(project).answers["diet/gluten"].variations[0].text.splitlines()[0]
    chat = edited.open()
    with Talk(edited, visitors=1):
        assert old in chat.say("gluten and sciatica")[0]["text"]
        fresh = file.with_suffix(".new")
        fresh.write_text(before.replace(old, "Words of today.", 1), encoding="utf-8")
        fresh.replace(file)
        saved = time.monotonic()
        seconds = 0.0
        while "Words of today." not in chat.say("gluten and sciatica")[0]["text"]:
            seconds = time.monotonic() - saved
            assert seconds < 20, "the new words are not served"
        seconds = time.monotonic() - saved
    file.write_text(before, encoding="utf-8")
    assert seconds < 2.0, f"the new words came after {seconds:.1f} s"


def test_an_editor_changes_an_answer_and_is_refused_what_harms(
    edited: Server, editor: Browser, project: Path
) -> None:
    page = editor.get("/content/topic", params={"name": "diet/gluten"}).text
    seen = page.split('name="seen" value="')[1].split('"')[0]
    form = {"name": "diet/gluten", "seen": seen}
    before = (project / "data" / "faq" / "diet.yml").read_bytes()
    refused = editor.post("/content/topic", **form, wording="Needles cure sciatica.")
    assert refused.status_code == 422
    assert "'cure' in 'Needles cure sciatica.' promises or praises" in words(refused.text)
    assert "Needles cure sciatica.</textarea>" in refused.text  # nobody types it again
    flag = editor.post("/content/examples", name="greet", added="i cant feel my groin and cant pee")
    assert flag.status_code == 422
    assert "warning sign" in words(flag.text)
    assert (project / "data" / "faq" / "diet.yml").read_bytes() == before
    preview = editor.post(
        "/content/preview", name="diet/gluten", wording="First.\n\nNeedles cure sciatica."
    )
    assert "promises or praises" in words(preview.text)
    assert '<p class="bubble pre">First.</p>' in preview.text

    saved = editor.post("/content/topic", **form, wording="Bread is not the cause.")
    assert saved.status_code == 303, words(saved.text)
    chat = edited.open()
    deadline = time.monotonic() + 3
    while "Bread is not the cause." not in chat.say("gluten and sciatica")[0]["text"]:
        assert time.monotonic() < deadline
    stale = editor.post("/content/topic", **form, wording="Bob did not look.")
    assert stale.status_code == 422
    assert "Somebody else changed diet/gluten" in words(stale.text)
    shown = editor.text("/content/changes")
    assert "+ Bread is not the cause." in shown
    assert editor.post("/content/undo", number="1").status_code == 303
    assert (project / "data" / "faq" / "diet.yml").read_bytes() == before
    assert [row.what for row in edited.rows("SELECT what FROM staff_log ORDER BY id DESC")][:2] == [
        "content: undo",
        "content: answer",
    ]


def test_the_pages_show_what_there_is(edited: Server, editor: Browser) -> None:
    assert "diet/gluten" in editor.text("/content?q=celiac+test")
    assert "symptoms/signs" not in editor.text("/content?q=celiac+test")
    assert "safety/crisis" not in editor.text("/content")
    assert editor.get("/content/topic", params={"name": "safety/crisis"}).status_code == 404
    assert editor.get("/content/topic", params={"name": "no/such"}).status_code == 404
    assert "Try a sentence" in editor.text("/content/try")
    tried = words(editor.post("/content/try", text="is bread bad for my nerve").text)
    assert "Understood as diet/gluten" in tried
    flag = editor.post("/content/try", text="i cant feel my groin and cant pee").text
    assert "warning sign, cauda equina" in words(flag)
    assert "New topic" in editor.text("/content/new")
    started = editor.post("/questions", do="new", chosen="is rye ok", text="is rye ok")
    assert "is rye ok</textarea>" in started.text
    assert editor.post("/content/undo", number="no").status_code == 404
    assert editor.post("/questions", do="nonsense").status_code == 404


QUESTION = "can i charge my ebike battery at the office"


def test_the_day_of_somebody_at_the_office(edited: Server, editor: Browser, page: Page) -> None:
    """By keyboard a request is answered, and what nobody could answer is added and published under load."""
    visitor = edited.open()
    for text in (
        "I want to book an appointment", "yes", "Ana Lopez", "818 555 0134", "Tuesday afternoon",
        "Skip", "send",
    ):  # fmt: skip
        said = visitor.say(text)
    number = re.search(r"R-[2-9A-Z]{4}-[2-9A-Z]{4}", said[0]["text"])
    assert number, said
    chat = edited.open()
    private = Chat(edited.http, edited.http.post("/webchat/session", json={"private": True}).json())
    private.say("what is sciatica")
    assert "office/parking_access" not in chat.topics(QUESTION)

    sign_in(page)
    press(page, "Requests")
    expect(page.get_by_role("heading", name="Requests")).to_be_visible()
    press(page, "Ana Lopez")
    expect(page.get_by_role("heading", name="Ana Lopez")).to_be_visible()
    press(page, "I do it")
    expect(page.get_by_role("status").first).to_contain_text("It is yours")
    write_into(page, "New note", "Called at ten.")
    press(page, "Add the note")
    expect(page.get_by_text("Called at ten.")).to_be_visible()

    press(page, "Questions")
    expect(page.get_by_role("heading", name=QUESTION)).to_be_visible()
    problems = looked_at(page, "/questions") + out_of_reach(page, "/questions")
    tab_to(page, QUESTION)
    write_into(page, "Topic", "office/parking_access")
    press(page, "Add to the topic")
    expect(page.get_by_role("status").first).to_contain_text("Added. It counts", timeout=CHECKED)
    expect(page.get_by_role("heading", name=QUESTION)).to_have_count(0)

    press(page, "Publish")
    expect(page.get_by_text("There are changes that are not published")).to_be_visible()
    press(page, "Skip to the page")
    with Talk(edited) as talk:
        press(page, "Publish")
        ended = page.get_by_role(
            "heading", name=re.compile("The new version is live|Not published")
        )
        ended.wait_for(timeout=LONGEST * 1000)
    assert ended.inner_text() == "The new version is live", page.inner_text("main")
    assert talk.answers > 10
    expect(page.get_by_text("Everything is published")).to_be_visible()  # without a reload
    problems += looked_at(page, "/publish")
    assert problems == []
    # The conversations went on: the old messages are still known to the new model.
    history = private.http.get("/webchat/messages", headers=private.headers).json()["messages"]
    assert [m["text"] for m in history if m.get("from") == "visitor"] == ["what is sciatica"]
    (row,) = edited.rows("SELECT name, account FROM published_models")
    assert row.account == "olga"

    widget = ChatPage(page, f"{edited.url}/webchat/").visit().open(save=False)
    widget.ask(QUESTION)
    expect(widget.find(".bubble.assistant").last).to_contain_text("wheelchair")


def test_a_harmful_edit_is_refused_with_its_reason(
    edited: Server, editor: Browser, page: Page
) -> None:
    sign_in(page)
    page.goto("/staff/content/topic?name=diet/gluten")
    write_into(page, "Text", "Needles cure sciatica.")
    press(page, "Save the answer")
    expect(page.get_by_text("promises or praises").first).to_be_visible(timeout=CHECKED)
    assert page.get_by_label("Text", exact=True).input_value() == "Needles cure sciatica."
    problems = looked_at(page, "a refused answer")
    page.goto("/staff/content/topic?name=greet")
    write_into(page, "New examples, one a line", "i cant feel my groin and cant pee")
    press(page, "Save the examples")
    expect(page.get_by_text("warning sign").first).to_be_visible(timeout=CHECKED)
    for path in ("/content/try", "/content/changes"):
        page.goto(f"/staff{path}")
        if path == "/content/try":
            write_into(page, "What a visitor might write", "is bread bad for my nerve")
            press(page, "Try it")
            expect(page.get_by_text("Understood as")).to_be_visible()
        problems += looked_at(page, path) + out_of_reach(page, path)
    assert problems == []


def test_a_publish_that_fails_changes_nothing_and_says_why(
    edited: Server, editor: Browser, project: Path
) -> None:
    models = {path.name for path in (project / "models").iterdir()}
    golden = project / "data" / "golden_questions.yml"
    before = golden.read_text(encoding="utf-8")
    golden.write_text(before.replace("topic: greet", "topic: goodbye"), encoding="utf-8")
    with Talk(edited, visitors=1):
        said = published(editor)
    golden.write_text(before, encoding="utf-8")
    assert "Not published" in said
    assert "'hello' must be answered by goodbye, but got greet" in said
    assert {path.name for path in (project / "models").iterdir()} == models
    assert len(edited.rows("SELECT * FROM published_models")) <= 1
    assert edited.open().topics("hello") == ["greet"]


@pytest.mark.parametrize("training_fails", [False, True])
def test_what_the_check_finds_meanwhile_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training_fails: bool
) -> None:
    def trained(*_: Any) -> Path:
        if training_fails:
            raise KeyError("whatever bad content leads to")
        return tmp_path / "model"

    found = [Problem("data/faq/diet.yml", 7, "a dose"), Problem("data/faq/diet.yml", 9, OVERDUE)]
    monkeypatch.setattr(publish_process, "train", trained)
    monkeypatch.setattr(publish_process, "check_project", lambda project: found)
    with pytest.raises(publish_process.FailedError) as failure:
        publish_process.publish(tmp_path, None)
    assert failure.value.reasons == (str(found[0]),)


def test_a_check_that_breaks_off_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_process, "train", lambda *_: tmp_path / "model")
    monkeypatch.setattr(publish_process, "check_project", lambda project: os._exit(1))
    with pytest.raises(publish_process.FailedError, match="broke off"):
        publish_process.publish(tmp_path, None)


def test_a_publishing_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from assistant.staff import publish_process as p; "
        "p.train = lambda *_: (p._say(step='asleep'), time.sleep(600)); p.check_project = lambda project: []; "
        f"p.publish(Path({str(tmp_path)!r}), None)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert any(b"asleep" in line for line in process.stdout)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while is_there(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)  # between looks; the deadline decides
    assert not is_there(process.pid)


def is_there(group: int) -> bool:
    """Whether a group of processes has one."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
