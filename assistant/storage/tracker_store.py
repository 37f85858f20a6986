"""Conversations in SQL: Rasa's store without the habits that lose or stop things."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from rasa.core.brokers.broker import EventBroker
from rasa.core.tracker_store import SQLTrackerStore, TrackerStore
from rasa.shared.core.constants import ACTION_LISTEN_NAME
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import (
    ActionExecuted,
    ActiveLoop,
    Event,
    SessionStarted,
    SlotSet,
    UserUttered,
)
from rasa.shared.core.trackers import DialogueStateTracker
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

from assistant.settings import load_settings
from assistant.storage.database import (
    StorageError,
    connected,
    engine_for,
    event_outbox,
    events,
    in_thread,
    transaction,
)
from assistant.storage.kept_events import kept_events
from assistant.storage.open_tracker import OpenTracker
from assistant.storage.session_window import TURNS, opening, tracker_of
from assistant.storage.transcripts import erase_transcript

logger = logging.getLogger(__name__)

# Rasa's `Event.from_parameters` looks through all classes for each of the events of each turn.
_event_class = lru_cache(maxsize=100)(Event.resolve_by_type)
_CONVERSATION_ID = re.compile(r"[A-Za-z0-9_.:@+-]{1,255}")


class ConversationStore(SQLTrackerStore):
    """Rasa's SQL tracker store, made to lose nothing and to stay quick.

    * Its `session_scope` ends the whole process on any `ValueError`, such as one damaged row; ours
      leaves the row out and says so in the log.
    * It works on the event loop and opens a connection for every call; ours works in threads, shares
      the engine of the other tables, and tries again when a connection broke.
    * It counts what is stored to know what is new, so a turn whose reading failed is lost without a
      word; ours adds what came since the reading.
    * It reads the whole session in each turn; ours the newest turns and what still counts of others.
    * It writes an empty conversation before the first message is understood; ours nothing.
    * It publishes to a broker before it has stored; ours notes in the same transaction what is to be
      published.
    * It cannot forget; ours erases a conversation.
    * It keeps every word; ours keeps no personal data.
    """

    def __init__(
        self,
        domain: Domain | None = None,
        host: str | None = None,
        event_broker: EventBroker | None = None,
        **kwargs: Any,
    ) -> None:
        """Connect.

        Args:
            domain: the assistant's domain; Rasa sets it when the model is loaded.
            host: database address (`url:` in `endpoints.yml`); `DATABASE_URL` otherwise.
            event_broker: as in Rasa; gets the stored events after they were stored.
            kwargs: as in Rasa.

        Raises:
            StorageError: the database cannot be reached.
        """
        settings = load_settings()
        # Past Rasa's constructor, which goes on without tables when the database is away.
        TrackerStore.__init__(self, domain, event_broker, **kwargs)
        self.engine: Engine = engine_for(host or settings.database_url)
        self.sessionmaker = sessionmaker(bind=self.engine)
        self._streams = bool(settings.event_stream_url)

    @contextmanager
    def session_scope(self) -> Generator[Session, None, None]:
        """Provide a session that is rolled back on every error, and never ends the process."""
        session = self.sessionmaker()
        try:
            yield session
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    async def create_tracker(
        self, sender_id: str, append_action_listen: bool = True
    ) -> DialogueStateTracker:
        """Return a new conversation; it is stored with its first message."""
        tracker = self.init_tracker(sender_id)
        if append_action_listen:
            tracker.update(ActionExecuted(ACTION_LISTEN_NAME))
        return tracker

    def init_tracker(self, sender_id: str) -> DialogueStateTracker:
        """Return an empty conversation."""
        return OpenTracker(sender_id, self.domain.slots)

    async def retrieve(self, sender_id: str) -> DialogueStateTracker | None:
        """Return the newest part of a conversation; None if there is none.

        Raises:
            StorageError: the database failed. Rasa would take the conversation for a new one.
        """
        _check_id(sender_id)
        found = await in_thread(self._newest_events, sender_id)
        return tracker_of(sender_id, found, self.domain) if found else None

    async def retrieve_full_tracker(self, conversation_id: str) -> DialogueStateTracker | None:
        """Return all of a conversation; None if there is none.

        Raises:
            StorageError: the database failed.
        """
        _check_id(conversation_id)
        found = await in_thread(self._all_events, conversation_id)
        return tracker_of(conversation_id, found, self.domain) if found else None

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Store what is new in a conversation, without personal data.

        Raises:
            StorageError: it is not stored.
        """
        _check_id(tracker.sender_id)
        if isinstance(tracker, OpenTracker):
            stored = tracker.stored
        else:  # one that Rasa's own commands made
            stored = await in_thread(self._count_of_session, tracker.sender_id)
        fresh = kept_events(tracker.events, stored)
        if not fresh:
            return
        rows = [_row_of(tracker.sender_id, event) for event in fresh]
        attempts = iter(range(3))
        await in_thread(lambda: self._append(rows, again=next(attempts) > 0))
        if isinstance(tracker, OpenTracker):
            tracker.stored += len(fresh)
        if self.event_broker is not None:
            await self._stream_new_events(self.event_broker, fresh, tracker.sender_id)

    async def erase(self, conversation_id: str) -> int:
        """Delete all that is stored of a conversation; return how many events there were.

        Raises:
            StorageError: nothing was deleted.
        """

        def delete() -> int:
            with transaction(self.engine) as connection:
                return erase_transcript(connection, conversation_id)

        return await in_thread(delete)

    def _newest_events(self, conversation_id: str) -> list[Event]:
        with connected(self.engine) as connection:
            rows = connection.execute(_NEWEST_EVENTS, {_ID.key: conversation_id}).all()
            if not rows or rows[0].start >= rows[0].oldest:
                return _readable(rows)
            before = _state_before(connection, conversation_id, rows[0].start, rows[0].oldest)
        return [*opening(before), *_readable(rows)]

    def _all_events(self, conversation_id: str) -> list[Event]:
        query = (
            sa.select(events.c.id, events.c.data)
            .where(events.c.sender_id == conversation_id)
            .order_by(events.c.id)
        )
        with connected(self.engine) as connection:
            return _readable(connection.execute(query).all())

    def _count_of_session(self, conversation_id: str) -> int:
        query = (
            sa.select(sa.func.count())
            .where(events.c.sender_id == conversation_id)
            .where(events.c.id >= _last(SessionStarted.type_name, back=0))
        )
        with connected(self.engine) as connection:
            return int(connection.execute(query, {_ID.key: conversation_id}).scalar())

    def _append(self, rows: list[dict[str, Any]], again: bool) -> None:
        """Store rows.

        Args:
            rows: of one conversation.
            again: whether a try before may have got through before its connection broke.
        """
        with transaction(self.engine, durable=False) as connection:
            if again and _ends_with(connection, rows[-1]):
                return
            if not self._streams:
                connection.execute(_INSERT, rows)
                return
            for row in rows:
                (event_id,) = connection.execute(_INSERT, row).inserted_primary_key
                connection.execute(sa.insert(event_outbox).values(event_id=event_id))


