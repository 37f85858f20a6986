"""Rasa's channel for all messaging platforms: their webhooks, and what answers them.

A webhook proves who calls, keeps what came, and says so. The answers are sent afterwards by the
worker. A platform without its secrets is off; one that is away keeps nobody from starting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cachetools import TTLCache
from rasa.core.channels.channel import InputChannel, UserMessage
from sanic import Blueprint
from sanic.request import Request
from sanic.response import HTTPResponse

from assistant.channels.conversation import as_messages
from assistant.channels.messaging.conversation_rules import ConversationRules
from assistant.channels.messaging.inbound import Arrival, MessageQueue
from assistant.channels.messaging.menus import MenuBook
from assistant.channels.messaging.platform import (
    ForgedRequestError,
    Incoming,
    Platform,
    PlatformError,
    UnreadableRequestError,
)
from assistant.channels.messaging.registry import platforms_of
from assistant.channels.messaging.rendering import render
from assistant.channels.messaging.senders import conversation_id
from assistant.channels.messaging.worker import ChannelWorker
from assistant.channels.webchat import ChatError, failure
from assistant.contact.cipher import Cipher
from assistant.metrics import process_metrics
from assistant.safety.advice import advice_for
from assistant.settings import Settings, load_settings
from assistant.storage.database import StorageError, engine_for, in_thread

logger = logging.getLogger(__name__)

_MOST_UNKEPT = 1_000  # messages that came while the database was away
_LONGEST_SCANNED = 16_384  # characters; no platform lets anybody type more
_ADVISED_SECONDS = 24 * 3600.0
_UNKEPT_PAUSE = 2.0  # seconds between the tries to keep them after all


class MessagingChannels(InputChannel):
    """The channel; `credentials.yml` names it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._platforms = platforms_of(settings)
        self._engine = engine_for(settings.database_url)
        cipher = Cipher(settings.contact_keys)
        self._menus = MenuBook(self._engine, cipher)
        self._queue = MessageQueue(self._engine, cipher, self._menus)
        self._worker: ChannelWorker | None = None
        self._unkept: deque[tuple[str, list[Arrival]]] = deque(maxlen=_MOST_UNKEPT)
        self._advised: TTLCache[tuple[str, str], bool] = TTLCache(10_000, _ADVISED_SECONDS)
        self._advising: set[asyncio.Task[None]] = set()

    @classmethod
    def name(cls) -> str:
        """Return the channel's name."""
        return "messaging"

    @classmethod
    def from_credentials(cls, credentials: dict[str, Any] | None) -> MessagingChannels:
        """Make the channel; its settings come from the environment."""
        return cls(load_settings())

    def url_prefix(self) -> str:
        """Return where the webhooks are."""
        return "/webhooks"

    def blueprint(self, on_new_message: Callable[[UserMessage], Awaitable[Any]]) -> Blueprint:
        """Define the webhooks, one address for each platform."""
        blueprint = Blueprint("messaging")

        @blueprint.exception(ChatError)
        async def refuse(request: Request, error: ChatError) -> HTTPResponse:
            process_metrics().refused(_channel_in(request), error.code)
            return error.response()

        @blueprint.exception(Exception)
        async def fail(request: Request, error: Exception) -> HTTPResponse:
            status = getattr(error, "status_code", 500)
            if status >= 500:
                logger.error("A webhook failed.", exc_info=error)
            refusal = failure(status)
            process_metrics().refused(_channel_in(request), refusal.code)
            return refusal.response()

        @blueprint.post("/<name:str>")
        async def take_in(request: Request, name: str) -> HTTPResponse:
            platform = self._platform(name)
            try:
                platform.verify(request)
                messages = platform.read(request)
                answer = platform.acknowledge(request)
            except ForgedRequestError as error:
                raise _forged(name, error) from None
            except UnreadableRequestError as error:
                logger.error("A webhook of %s could not be read: %s", name, error)
                raise failure(400) from None
            await self._keep(platform, messages)
            return answer

        @blueprint.get("/<name:str>")
        async def show(request: Request, name: str) -> HTTPResponse:
            try:
                answer = self._platform(name).answer_get(request)
            except ForgedRequestError as error:
                raise _forged(name, error) from None
            if answer is None:
                raise failure(405)
            return answer

        return blueprint

    async def run(self, agent: Any) -> None:
        """Answer what was taken in, until cancelled.

        Args:
            agent: Rasa's agent, loaded.
        """
        if not self._platforms:
            return
        rules = ConversationRules(agent, self._engine, self._menus, self._settings)
        messaging = self._settings.messaging
        self._worker = ChannelWorker(
            self._queue,
            self._platforms,
            rules,
            messaging.public_url,
            messaging.give_up_hours * 3600.0,
        )
        try:
            await asyncio.gather(self._worker.run(), self._keep_the_unkept())
        finally:
            for platform in self._platforms.values():
                await platform.close()

    async def end(self, seconds: float) -> None:
        """Begin no more answers, and wait for those under way.

        Args:
            seconds: how long to wait at most.
        """
        if self._worker is not None:
            await self._worker.end(seconds)
        if self._unkept:
            logger.error(
                "%d calls of platforms are lost unless they come again: the database was away.",
                len(self._unkept),
            )

    def _platform(self, name: str) -> Platform:
        """Return a platform.

        Raises:
            ChatError: 404 if it is off.
        """
        if name not in self._platforms:
            raise failure(404)
        return self._platforms[name]

    async def _keep(self, platform: Platform, messages: Sequence[Incoming]) -> None:
        """Keep what came.

        Raises:
            ChatError: 503 if the database is away. It is kept as soon as it can be, if this process
                lives that long; most platforms also send it again.
        """
        arrivals = [self._arrival(platform, message) for message in messages]
        if not arrivals:
            return
        try:
            await in_thread(self._queue.take_in, platform.name, arrivals)
        except StorageError as error:
            logger.error("Messages cannot be kept yet. %s", error)
            self._unkept.append((platform.name, arrivals))
            for arrival in arrivals:
                self._advise(platform, arrival)
            raise ChatError(
                503, "storage", "The messages cannot be kept now. Please send them again.", 5
            ) from None
        if self._worker is not None:
            self._worker.wake()

    def _arrival(self, platform: Platform, message: Incoming) -> Arrival:
        channel = platform.channel_of(message.sender)
        return Arrival(
            conversation_id(self._settings.secret, channel, message.sender),
            message,
            urgent=bool(message.text and advice_for(message.text[:_LONGEST_SCANNED])),
        )

    def _advise(self, platform: Platform, arrival: Arrival) -> None:
        """Send the advice on a red flag at once, though nothing can be kept; once a message."""
        incoming = arrival.incoming
        key = (platform.name, incoming.message_id)
        if not arrival.urgent or key in self._advised:
            return
        self._advised[key] = True
        task = asyncio.create_task(_send_advice(platform, incoming))
        self._advising.add(task)
        task.add_done_callback(self._advising.discard)

    async def _keep_the_unkept(self) -> None:
        while True:
            await asyncio.sleep(_UNKEPT_PAUSE)
            while self._unkept:
                name, arrivals = self._unkept[0]
                try:
                    await in_thread(self._queue.take_in, name, arrivals)
                except StorageError:
                    break
                self._unkept.popleft()
                if self._worker is not None:
                    self._worker.wake()


async def _send_advice(platform: Platform, incoming: Incoming) -> None:
    messages = as_messages(advice_for(incoming.text) or {})
    rendered = render(messages, platform.limits)
    try:
        for part in rendered.parts:
            await platform.send(incoming.sender, part)
    except PlatformError as error:
        logger.error("Advice on a red flag could not be sent: %s.", error)


def _forged(name: str, error: ForgedRequestError) -> ChatError:
    logger.warning("A call of the webhook of %s was refused: %s", name, error)
    return ChatError(error.status, "unsigned" if error.status == 401 else "forged", str(error))


def _channel_in(request: Request) -> str:
    return str(request.path).rpartition("/")[2]
