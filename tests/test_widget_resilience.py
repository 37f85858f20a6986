"""The widget when things go wrong: the conversation stays whole, and the words honest."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect

from tests.browser import ChatPage, answer_with, chromium, new_page
from tests.conftest import Server, free_port, start_server

ERROR = {"error": {"code": "too_fast", "message": "Too many messages."}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def demo(context: BrowserContext, server: Server) -> ChatPage:
    return new_page(context, f"{server.url}/webchat/").visit().open(save=True)


def check_once(chat: ChatPage, *questions: str) -> None:
    """The questions stand there in order, each once and each answered, here and on the server."""
    expect(chat.find(".visitor")).to_have_count(len(questions))
    expect(chat.find(".waiting")).to_have_count(0)
    assert chat.said("visitor") == list(questions)
    kinds = chat.find(".bubble").evaluate_all(
        "all => all.map((one) => one.classList.contains('visitor'))"
    )
    for place, is_visitor in enumerate(kinds):
        if is_visitor:
            assert kinds[place + 1 : place + 2] == [False], "a question has no answer"
    kept = chat.kept()
    assert kept
    assert kept["unsent"] == []
    stored = chat.page.evaluate(
        """async ([server, token]) => (await (await fetch(`${server}/messages`,
            {headers: {Authorization: `Bearer ${token}`}})).json()).messages
            .filter((one) => one.from).map((one) => one.text)""",
        [chat.url.rstrip("/"), kept["token"]],
    )
    assert stored == list(questions)


def test_a_reload_shows_the_whole_conversation_from_the_server(demo: ChatPage) -> None:
    demo.ask("what is sciatica?")
    demo.ask("should I stop eating gluten?")
    before = demo.said()
    demo.page.reload()
    expect(demo.find(".visitor")).to_have_count(2)
    assert demo.said() == before
    expect(demo.panel).to_be_visible()
    expect(demo.find(".choices .choice").first).to_be_visible()
    check_once(demo, "what is sciatica?", "should I stop eating gluten?")


def test_a_message_on_its_way_survives_a_reload(demo: ChatPage) -> None:
    # The server handles it, but the browser never hears of it.
    def swallow(route: Route) -> None:
        route.fetch()
        route.abort()

    demo.page.route("**/messages", swallow, times=1)
    demo.send("what is sciatica?")
    expect(demo.notice).to_be_visible()
    demo.page.reload()
    expect(demo.find(".sources")).to_be_visible()
    check_once(demo, "what is sciatica?")


def test_an_answer_that_was_lost_is_fetched_and_the_message_handled_once(demo: ChatPage) -> None:
    def swallow(route: Route) -> None:
        route.fetch()
        route.abort()

    demo.page.route("**/messages", swallow, times=2)
    demo.send("what is sciatica?")
    expect(demo.find(".sources")).to_be_visible()
    check_once(demo, "what is sciatica?")


def test_two_tabs_stay_in_step(demo: ChatPage, context: BrowserContext) -> None:
    demo.ask("what is sciatica?")
    other = new_page(context, demo.url).visit()
    expect(other.find(".visitor")).to_have_count(1)
    other.ask("should I stop eating gluten?")
    expect(demo.find(".visitor")).to_have_count(2)
    demo.ask("does acupuncture hurt?")
    expect(other.find(".visitor")).to_have_count(3)
    assert demo.said() == other.said()
    check_once(demo, "what is sciatica?", "should I stop eating gluten?", "does acupuncture hurt?")
    demo.find("footer").get_by_text("Delete this chat").click()
    demo.find("footer").get_by_text("Delete", exact=True).click()
    expect(other.find(".visitor")).to_have_count(0)


def test_offline_is_said_and_mended(demo: ChatPage, context: BrowserContext) -> None:
    demo.ask("what is sciatica?")
    context.set_offline(True)
    demo.send("should I stop eating gluten?")
    expect(demo.notice).to_contain_text("cannot be reached")
    expect(demo.page.get_by_text("Monday to Thursday 9 to 6")).to_be_visible()
    demo.send("does acupuncture hurt?")
    kept = demo.kept()
    assert kept
    assert len(kept["unsent"]) == 2
    context.set_offline(False)
    expect(demo.notice).to_be_hidden()
    expect(demo.find("[role=status]")).to_have_text("The assistant can be reached again.")
    expect(demo.find(".sources")).to_have_count(3)
    check_once(demo, "what is sciatica?", "should I stop eating gluten?", "does acupuncture hurt?")


@pytest.mark.parametrize(
    ("status", "words"), [(429, "sent by itself"), (503, "not ready yet"), (500, "went wrong")]
)
def test_a_busy_server_is_waited_for(demo: ChatPage, status: int, words: str) -> None:
    sent: list[float] = []

    def refuse(route: Route) -> None:
        sent.append(time.monotonic())
        answer_with(status, ERROR, **{"Retry-After": "2"})(route)

    demo.page.route("**/messages", refuse, times=1)
    demo.page.on(
        "requestfinished",
        lambda request: (
            sent.append(time.monotonic()) if request.url.endswith("/messages") else None
        ),
    )
    demo.send("what is sciatica?")
    expect(demo.notice).to_contain_text(words)
    expect(demo.find(".sources")).to_be_visible()
    expect(demo.notice).to_be_hidden()
    assert sent[-1] - sent[0] >= 1.9, "it did not wait as long as the server asked"
    check_once(demo, "what is sciatica?")


def test_a_server_that_keeps_failing_gives_the_message_back(demo: ChatPage) -> None:
    demo.page.route("**/messages", answer_with(500, ERROR, **{"Retry-After": "0"}))
    demo.page.evaluate(
        "() => { const real = setTimeout; window.setTimeout = (act, wait) => real(act, wait / 20); }"
    )
    demo.send("what is sciatica?")
    expect(demo.notice).to_contain_text("back in the box")
    assert demo.input.input_value() == "what is sciatica?"
    expect(demo.find(".visitor")).to_have_count(0)
    demo.page.unroute("**/messages")
    demo.find(".send").click()
    expect(demo.find(".sources")).to_be_visible()
    check_once(demo, "what is sciatica?")


def test_a_message_that_the_server_refuses_comes_back_with_the_reason(demo: ChatPage) -> None:
    body = {"error": {"code": "text_too_long", "message": "Please shorten it."}}
    demo.page.route("**/messages", answer_with(413, body), times=1)
    demo.send("what is sciatica?")
    expect(demo.notice).to_contain_text("was not sent. Please shorten it.")
    assert demo.input.input_value() == "what is sciatica?"


def test_a_session_that_is_over_is_replaced_and_the_question_still_answered(
    demo: ChatPage, server: Server
) -> None:
    demo.ask("what is sciatica?")
    kept = demo.kept()
    assert kept
    headers = {"Authorization": f"Bearer {kept['token']}"}
    assert server.http.delete("/webchat/session", headers=headers).status_code == 204
    demo.find(".choices .choice").first.click()
    expect(demo.find(".visitor")).to_have_count(2)
    expect(demo.find(".sources")).to_have_count(2)
    assert (demo.kept() or {})["token"] != kept["token"]


def test_a_slow_reply_shows_that_it_is_coming(demo: ChatPage) -> None:
    demo.page.route("**/messages", lambda route: (demo.page.wait_for_timeout(1500), route.continue_()), times=1)  # fmt: skip
    demo.send("what is sciatica?")
    expect(demo.find(".waiting")).to_be_visible()
    expect(demo.find("[role=status]")).to_have_text("The assistant is answering.")
    expect(demo.find(".sources")).to_be_visible()
    expect(demo.find(".waiting")).to_have_count(0)
    check_once(demo, "what is sciatica?")


def test_without_a_server_the_first_click_still_leads_to_the_office(
    context: BrowserContext, server: Server
) -> None:
    chat = new_page(context, f"{server.url}/webchat/").visit()
    chat.page.route("**/panel.*.js", lambda route: route.abort())
    chat.launcher.click()
    box = chat.find(".box")
    expect(box).to_contain_text("cannot be reached")
    expect(chat.page.get_by_text("Monday to Thursday 9 to 6")).to_be_visible()


def test_without_script_the_office_is_there(browser: Browser, server: Server) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/webchat/")
    expect(page.locator("practice-chat")).to_contain_text("(818) 555-0100")
    expect(page.locator("practice-chat")).to_be_visible()
    context.close()


def test_a_server_that_is_killed_and_started_again_loses_and_doubles_nothing(
    context: BrowserContext, model: Path, tmp_path: Path
) -> None:
    port = free_port()
    secret = {"WEBCHAT_SECRET": "a secret for the tests that outlives a restart"}
    first = start_server(tmp_path, port, **secret)
    second: Any = None
    try:
        chat = new_page(context, f"{first.url}/webchat/").visit().open(save=True)
        chat.ask("what is sciatica?")

        def handled_then_killed(route: Route) -> None:
            route.fetch()
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            route.abort()

        chat.page.route("**/messages", handled_then_killed, times=1)
        chat.send("should I stop eating gluten?")
        expect(chat.page.get_by_text("Monday to Thursday 9 to 6")).to_be_visible()
        chat.send("does acupuncture hurt?")
        second = start_server(tmp_path, port, **secret)
        expect(chat.find(".sources")).to_have_count(3, timeout=40_000)
        expect(chat.notice).to_be_hidden()
        check_once(
            chat, "what is sciatica?", "should I stop eating gluten?", "does acupuncture hurt?"
        )
    finally:
        first.process.kill()
        if second:
            second.process.send_signal(signal.SIGINT)
            second.process.wait(timeout=20)
