"""What editors save and publish reaches visitors, on a running server, and no message is dropped."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from assistant.content.catalogue import load_catalogue
from assistant.settings import Settings
from assistant.staff.publishing import Publisher, PublishError, served_model
from assistant.storage.database import engine_for, published_models, transaction
from tests.conftest import PROJECT, Chat, Server, start_server, stop_server
from tests.staff import Browser, office_of, signed_in, words

LONGEST = 600.0  # seconds for training on a busy machine


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A copy of the project, to be edited."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("data", "models", "actions"):
        shutil.copytree(PROJECT / name, folder / name)
    for path in PROJECT.glob("*.yml"):
        shutil.copy(path, folder)
    # A training here is from nothing unless Rasa's cache comes along.
    if (PROJECT / ".rasa").exists():
        shutil.copytree(PROJECT / ".rasa", folder / ".rasa")
    return folder


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


class Talk:
    """Visitors who write without a pause; every answer must be one."""

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


def published(editor: Browser) -> str:
    """Press the button, wait until it has ended, and return the words of the page."""
    assert editor.post("/publish").status_code == 303
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        said = words(editor.get("/publish/progress").text)
        if said and not said.startswith("Publishing"):
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


def test_an_unanswered_question_is_added_published_under_load_and_answered(
    edited: Server, editor: Browser, project: Path
) -> None:
    chat = edited.open()
    private = Chat(edited.http, edited.http.post("/webchat/session", json={"private": True}).json())
    private.say("what is sciatica")
    assert "office/parking_access" not in chat.topics(QUESTION)
    page = editor.get("/questions").text
    assert QUESTION in page
    served = edited.rows("SELECT COUNT(*) FROM published_models")[0][0]
    assert served == 0
    added = editor.post(
        "/questions", do="add", topic="office/parking_access", chosen=QUESTION, text=QUESTION
    )
    assert added.status_code == 303, words(added.text)
    assert QUESTION not in editor.get("/questions").text
    assert "There are changes that are not published" in editor.text("/publish")
    with Talk(edited) as talk:
        said = published(editor)
    assert said.startswith("The new version is live"), said
    assert talk.answers > 10
    assert "office/parking_access" in chat.topics(QUESTION)
    # The conversations went on: the old messages are still known to the new model.
    history = private.http.get("/webchat/messages", headers=private.headers).json()["messages"]
    assert [m["text"] for m in history if m.get("from") == "visitor"] == ["what is sciatica"]
    assert "Everything is published" in editor.text("/publish")
    (row,) = edited.rows("SELECT name, account FROM published_models")
    assert row.account == "eddie"
    assert (project / "models" / row.name).exists()


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
    assert said.startswith("Not published"), said
    assert "'hello' must be answered by goodbye, but got greet" in said
    assert {path.name for path in (project / "models").iterdir()} == models
    assert len(edited.rows("SELECT * FROM published_models")) <= 1
    assert edited.open().topics("hello") == ["greet"]


# Other processes, and failures while loading.


@pytest.fixture
def app(agent: Any) -> Any:
    """What the publisher knows of a server."""
    return SimpleNamespace(ctx=SimpleNamespace(agent=agent))


async def test_another_process_takes_over_what_was_published_and_nothing_damaged(
    app: Any, model: Path, tmp_path: Path
) -> None:
    for name in ("data", "models"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    other = tmp_path / "models" / "assistant-0123456789abcdef.tar.gz"
    shutil.copy(model, other)
    digest = model.with_name(f"{model.name}.sha256").read_text().split()[0]
    engine = engine_for(f"sqlite:///{tmp_path / 'shared.db'}")
    publisher = Publisher(engine, Settings(folder=tmp_path, answer_seconds=1))

    def publish(name: str, sha256: str) -> None:
        with transaction(engine) as connection:
            connection.execute(
                sa.insert(published_models).values(
                    at=time.time(), account="ann", name=name, sha256=sha256
                )
            )

    publish("assistant-of-before.tar.gz", "0" * 64)  # before this process started: not its business
    follows = asyncio.create_task(publisher.follow(app))
    old = app.ctx.agent
    try:
        while publisher._known != 1:
            await asyncio.sleep(0.05)
        publish(other.name, "f" * 64)  # not the bytes that were published
        while publisher._known != 2:
            await asyncio.sleep(0.05)
        assert app.ctx.agent is old
        publish(other.name, digest)
        async with asyncio_timeout(LONGEST):
            while app.ctx.agent is old:
                await asyncio.sleep(0.1)
    finally:
        follows.cancel()
    assert served_model(app) == other.name
    assert app.ctx.agent.tracker_store is old.tracker_store
    assert app.ctx.agent.lock_store is old.lock_store


def asyncio_timeout(seconds: float) -> Any:
    from async_timeout import timeout

    return timeout(seconds)


@pytest.mark.parametrize("error", [MemoryError, OSError("disk")])
async def test_a_load_that_fails_leaves_the_old_model(
    app: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'a.db'}")
    publisher = Publisher(engine, Settings(folder=PROJECT))
    old, domain = app.ctx.agent, app.ctx.agent.domain

    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("assistant.staff.publishing.load_agent", fails)
    with pytest.raises((MemoryError, OSError)):
        await publisher.swap(app, model)
    assert app.ctx.agent is old
    assert old.tracker_store.domain is domain


def test_a_pinned_model_is_not_replaced(app: Any, tmp_path: Path) -> None:
    engine = engine_for(f"sqlite:///{tmp_path / 'a.db'}")
    publisher = Publisher(engine, Settings(folder=PROJECT, model_sha256="0" * 64))
    with pytest.raises(PublishError, match="MODEL_SHA256 pins"):
        publisher.start(app, "ann")
