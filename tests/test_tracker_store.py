"""The tracker store: nothing stored is lost or doubled, and a long conversation stays quick."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import (
    ActionExecuted,
    ActionExecutionRejected,
    ActiveLoop,
    BotUttered,
    Event,
    LoopInterrupted,
    SessionStarted,
    SlotSet,
    UserUtteranceReverted,
    UserUttered,
)
from rasa.shared.core.trackers import DialogueStateTracker, EventVerbosity

from assistant.storage.database import StorageError, event_outbox, events
from assistant.storage.open_tracker import OpenTracker
from assistant.storage.private_conversations import ConsentingStore
from assistant.storage.session_window import TURNS
from assistant.storage.tracker_store import ConversationStore
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def domain() -> Domain:
    return Domain.load(str(PROJECT / "domain.yml"))


@pytest.fixture
def store(database_url: str, domain: Domain) -> Iterator[ConsentingStore]:
    store = ConsentingStore(domain, host=database_url)
    yield store
    store.engine.dispose()


def turn(number: int) -> list[Event]:
    """The events of one turn, as the processor makes them."""
    intent = {"name": "diet", "confidence": 0.9}
    return [
        UserUttered(f"question {number}", intent, parse_data={"intent": intent, "entities": []}),
        ActionExecuted("utter_diet"),
        BotUttered(f"answer {number}"),
        ActionExecuted("action_listen"),
    ]


async def talk(store: ConversationStore, name: str, *turns: list[Event]) -> None:
    """Take turns as the server does: read, add, save."""
    for events_of_turn in turns:
        tracker = await store.get_or_create_tracker(name, append_action_listen=False)
        if not tracker.events:
            tracker.update(ActionExecuted("action_session_start"))
            tracker.update(SessionStarted())
            tracker.update(ActionExecuted("action_listen"))
        for event in events_of_turn:
            tracker.update(event)
        await store.save(tracker)


def texts(tracker: DialogueStateTracker | None) -> list[str]:
    assert tracker is not None
    return [event.text for event in tracker.events if isinstance(event, UserUttered)]


def rows(store: ConversationStore, name: str) -> list[Any]:
    with store.engine.connect() as connection:
        return list(
            connection.execute(
                sa.select(events).where(events.c.sender_id == name).order_by(events.c.id)
            )
        )


async def test_what_is_saved_is_read_again_once_and_in_order(store: ConsentingStore) -> None:
    await talk(store, "someone", *(turn(number) for number in range(3)))
    tracker = await store.retrieve("someone")
    assert texts(tracker) == ["question 0", "question 1", "question 2"]
    assert [row.type_name for row in rows(store, "someone")].count("session_started") == 1
    assert len(rows(store, "someone")) == 3 + 3 * 4


async def test_nothing_is_stored_before_the_first_message(store: ConsentingStore) -> None:
    await store.get_or_create_tracker("someone")
    assert rows(store, "someone") == []


@pytest.mark.parametrize("name", ["web-someone", "private-someone"])
async def test_a_long_conversation_is_read_in_its_newest_part(
    store: ConsentingStore, name: str
) -> None:
    beginning = [SlotSet("contact_consent", "no"), SlotSet("contact_consent", "given")]
    form = [ActiveLoop("contact_form"), SlotSet("contact_paused", True), *beginning]
    await talk(store, name, [*turn(0), *form], *(turn(number) for number in range(1, 60)))

    newest = await store.retrieve(name)
    assert newest is not None
    assert texts(newest) == [f"question {number}" for number in range(60 - TURNS, 60)]
    assert newest.active_loop_name == "contact_form"
    assert newest.get_slot("contact_consent") == "given"
    assert newest.get_slot("contact_paused") is True
    assert len(newest.events) < (TURNS + 3) * 4

    everything = await store.retrieve_full_tracker(name)
    assert texts(everything) == [f"question {number}" for number in range(60)]


async def test_an_emptied_slot_and_an_ended_form_stay_so(store: ConsentingStore) -> None:
    ended = [SlotSet("contact_name", None), ActiveLoop(None)]
    begun = [SlotSet("contact_name", "given"), ActiveLoop("contact_form")]
    await talk(
        store, "someone", [*turn(0), *begun], [*turn(1), *ended], *(turn(n) for n in range(2, 40))
    )
    newest = await store.retrieve("someone")
    assert newest is not None
    assert newest.active_loop_name is None
    assert newest.get_slot("contact_name") is None


async def test_a_new_session_begins_without_the_last_one(store: ConsentingStore) -> None:
    await talk(store, "someone", turn(0), [SessionStarted(), *turn(1)])
    assert texts(await store.retrieve("someone")) == ["question 1"]


async def test_two_writers_lose_nothing_of_each_other(store: ConsentingStore) -> None:
    """Rasa's own store counts what is stored, and drops the turn of the second."""
    await talk(store, "someone", turn(0))
    first, second = await store.retrieve("someone"), await store.retrieve("someone")
    assert first
    assert second
    for tracker, number in ((first, 1), (second, 2)):
        for event in turn(number):
            tracker.update(event)
        await store.save(tracker)
    everything = await store.retrieve_full_tracker("someone")
    assert texts(everything) == ["question 0", "question 1", "question 2"]


