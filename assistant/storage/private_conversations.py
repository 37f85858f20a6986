"""Conversations of visitors who did not agree that anything is stored: in memory, for a while."""

from __future__ import annotations

from typing import Any

from cachetools import TTLCache
from rasa.core.tracker_store import InMemoryTrackerStore
from rasa.shared.core.domain import Domain
from rasa.shared.core.trackers import DialogueStateTracker

from assistant.storage.tracker_store import ConversationStore

PRIVATE = "private-"
"""How the names of private conversations begin."""

_SECONDS = 2 * 60 * 60  # after the last message
_MOST = 5_000  # conversations; the least recently used goes first


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
        # No event broker: it would carry private words to another store.
        self._private = InMemoryTrackerStore(self.domain, event_broker=None)
        self._private.store = TTLCache(maxsize=_MOST, ttl=_SECONDS)

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Keep a conversation."""
        if is_private(tracker.sender_id):
            await self._private.save(tracker)
        else:
            await super().save(tracker)

    async def retrieve(self, sender_id: str) -> DialogueStateTracker | None:
        """Return the last session of a conversation."""
        if is_private(sender_id):
            return await self._in_memory().retrieve(sender_id)
        return await super().retrieve(sender_id)

    async def retrieve_full_tracker(self, conversation_id: str) -> DialogueStateTracker | None:
        """Return all of a conversation."""
        if is_private(conversation_id):
            return await self._in_memory().retrieve_full_tracker(conversation_id)
        return await super().retrieve_full_tracker(conversation_id)

    async def erase(self, conversation_id: str) -> int:
        """Delete all that is kept of a conversation; return how many events there were."""
        if not is_private(conversation_id):
            return await super().erase(conversation_id)
        tracker = await self._in_memory().retrieve_full_tracker(conversation_id)
        self._private.store.pop(conversation_id, None)
        return len(tracker.events) if tracker else 0

    def _in_memory(self) -> InMemoryTrackerStore:
        self._private.domain = self.domain  # Rasa sets it when the model is loaded
        return self._private
