"""Locks that keep the messages of one visitor in order, in one process or in several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from rasa.core.lock_store import LOCK_LIFETIME, LockStore

from assistant.settings import load_settings
from assistant.storage.redis_queue import RedisQueue


class ConversationLocks(LockStore):
    """A lock for each conversation: those who wait get it in the order in which they came.

    Rasa's own stores look only once a second whether the message before is done, and drop a message
    that waited a minute; its Redis store blocks the whole process and is not atomic. This one hands
    over at once and drops none. With `REDIS_URL` the order holds across processes, as long as Redis
    answers; without, and while it does not, within each process.
    """

    def __init__(self, endpoint_config: Any = None) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        url = load_settings().redis_url
        self._queue = RedisQueue(url) if url else None

    @property
    def degraded(self) -> bool:
        """Whether processes do not wait for each other although they should."""
        return self._queue is not None and not self._queue.is_up

    async def close(self) -> None:
        """Let go of Redis."""
        if self._queue is not None:
            await self._queue.close()

    @asynccontextmanager
    async def lock(
        self,
        conversation_id: str,
        lock_lifetime: float = LOCK_LIFETIME,
        wait_time_in_seconds: float = 1,
    ) -> AsyncGenerator[None, None]:
        """Hold the conversation's lock.

        Args:
            conversation_id: whose lock.
            lock_lifetime: not needed: a lock ends with its holder.
            wait_time_in_seconds: not needed: nobody waits longer than he must.
        """
        if self._queue is None:
            async with self._local(conversation_id):
                yield
            return
        async with self._queue.turn(conversation_id), self._local(conversation_id):
            yield

    @asynccontextmanager
    async def _local(self, conversation_id: str) -> AsyncGenerator[None, None]:
        lock, users = self._locks.get(conversation_id) or (asyncio.Lock(), 0)
        self._locks[conversation_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[conversation_id]
            if users == 1:
                del self._locks[conversation_id]
            else:
                self._locks[conversation_id] = (lock, users - 1)