def _check_id(conversation_id: str) -> None:
    """Refuse what is no conversation's name: half characters and the like break the database.

    Raises:
        StorageError: it is none.
    """
    if not _CONVERSATION_ID.fullmatch(conversation_id):
        raise StorageError("That is not the name of a conversation.")


_ID = sa.bindparam("conversation_id")


def _last(type_name: str, back: int) -> Any:
    """Return a query for the id of the last event of a type, or of one further back; 0 for none."""
    found = (
        sa.select(events.c.id)
        .where(events.c.sender_id == _ID)
        .where(events.c.type_name == type_name)
        .order_by(events.c.id.desc())
        .limit(1)
        .offset(back)
        .scalar_subquery()
    )
    return sa.func.coalesce(found, 0)


def _newest_events() -> Any:
    start = _last(SessionStarted.type_name, back=0)
    oldest = _last(UserUttered.type_name, back=TURNS - 1)
    return (
        sa.select(events.c.id, events.c.data, start.label("start"), oldest.label("oldest"))
        .where(events.c.sender_id == _ID)
        .where(events.c.id >= start)
        .where(events.c.id >= oldest)
        .order_by(events.c.id)
    )


# Once: building it takes ten times as long as running it.
_NEWEST_EVENTS = _newest_events()
_INSERT = sa.insert(events)


def _state_before(
    connection: Connection, conversation_id: str, start: int, end: int
) -> list[Event]:
    """Return the last event of each slot, and of the form, from one event up to another."""
    # Rasa's store keeps a slot's name in the column of the action's.
    slot = sa.case((events.c.type_name == SlotSet.type_name, events.c.action_name), else_="")
    newest = (
        sa.select(sa.func.max(events.c.id))
        .where(events.c.sender_id == conversation_id)
        .where(events.c.type_name.in_([SlotSet.type_name, ActiveLoop.type_name]))
        .where(events.c.id >= start)
        .where(events.c.id < end)
        .group_by(events.c.type_name, slot)
    )
    query = sa.select(events.c.id, events.c.data).where(events.c.id.in_(newest))
    return _readable(connection.execute(query.order_by(events.c.id)).all())


def _readable(rows: Iterable[Any]) -> list[Event]:
    """Return the events of rows; a damaged row is left out, so that the conversation goes on."""
    found: list[Event] = []
    for row in rows:
        try:
            parameters = json.loads(row.data)
            found.append(_event_class(parameters["event"])._from_parameters(parameters))
        except Exception:  # Rasa raises whatever a wrong field leads to
            logger.error("Row %s of the table of events is damaged; it is left out.", row.id)
    return found


def _ends_with(connection: Connection, row: dict[str, Any]) -> bool:
    """Whether a conversation's last row is this one."""
    last = connection.execute(
        sa.select(events.c.data)
        .where(events.c.sender_id == row["sender_id"])
        .order_by(events.c.id.desc())
        .limit(1)
    ).scalar()
    return bool(last == row["data"])


def _row_of(conversation_id: str, event: Event) -> dict[str, Any]:
    """Return an event as Rasa's store keeps it."""
    data = event.as_dict()
    return {
        "sender_id": conversation_id,
        "type_name": event.type_name,
        "timestamp": data.get("timestamp"),
        "intent_name": data.get("parse_data", {}).get("intent", {}).get("name"),
        "action_name": data.get("name"),
        "data": json.dumps(data),
    }
