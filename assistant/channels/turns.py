"""The turns under way in this process, so that a stop can wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import lru_cache


class Turns:
    """Counts the messages that are being answered, and says when no more are taken."""

    def __init__(self) -> None:
        self._count = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        """How many messages are being answered."""
        return self._count

    @property
    def are_over(self) -> bool:
        """Whether the process is stopping and takes no more messages."""
        return self._closed

    @contextmanager
    def one(self) -> Generator[None, None, None]:
        """Count one turn for as long as it lasts."""
        self._count += 1
        try:
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
