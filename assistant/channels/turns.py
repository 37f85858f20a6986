"""The turns under way in this process: not more than it can finish, and a stop waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import lru_cache

_AT_ONCE = 16  # they share one core; the more there are, the later each is done
_MOST = 150  # with those that wait: whoever comes later would wait for longer than a visitor does


class TooManyTurnsError(Exception):
    """So many messages are being answered that another one would wait for too long."""


class Turns:
    """Counts the messages that are being answered, and says when no more are taken.

    Args:
        at_once: how many are worked on at the same time; the others wait in their order.
        most: how many there may be in all.
    """

    def __init__(self, at_once: int = _AT_ONCE, most: int = _MOST) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._most = most
        self._count = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """How many messages are being answered, or wait for it."""
        return self._count

    @property
    def are_full(self) -> bool:
        """Whether one more would be refused. Asked before any work, a refusal costs next to nothing."""
        return self._count >= self._most

    @property
    def are_over(self) -> bool:
        """Whether the process is stopping and takes no more messages."""
        return self._closed

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        """Wait for a place, and hold it for one turn.

        Raises:
            TooManyTurnsError: there are too many already.
        """
        if self.are_full:
            raise TooManyTurnsError
        self._count += 1
        try:
            async with self._places:
                yield
        finally:
            self._count -= 1
            self._changed.set()

    async def end(self, seconds: float) -> int:
        """Take no more messages, and wait for those under way.

        Args:
            seconds: how long to wait at most.

        Returns:
            How many are still not answered.
        """
        self._closed = True

        async def until_none() -> None:
            while self._count:
                self._changed.clear()
                await self._changed.wait()

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(until_none(), seconds)
        return self._count


@lru_cache(maxsize=1)
def turns() -> Turns:
    """Return the turns of this process, over all its channels."""
    return Turns()
