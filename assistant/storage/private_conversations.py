"""Conversations of visitors who did not agree that anything is stored: in memory, for a while."""

from __future__ import annotations

from typing import Any

from cachetools import TTLCache
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event
from rasa.shared.core.trackers import DialogueStateTracker

from assistant.storage.open_tracker import OpenTracker
from assistant.storage.session_window import tracker_of, window_of
from assistant.storage.tracker_store import ConversationStore

PRIVATE = "private-"
"""How the names of private conversations begin."""

_SECONDS = 2 * 60 * 60  # after the last message
_MOST = 5_000  # conversations; the least recently used goes first
_MOST_EVENTS = 2_000  # of one conversation; the oldest go first


def is_private(conversation_id: str) -> bool:
    """Whether nothing of a conversation may reach the disk."""
    return conversation_id.startswith(PRIVATE)


class ConsentingStore(ConversationStore):
    """Rasa's tracker store here: what is private stays in memory, all else goes to the database.

    Private conversations live in this process. Where several serve, a visitor must come back to the
    same one, else the assistant has forgotten what was said before.
    """

    def __init__(self, domain: Domain | None = None, **kwargs: Any) -> None:
        super().__init__(domain, **kwargs)
        self._private: TTLCache[str, list[Event]] = TTLCache(_MOST, _SECONDS)

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Keep a conversation."""
        if not is_private(tracker.sender_id):
            await super().save(tracker)
            return
        known = self._private.get(tracker.sender_id, [])
        stored = tracker.stored if isinstance(tracker, OpenTracker) else len(known)
        fresh = list(tracker.events)[stored:]
        if isinstance(tracker, OpenTracker):
            tracker.stored += len(fresh)
        self._private[tracker.sender_id] = [*known, *fresh][-_MOST_EVENTS:]

    async def retrieve(self, sender_id: str) -> DialogueStateTracker | None:
        """Return the newest part of a conversation."""
        if not is_private(sender_id):
            return await super().retrieve(sender_id)
        known = self._private.get(sender_id)
        return tracker_of(sender_id, window_of(known), self.domain) if known else None

    async def retrieve_full_tracker(self, conversation_id: str) -> DialogueStateTracker | None:
        """Return all of a conversation."""
        if not is_private(conversation_id):
            return await super().retrieve_full_tracker(conversation_id)
        known = self._private.get(conversation_id)
        return tracker_of(conversation_id, known, self.domain) if known else None

    async def erase(self, conversation_id: str) -> int:
        """Delete all that is kept of a conversation; return how many events there were."""
        if not is_private(conversation_id):
            return await super().erase(conversation_id)
        return len(self._private.pop(conversation_id, []))
