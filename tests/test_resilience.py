"""Never silent: what goes wrong inside still gets the visitor one honest sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from assistant.channels.conversation import TROUBLE, converse
from assistant.channels.rate_limit import RateLimit
from assistant.channels.sessions import InvalidSession, SessionSigner
from assistant.storage.database import engine_for
from assistant.storage.lock_store import InProcessLockStore
from assistant.storage.tracker_store import ConversationStore
from tests.conftest import Visitor


def test_a_crash_in_an_action_gets_an_apology(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*args: Any) -> None:
        raise RuntimeError("broken on purpose")

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


@pytest.fixture
def store(database_url: str) -> Iterator[ConversationStore]:
    from rasa.shared.core.domain import Domain

    store = ConversationStore(Domain.empty(), host=database_url)
    yield store
    store.engine.dispose()


def test_a_damaged_row_does_not_end_the_process(store: ConversationStore) -> None:
    """Rasa's own store calls sys.exit here."""
    from rasa.shared.core.events import UserUttered
    from rasa.shared.core.trackers import DialogueStateTracker

    tracker = DialogueStateTracker("someone", [])
    tracker.update(UserUttered("hello"))
    asyncio.run(store.save(tracker))
    with store.engine.begin() as connection:
        connection.execute(sa.text("update events set data = '{broken'"))
    with pytest.raises(ValueError):  # noqa: PT011 - any, but not SystemExit
        asyncio.run(store.retrieve("someone"))


def test_erasing_leaves_nothing_of_one_and_all_of_another(store: ConversationStore) -> None:
    from rasa.shared.core.events import UserUttered
    from rasa.shared.core.trackers import DialogueStateTracker

    for name in ("one", "another"):
        tracker = DialogueStateTracker(name, [])
        tracker.update(UserUttered("hello"))
        asyncio.run(store.save(tracker))
    assert asyncio.run(store.erase("one")) == 1
    assert asyncio.run(store.retrieve("one")) is None
    assert asyncio.run(store.retrieve("another")) is not None


def test_the_database_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "private.db"
    engine_for(f"sqlite:///{path}").dispose()
    assert path.stat().st_mode & 0o077 == 0


def test_messages_of_one_conversation_wait_for_each_other_without_polling() -> None:
    """Rasa's own lock looks once a second; three short turns would take over two seconds."""
    order: list[int] = []

    async def turn(store: InProcessLockStore, number: int) -> None:
        async with store.lock("someone"):
            order.append(number)
            await asyncio.sleep(0.02)
            order.append(number)

    async def all_turns() -> None:
        store = InProcessLockStore()
        await asyncio.gather(*(turn(store, number) for number in range(3)))
        assert store._locks == {}

    started = time.monotonic()
    asyncio.run(all_turns())
    assert order == [0, 0, 1, 1, 2, 2]
    assert time.monotonic() - started < 0.9


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
