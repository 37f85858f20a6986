"""A queue for each conversation in Redis, so that several processes take turns with one visitor.

Who comes puts a ticket at the end of the conversation's list and has its turn when the ticket is the
first. Each ticket has a key that runs out soon and is renewed by its holder, so that the ticket of a
process that died is passed over. Each step is one script, which Redis runs without interruption.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import redis.asyncio
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_LIFE = 5.0  # seconds that a ticket is honored after its holder was last heard of
_LOOK_EVERY = 0.015  # seconds between looks whether it is our turn
_PATIENCE = 0.25  # seconds that Redis may take to answer
_TRY_EVERY = 2.0  # seconds between looks whether Redis is back

# KEYS[1]: the list. ARGV: the ticket, its life in milliseconds. Returns 1 if it is the ticket's turn.
# A ticket that is not in the list (it is new, or Redis was emptied) goes to the end.
_ASK = """
local function key(ticket) return KEYS[1] .. ':' .. ticket end
redis.call('SET', key(ARGV[1]), 1, 'PX', ARGV[2])
if not redis.call('LPOS', KEYS[1], ARGV[1]) then redis.call('RPUSH', KEYS[1], ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
while true do
  local first = redis.call('LINDEX', KEYS[1], 0)
  if first == ARGV[1] then return 1 end
  if redis.call('EXISTS', key(first)) == 1 then return 0 end
  redis.call('LPOP', KEYS[1])
end
"""

# Gives the turn on.
_LEAVE = """
redis.call('LREM', KEYS[1], 0, ARGV[1])
redis.call('DEL', KEYS[1] .. ':' .. ARGV[1])
"""


class RedisQueue:
    """Turns of conversations.

    When Redis does not answer, everybody has his turn at once, for as long as it is away; the log
    says so at the beginning and at the end.

    Args:
        url: address of the server, `redis://` or `rediss://`.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.asyncio.from_url(
            url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
        )
        self._ask = self._redis.register_script(_ASK)
        self._leave = self._redis.register_script(_LEAVE)
        self._looking: asyncio.Task[None] | None = None
        # Tickets are taken one after the other, so that they lie in the order of the messages.
        self._arriving = asyncio.Lock()

    @property
    def is_up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._looking is None

    async def close(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.close(close_connection_pool=True)

    @asynccontextmanager
    async def turn(self, conversation_id: str) -> AsyncGenerator[None, None]:
        """Wait for a turn, and hold it.

        Args:
            conversation_id: whose queue.
        """
        ticket = uuid.uuid4().hex
        keys = [f"assistant:turn:{{{conversation_id}}}"]
        try:
            async with self._arriving:
                ours = not self.is_up or await self._is_our_turn(keys, ticket)
            while not ours:
                await asyncio.sleep(_LOOK_EVERY)
                ours = not self.is_up or await self._is_our_turn(keys, ticket)
            renewing = asyncio.create_task(self._renew(keys, ticket))
            try:
                yield
            finally:
                renewing.cancel()
        finally:
            if self.is_up:
                # Also when we stopped waiting, so that nobody waits for us.
                await asyncio.shield(self._give_on(keys, ticket))

    async def _is_our_turn(self, keys: list[str], ticket: str) -> bool:
        try:
            return bool(await self._ask(keys=keys, args=[ticket, int(_LIFE * 1000)]))
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            self._went_down(error)
            return True

    async def _give_on(self, keys: list[str], ticket: str) -> None:
        try:
            await self._leave(keys=keys, args=[ticket])
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            self._went_down(error)

    async def _renew(self, keys: list[str], ticket: str) -> None:
        while True:
            await asyncio.sleep(_LIFE / 3)
            if self.is_up and not await self._is_our_turn(keys, ticket):
                logger.warning("Redis lost a turn that is still held; another may have begun.")

    def _went_down(self, error: Exception) -> None:
        if self._looking is None:
            logger.error(
                "Redis does not answer (%s). Until it does, the messages of one visitor are kept in "
                "order within each process only.",
                type(error).__name__,
            )
            self._looking = asyncio.create_task(self._look_for_it())

    async def _look_for_it(self) -> None:
        while True:
            await asyncio.sleep(_TRY_EVERY)
            try:
                await self._redis.ping()
            except (RedisError, OSError, asyncio.TimeoutError):
                continue
            logger.warning("Redis answers again.")
            self._looking = None
            return