@pytest.mark.parametrize("damage", ["{broken", "[]", '{"event": "nothing like it"}', ""])
async def test_a_damaged_row_costs_itself(store: ConsentingStore, damage: str) -> None:
    """Rasa's own store calls sys.exit here."""
    await talk(store, "someone", turn(0), turn(1))
    await talk(store, "another", turn(0))
    broken = rows(store, "someone")[3].id
    with store.engine.begin() as connection:
        connection.execute(sa.update(events).where(events.c.id == broken).values(data=damage))
    assert texts(await store.retrieve("someone")) == ["question 1"]
    assert texts(await store.retrieve("another")) == ["question 0"]
    await talk(store, "someone", turn(2))
    assert texts(await store.retrieve("someone")) == ["question 1", "question 2"]


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "", "x" * 256, "a b", "a'; drop table events"])
async def test_what_is_no_name_never_reaches_the_database(
    store: ConsentingStore, name: str
) -> None:
    with pytest.raises(StorageError):
        await store.retrieve(name)
    tracker = store.init_tracker(name)
    tracker.update(UserUttered("hello"))
    with pytest.raises(StorageError):
        await store.save(tracker)


async def test_a_save_whose_connection_broke_is_tried_again_and_stored_once(
    postgres_store: ConsentingStore,
) -> None:
    """Once before the end of the transaction, once after it: its answer got lost."""
    store = postgres_store
    broken: list[str] = []

    def break_once(moment: str) -> Any:
        def breaks(connection: Any, *rest: Any) -> None:
            if moment not in broken:
                broken.append(moment)
                if moment == "after":
                    connection.connection.commit()
                with sa.create_engine(store.engine.url).connect() as other:
                    pid = connection.connection.dbapi_connection.get_backend_pid()
                    assert other.execute(sa.text(f"SELECT pg_terminate_backend({pid})")).scalar()

        return breaks

    for moment, number in (("before", 0), ("after", 1)):
        listener = break_once(moment)
        sa.event.listen(store.engine, "commit", listener)
        await talk(store, "someone", turn(number))
        sa.event.remove(store.engine, "commit", listener)
    assert broken == ["before", "after"]
    assert texts(await store.retrieve("someone")) == ["question 0", "question 1"]


@pytest.fixture
def postgres_store(postgres: str, domain: Domain) -> Iterator[ConsentingStore]:
    from tests.postgres import postgres_database

    with postgres_database(postgres) as url:
        store = ConsentingStore(domain, host=url)
        yield store
        store.engine.dispose()


async def test_a_database_that_fails_is_not_an_empty_conversation(store: ConsentingStore) -> None:
    """Rasa answers as if the visitor were new, and then stores nothing."""
    await talk(store, "someone", turn(0))
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE events RENAME TO away"))
    with pytest.raises(StorageError):
        await store.retrieve("someone")
    with store.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO events"))
    assert texts(await store.retrieve("someone")) == ["question 0"]


async def test_the_event_loop_goes_on_while_the_database_is_slow(store: ConsentingStore) -> None:
    await talk(store, "someone", turn(0))
    at_work = asyncio.Event()
    loop = asyncio.get_running_loop()
    go_on = threading.Event()

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def hold(*_: Any) -> None:
        loop.call_soon_threadsafe(at_work.set)
        go_on.wait(10)

    reading = asyncio.create_task(store.retrieve("someone"))
    await asyncio.wait_for(at_work.wait(), 5)
    assert not reading.done()
    go_on.set()
    assert texts(await reading) == ["question 0"]


