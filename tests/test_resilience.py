"""Never silent: what goes wrong inside still gets the visitor one honest sentence."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rasa.shared.core.events import UserUttered

from assistant.channels.conversation import TROUBLE, converse
from assistant.channels.rate_limit import RateLimit
from assistant.channels.sessions import InvalidSession, SessionSigner
from assistant.channels.turns import TooManyTurnsError, Turns
from assistant.storage.database import StorageError, engine_for, in_thread
from tests.conftest import Visitor


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_crash_in_an_action_gets_an_apology(
    error: type[BaseException], visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*args: Any) -> None:
        raise error("broken on purpose")

    actions = visitor._agent.processor.action_endpoint._executor.actions
    monkeypatch.setitem(actions, "action_repeat", crash)
    (message,) = visitor.say("can you repeat that please")
    assert message["text"] == TROUBLE
    assert visitor.topics("what is sciatica") == ["symptoms/what_is_sciatica"]
    # Rasa would go on as if the action had done nothing, and a form might be over without a word.
    tracker = visitor._loop.run_until_complete(
        visitor._agent.tracker_store.retrieve(visitor.conversation_id)
    )
    said = [event.text for event in tracker.events if isinstance(event, UserUttered)]
    assert said == ["what is sciatica"]


async def _never_answers(message: Any) -> None:
    await asyncio.sleep(60)


async def _says_nothing(message: Any) -> None:
    return None


async def _raises(message: Any) -> None:
    raise ValueError("broken on purpose")


@pytest.mark.parametrize("handler", [_never_answers, _says_nothing, _raises])
def test_silence_slowness_and_errors_get_an_apology(handler: Any) -> None:
    started = time.monotonic()
    messages = asyncio.run(converse(handler, "someone", "hello", seconds=0.2))
    assert [message["text"] for message in messages] == [TROUBLE]
    assert time.monotonic() - started < 5


async def _answers_and_stores_slowly(message: Any) -> None:
    await message.output_channel.send_response("someone", {"text": "An answer."})
    await asyncio.sleep(0.5)


async def _answers_and_never_ends(message: Any) -> None:
    await message.output_channel.send_response("someone", {"text": "An answer."})
    await asyncio.sleep(60)


def test_an_answer_that_is_being_stored_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up at once, it would be shown and not be there in the next turn."""
    (message,) = asyncio.run(converse(_answers_and_stores_slowly, "someone", "hello", seconds=0.1))
    assert message["text"] == "An answer."
    monkeypatch.setattr("assistant.channels.conversation._STORING_SECONDS", 0.1)
    (message,) = asyncio.run(converse(_answers_and_never_ends, "someone", "hello", seconds=0.1))
    assert message["text"] == TROUBLE


async def test_no_more_turns_are_taken_than_can_be_finished() -> None:
    turns = Turns(at_once=1, most=2)
    order: list[str] = []

    async def one(name: str) -> None:
        async with turns.one():
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    tasks = [asyncio.create_task(one(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    assert turns.count == 2
    assert turns.are_full
    with pytest.raises(TooManyTurnsError):
        await one("third")
    await asyncio.gather(*tasks)
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    assert await turns.end(1) == 0


async def test_a_database_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.storage.database._PATIENCE", 0.1)
    go_on = threading.Event()
    with pytest.raises(StorageError, match="did not answer"):
        await in_thread(go_on.wait, 30)
    go_on.set()


def test_a_question_without_an_answer_is_admitted(visitor: Visitor) -> None:
    messages = visitor.say("how do i change the oil of my lawn mower")
    assert messages[-1]["metadata"]["topic"] == "out_of_scope"
    assert messages[-1]["buttons"]


def test_the_database_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "private.db"
    engine_for(f"sqlite:///{path}").dispose()
    assert path.stat().st_mode & 0o077 == 0


def test_the_rate_limit_allows_a_burst_then_a_rate() -> None:
    now = 0.0
    limit = RateLimit(rate=2.0, burst=3, clock=lambda: now)
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 1]
    assert limit.wait("b") == 0
    now = 0.5
    assert limit.wait("a") == 0
    assert limit.wait("a") == 1


def test_a_session_of_another_secret_or_of_yesterday_is_refused() -> None:
    import datetime as dt

    signer = SessionSigner("s" * 32, dt.timedelta(hours=1))
    token, session = signer.mint()
    assert signer.verify(token) == session
    with pytest.raises(InvalidSession):
        SessionSigner("t" * 32, dt.timedelta(hours=1)).verify(token)
    old, _ = SessionSigner("s" * 32, dt.timedelta(hours=-1)).mint()
    with pytest.raises(InvalidSession):
        signer.verify(old)


def test_a_session_outlives_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime as dt

    signer = SessionSigner("s" * 32, dt.timedelta(hours=1))
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)

    class Tomorrow(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return later

    with monkeypatch.context() as patch:
        patch.setattr("assistant.channels.sessions.dt.datetime", Tomorrow)
        token, session = signer.mint()
    assert signer.verify(token).conversation_id == session.conversation_id
