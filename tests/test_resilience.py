"""Never silent: what goes wrong inside still gets the visitor one honest sentence."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from assistant.channels.conversation import TROUBLE, converse
from assistant.channels.rate_limit import RateLimit
from assistant.channels.sessions import InvalidSession, SessionSigner
from assistant.storage.database import engine_for
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
