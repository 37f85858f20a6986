"""Conversations in SQL: Rasa's store without the habits that lose or stop things."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rasa.core.brokers.broker import EventBroker
from rasa.core.tracker_store import SQLTrackerStore
from rasa.shared.core.domain import Domain
from rasa.shared.core.trackers import DialogueStateTracker
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

from assistant.settings import load_settings
from assistant.storage.database import engine_for, transaction
from assistant.storage.kept_events import kept_events
from assistant.storage.transcripts import erase_transcript


class ConversationStore(SQLTrackerStore):
    """Rasa's SQL tracker store with four changes.

    * Its `session_scope` ends the whole process on any `ValueError`, such as one damaged row; ours
      rolls back and lets the error go to whoever asked.
    * It opens a connection for every call; ours shares the engine of the other tables.
    * It cannot forget; ours erases a conversation.
    * It keeps every word; ours keeps no personal data, and sends none to an event broker.
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
            event_broker: as in Rasa.
            kwargs: as in Rasa.
        """
        url = host or load_settings().database_url
        engine = engine_for(url)
        super().__init__(domain, host=url, event_broker=event_broker, **kwargs)
        self.engine.dispose()
        self.engine: Engine = engine
        self.sessionmaker = sessionmaker(bind=engine)

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

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Store the conversation's new events, without personal data."""
        kept = copy.copy(tracker)
        kept.events = deque(kept_events(tracker.events))
        await super().save(kept)

    async def erase(self, conversation_id: str) -> int:
        """Delete all that is stored of a conversation; return how many events there were."""
        with transaction(self.engine) as connection:
            return erase_transcript(connection, conversation_id)
