"""Locks that keep the messages of one visitor in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from rasa.core.lock_store import LOCK_LIFETIME, LockStore


class InProcessLockStore(LockStore):
    """A lock for each conversation, for one worker.

    Rasa's own store looks only once a second whether the message before is done, and drops a
    message that waited a minute. This one hands over at once and drops none.
    """

    def __init__(self, endpoint_config: Any = None) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def lock(
        self,
        conversation_id: str,
        lock_lifetime: float = LOCK_LIFETIME,
        wait_time_in_seconds: float = 1,
    ) -> AsyncGenerator[asyncio.Lock, None]:
        """Hold the conversation's lock; those who wait get it in the order in which they came.

        Args:
            conversation_id: whose lock.
            lock_lifetime: not needed: a lock ends with its holder, as both live in this process.
            wait_time_in_seconds: not needed: nobody polls.
        """
        lock, users = self._locks.get(conversation_id) or (asyncio.Lock(), 0)
        self._locks[conversation_id] = (lock, users + 1)
        try:
            async with lock:
                yield lock
        finally:
            lock, users = self._locks[conversation_id]
            if users == 1:
                del self._locks[conversation_id]
            else:
                self._locks[conversation_id] = (lock, users - 1)
