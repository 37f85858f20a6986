"""Answers what waits in the queue, for as long as the server runs.

Many senders at once, each one's messages in their order. Whatever fails is tried again: the same
answer, from the part that was not sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from assistant.channels.messaging.conversation_rules import ConversationRules, NotAnsweredError
from assistant.channels.messaging.inbound import (
    LEASE_SECONDS,
    Claim,
    LeaseLostError,
    MessageQueue,
    UnreadableMessageError,
    Waiting,
)
from assistant.channels.messaging.platform import Outgoing, Platform, PlatformError
from assistant.channels.messaging.rendering import render
from assistant.channels.turns import TooManyTurnsError, turns
from assistant.metrics import process_metrics
from assistant.storage.database import StorageError, in_thread

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_SENDERS_AT_ONCE = 24
_TURNS_AT_ONCE = 4  # the web chat's visitors wait for theirs at a screen
_CALLS_AT_ONCE = 3  # of the database; the web chat needs room there, too
_REST_SECONDS = 1.0
_BEAT_SECONDS = LEASE_SECONDS / 4
_BUSY_SECONDS = 2.0  # until a message is tried again that the conversation could not answer


class ChannelWorker:
    """Answers messages.

    Args:
        queue: what waits.
        platforms: those that are on, by name.
        rules: answers a message.
        public_url: where the platforms reach us, for pictures.
        give_up_seconds: after that nobody waits for an answer any more.
    """

    def __init__(
        self,
        queue: MessageQueue,
        platforms: Mapping[str, Platform],
        rules: ConversationRules,
        public_url: str,
        give_up_seconds: float,
    ) -> None:
        self._queue = queue
        self._platforms = platforms
        self._rules = rules
        self._public_url = public_url
        self._give_up_seconds = give_up_seconds
        self._woken = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Claim] = {}
        self._turn_places = asyncio.Semaphore(_TURNS_AT_ONCE)
        self._call_places = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._ending = False

    def wake(self) -> None:
        """Look at the queue now: something has just come."""
        self._woken.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        beat = asyncio.create_task(self._keep_leases())
        try:
            while not self._ending:
                self._woken.clear()
                try:
                    found = await self._claim()
                except StorageError as error:
                    logger.error("Messages cannot be read; trying again. %s", error)
                    found = 0
                if not found or len(self._tasks) >= _SENDERS_AT_ONCE:
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), _REST_SECONDS)
        finally:
            beat.cancel()

    async def end(self, seconds: float) -> None:
        """Begin nothing more, and wait until what is being sent has been sent.

        Args:
            seconds: how long to wait at most.
        """
        self._ending = True
        self.wake()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()

    async def _stored(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Ask the database.

        Raises:
            StorageError: it failed.
        """
        async with self._call_places:
            return await in_thread(call, *arguments)

    async def _claim(self) -> int:
        free = _SENDERS_AT_ONCE - len(self._tasks)
        if free <= 0:
            return 0
        claims = await self._stored(self._queue.claim, free, list(self._platforms))
        for claim in claims:
            task = asyncio.create_task(self._serve(claim))
            self._tasks[task] = claim
            task.add_done_callback(self._finished)
        return len(claims)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._woken.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            tokens = [claim.token for claim in self._tasks.values()]
            if tokens:
                try:
                    await self._stored(self._queue.keep_alive, tokens)
                except StorageError as error:
                    logger.error("Leases could not be prolonged. %s", error)

    async def _serve(self, claim: Claim) -> None:
        """Answer all that a sender wrote, or as much as can be answered now."""
        try:
            while await self._serve_next(claim):
                pass
        except LeaseLostError:
            logger.warning("Another process answers a sender that this one had begun with.")
        except StorageError as error:
            logger.error("A message waits for the database. %s", error)
            with suppress(LeaseLostError, StorageError):  # else the lease runs out by itself
                await self._stored(self._queue.put_off, claim)

    async def _serve_next(self, claim: Claim) -> bool:
        """Answer the next message of a sender; return whether to go on."""
        if self._ending:
            await self._stored(self._queue.release, claim)
            return False
        try:
            waiting = await self._stored(self._queue.next, claim)
        except UnreadableMessageError:
            logger.error(
                "A message cannot be read, and is given up: put the key it was encrypted with back "
                "into CONTACT_KEYS, after the newest."
            )
            return True
        if waiting is None:
            return False
        platform = self._platforms[claim.platform]
        try:
            replies = waiting.replies
            if replies is None:
                replies = await self._make_replies(claim, waiting, platform)
            for place in range(waiting.sent, len(replies)):
                await platform.send(waiting.incoming.sender, replies[place])
                await self._note_sent(claim, waiting, place + 1, place + 1 == len(replies))
        except (NotAnsweredError, TooManyTurnsError):
            await self._stored(self._queue.put_off, claim, _BUSY_SECONDS)
            return False
        except PlatformError as error:
            return await self._failed(claim, waiting, error)
        except (LeaseLostError, StorageError):
            raise
        except Exception as error:
            logger.exception("A message failed in a way that nobody foresaw.")
            reason = PlatformError(f"{type(error).__name__} in this process")
            return await self._failed(claim, waiting, reason)
        return True

    async def _note_sent(self, claim: Claim, waiting: Waiting, sent: int, done: bool) -> None:
        """Note that the platform has a reply; while the database is away nothing else is done.

        Raises:
            LeaseLostError: another process has the sender.
        """
        while True:
            try:
                await self._stored(self._queue.note_sent, claim, waiting, sent, done)
                return
            except StorageError as error:
                logger.error("An answer was sent, which cannot be noted yet. %s", error)
                await asyncio.sleep(_REST_SECONDS)

    async def _make_replies(
        self, claim: Claim, waiting: Waiting, platform: Platform
    ) -> tuple[Outgoing, ...]:
        incoming = waiting.incoming
        if incoming.press and waiting.attempts == 1:
            try:
                await platform.acknowledge_press(incoming.press)
            except PlatformError as error:
                logger.warning("A press was not acknowledged: %s.", error)
        async with self._turn_places, turns().one():
            answer = await self._rules.answer(claim, waiting, platform.channel_of(incoming.sender))
        rendered = render(answer.messages, platform.limits, self._public_url)
        await self._stored(
            self._queue.keep_replies,
            claim,
            waiting,
            rendered.parts,
            rendered.menu,
            answer.changes,
        )
        return rendered.parts

    async def _failed(self, claim: Claim, waiting: Waiting, error: PlatformError) -> bool:
        """Decide on a message that the platform did not take; return whether to go on."""
        channel = self._platforms[claim.platform].channel_of(waiting.incoming.sender)
        if error.permanent:
            logger.warning("An answer on %s is refused for good: %s.", channel, error)
            await self._stored(self._queue.give_up, claim, waiting, "refused")
            process_metrics().undelivered(channel, "refused")
            return True
        if time.time() - waiting.received_at > self._give_up_seconds:
            logger.error(
                "An answer on %s is given up after %d attempts: %s. See `assistant channels check`.",
                channel,
                waiting.attempts,
                error,
            )
            await self._stored(self._queue.give_up, claim, waiting, "dead")
            process_metrics().undelivered(channel, "dead")
            return True
        wait = await self._stored(self._queue.put_off, claim, error.retry_after)
        logger.warning(
            "An answer on %s was not taken (attempt %d): %s. It is tried again in %.0f s.",
            channel,
            waiting.attempts,
            error,
            wait,
        )
        return False