async def test_erasing_leaves_nothing_of_one_and_all_of_another(store: ConsentingStore) -> None:
    for name in ("one", "another", "private-one"):
        await talk(store, name, turn(0))
    for name in ("one", "private-one"):
        assert await store.erase(name) == 7
        assert await store.retrieve(name) is None
    assert texts(await store.retrieve("another")) == ["question 0"]


async def test_private_conversations_never_reach_the_database(store: ConsentingStore) -> None:
    await talk(store, "private-someone", turn(0), turn(1))
    assert texts(await store.retrieve("private-someone")) == ["question 0", "question 1"]
    assert rows(store, "private-someone") == []


async def test_what_is_to_be_streamed_is_noted_with_the_events(
    database_url: str, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1")
    store = ConsentingStore(domain, host=database_url)
    await talk(store, "someone", turn(0))
    await talk(store, "private-someone", turn(0))
    with store.engine.connect() as connection:
        noted = set(connection.execute(sa.select(event_outbox.c.event_id)).scalars())
    assert noted == {row.id for row in rows(store, "someone")}
    assert len(noted) == 7
    await store.erase("someone")
    with store.engine.connect() as connection:
        assert connection.execute(sa.select(event_outbox.c.event_id)).all() == []
    store.engine.dispose()


async def test_rasas_own_store_reads_what_ours_wrote(
    store: ConsentingStore, domain: Domain
) -> None:
    """So that Rasa's commands and tools work on our database."""
    from rasa.core.tracker_store import SQLTrackerStore

    await talk(store, "someone", turn(0), turn(1))
    theirs = SQLTrackerStore(domain, host=store.engine.url.render_as_string(hide_password=False))
    assert texts(await theirs.retrieve_full_tracker("someone")) == ["question 0", "question 1"]
    assert json.loads(rows(store, "someone")[3].data)["text"] == "question 0"
    theirs.engine.dispose()


def form_turn(number: int) -> list[Event]:
    """The events of a turn in a form, which Rasa takes back when the form runs again."""
    intent = {"name": "inform", "confidence": 0.9}
    return [
        UserUttered(f"answer {number}", intent, parse_data={"intent": intent, "entities": []}),
        ActionExecuted("contact_form", hide_rule_turn=number > 1),
        *([ActiveLoop("contact_form")] if number == 1 else []),
        SlotSet("contact_name", "given"),
        SlotSet("requested_slot", "contact_phone"),
        ActionExecuted("action_listen", hide_rule_turn=True),
    ]


def test_an_open_conversation_looks_to_policies_as_rasas_own(domain: Domain) -> None:
    session = [ActionExecuted("action_session_start"), SessionStarted()]
    said = [*session, ActionExecuted("action_listen"), *turn(1), *form_turn(1), *form_turn(2)]
    said += [ActionExecutionRejected("contact_form"), *turn(2)[1:3], *form_turn(3)]
    said += [ActiveLoop(None), UserUtteranceReverted(), *turn(3), *session, *turn(4), *turn(5)]
    only_rules = {"rule_only_slots": ["requested_slot"], "rule_only_loops": ["contact_form"]}
    ours = OpenTracker("a", domain.slots)
    compared = 0
    for event in said:
        ours.update(event, domain)
        rasas = DialogueStateTracker.from_events("a", list(ours.events), domain.slots)
        for hidden, rule_only in ((False, None), (True, only_rules), (True, None)):
            found = ours.past_states(domain, False, hidden, rule_only)
            assert found == rasas.past_states(domain, False, hidden, rule_only)
            compared += len(found)
            if found:  # policies take parts out of theirs
                found[-1].clear()
                found[0].get("user", {}).clear()
    assert compared > 500


def test_a_copy_of_an_open_conversation_is_one_of_its_own(domain: Domain) -> None:
    ours = OpenTracker("a", domain.slots)
    for event in [ActionExecuted("action_listen"), *turn(1), *form_turn(1)]:
        ours.update(event, domain)
    before, copied = ours.current_state(EventVerbosity.ALL), ours.copy()
    assert copied.current_state(EventVerbosity.ALL) == before
    for event in [*form_turn(2), ActiveLoop(None), LoopInterrupted(True), SlotSet("contact_name")]:
        copied.update(event, domain)
    assert ours.current_state(EventVerbosity.ALL) == before
    assert ours.past_states(domain) != copied.past_states(domain)
