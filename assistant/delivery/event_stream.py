"""The event stream: what happens in conversations goes to RabbitMQ, as Rasa's own broker would send it.

The store of the conversations notes each event in `event_outbox`, in the transaction that stores it.
The stream reads from there, so a broker that is slow or away holds up nobody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import aio_pika
import sqlalchemy as sa
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError, PublishError
from rasa.core.brokers.pika import DEFAULT_QUEUE_NAME, RABBITMQ_EXCHANGE
from sqlalchemy.engine import Engine
from yarl import URL

from assistant.settings import SettingError
from assistant.storage.database import (
    StorageError,
    connected,
    event_outbox,
    events,
    in_thread,
    transaction,
)

logger = logging.getLogger(__name__)

_BATCH = 100  # events
_LOCK = 5_005_002  # any number, the same in all our processes, and not that of the migrations
_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 3.0
_PARAMETERS = ("exchange", "queue", "cacertfile", "certfile", "keyfile")


class BrokerError(Exception):
    """RabbitMQ did not take what it was given; the message says why and holds no secret."""


@dataclass(frozen=True)
class _Waiting:
    """An event that was not sent yet; `message` is None if its row is damaged."""

    event_id: int
    timestamp: float
    conversation_id: str
    message: aio_pika.Message | None


class EventStream:
    """Sends events to RabbitMQ: each at least once, those of a conversation in their order.

    A message is taken out of `event_outbox` when the broker has confirmed that it keeps it. After a
    crash in between it is sent again under the same `message_id`.

    Args:
        engine: the database.
        url: `amqps://user:password@host:port/virtual-host`, or `amqp://` without encryption. Its
            query may name the `exchange`, each `queue` that is bound to it (an empty one: none; the
            consumers bind their own), and files in the PEM format: `cacertfile` (who signed the
            broker's certificate), `certfile` and `keyfile` (our own).
        rest_seconds: how long to wait when nothing is to be sent.
        answer_seconds: how long the broker may take to confirm up to 100 events.
        retry_seconds: the longest wait between two tries when the broker or the database is away.

    Raises:
        SettingError: the address cannot be used.
    """

    def __init__(
        self,
        engine: Engine,
        url: str,
        rest_seconds: float = 1.0,
        answer_seconds: float = 20.0,
        retry_seconds: float = 30.0,
    ) -> None:
        self._engine = engine
        self._broker = _Broker(url)
        self._rest_seconds = rest_seconds
        self._answer_seconds = answer_seconds
        self._retry_seconds = retry_seconds
        # As Rasa's broker marks its messages.
        self._environment = os.environ.get("RASA_ENVIRONMENT")

    def pending(self) -> int:
        """Return how many events wait to be sent. It asks the database, so call it in a thread.

        Raises:
            StorageError: the database failed.
        """
        with connected(self._engine) as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(event_outbox))
            return int(count.scalar())

    async def run(self) -> None:
        """Send what is noted, until cancelled."""
        failures = 0
        away_since = 0.0
        try:
            while True:
                began = time.monotonic()
                try:
                    more = await self._send_some()
                except Exception as error:
                    if not failures:
                        away_since = time.monotonic()
                        _report_outage(error)
                    if not isinstance(error, StorageError):
                        await self._broker.close()
                    failures += 1
                    longest = min(self._retry_seconds, 2.0 ** min(failures - 1, 10))
                    await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311
                    continue
                if failures:
                    away = time.monotonic() - away_since
                    logger.warning("The event stream goes on, after %.0f seconds.", away)
                    failures = 0
                # What piled up in an outage leaves half of the time to those who want a reply.
                took = time.monotonic() - began
                await asyncio.sleep(min(took, self._rest_seconds) if more else self._rest_seconds)
        finally:
            await self._broker.close()

    async def _send_some(self) -> bool:
        """Send the events that wait for longest; return whether more may be waiting.

        Raises:
            BrokerError: not all of them were confirmed.
            StorageError: the database failed.
        """
        exchange = await self._broker.exchange()
        if not await in_thread(self._is_any_waiting):
            return False
        async with self._turn() as is_ours:
            if not is_ours:
                return False
            batch = await in_thread(self._oldest)
            settled: set[tuple[int, float]] = set()
            try:
                await self._publish(exchange, batch, settled)
            finally:  # also when we are stopped: what arrived need not arrive again
                if settled:
                    await in_thread(self._forget, sorted(settled))
        return len(batch) == _BATCH

    async def _publish(
        self, exchange: AbstractExchange, batch: list[_Waiting], settled: set[tuple[int, float]]
    ) -> None:
        """Publish, noting in `settled` what is done; raise `BrokerError` if anything is not.

        Conversations go side by side. Within one, an event is sent when the one before it was
        confirmed: otherwise it could arrive before one that has to be sent again.
        """
        conversations: dict[str, list[_Waiting]] = {}
        for waiting in batch:
            conversations.setdefault(waiting.conversation_id, []).append(waiting)

        async def publish_in_order(ours: list[_Waiting]) -> None:
            for waiting in ours:
                if waiting.message is not None:
                    await exchange.publish(waiting.message, routing_key="")
                settled.add((waiting.event_id, waiting.timestamp))

        await _answers(self._answer_seconds, *map(publish_in_order, conversations.values()))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[bool]:
        """Keep the streams of other processes out; say whether it is ours to send.

        Order and completeness do not hang on it. Without it, each process would send everything.
        No row is locked meanwhile, so nobody who stores or erases waits for the broker.
        """
        if self._engine.dialect.name == "sqlite":  # where one process has the file
            yield True
            return
        held = ExitStack()
        taking = asyncio.ensure_future(asyncio.to_thread(_take_turn, self._engine, held))
        try:
            yield await asyncio.shield(taking)
        finally:
            # A thread cannot be cancelled, and two must not use one connection.
            await asyncio.wait([taking])
            await asyncio.to_thread(held.close)

    def _is_any_waiting(self) -> bool:
        with connected(self._engine) as connection:
            return connection.execute(sa.select(event_outbox).limit(1)).first() is not None

    def _oldest(self) -> list[_Waiting]:
        with connected(self._engine) as connection:
            rows = connection.execute(
                sa.select(events.c.id, events.c.sender_id, events.c.timestamp, events.c.data)
                .join(event_outbox, event_outbox.c.event_id == events.c.id)
                .order_by(events.c.id)
                .limit(_BATCH)
            ).all()
        return [
            _Waiting(row.id, row.timestamp or 0.0, row.sender_id, self._message(row))
            for row in rows
        ]

    def _message(self, row: Any) -> aio_pika.Message | None:
        """Return an event as Rasa's `PikaEventBroker` sends it, with an id."""
        try:
            event = json.loads(row.data)
            body = json.dumps({"sender_id": row.sender_id, **event})
        except (TypeError, ValueError):
            logger.error("Event %d is damaged in the database; it is not streamed.", row.id)
            return None
        # SQLite gives the number of an erased event to a later one; its time is another.
        microseconds = round((row.timestamp or 0.0) * 1_000_000)
        return aio_pika.Message(
            body.encode(),
            app_id=self._environment,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=f"{row.id}-{microseconds}",
        )

    def _forget(self, settled: list[tuple[int, float]]) -> None:
        # By their time, too: SQLite gives the number of an event that was erased meanwhile to a new
        # one, which is still to be sent.
        event = sa.tuple_(events.c.id, sa.func.coalesce(events.c.timestamp, 0.0))
        sent = sa.select(events.c.id).where(event.in_(settled))
        # Not durable: after a power cut they are sent again, which the consumers expect.
        with transaction(self._engine, durable=False) as connection:
            connection.execute(sa.delete(event_outbox).where(event_outbox.c.event_id.in_(sent)))


class _Broker:
    """The connection to RabbitMQ: made when it is needed, and again when it broke."""

    def __init__(self, url: str) -> None:
        self._address, parameters = _read_address(url)
        self._exchange_name = parameters.get("exchange", [RABBITMQ_EXCHANGE])[-1]
        self._queues = [name for name in parameters.get("queue", [DEFAULT_QUEUE_NAME]) if name]
        self._files = {name: parameters.get(name, [None])[-1] for name in _PARAMETERS[2:]}
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None
        self._security()  # a file that is missing is better said at the start

    async def exchange(self) -> AbstractExchange:
        """Return the exchange, ready to publish to.

        Raises:
            BrokerError: the broker cannot be reached, or refuses.
        """
        if self._exchange is not None and self._is_open():
            return self._exchange
        await self.close()
        exchange: AbstractExchange
        [exchange] = await _answers(_CONNECT_SECONDS, self._connect())
        self._exchange = exchange
        logger.info(
            "Events go to the exchange '%s' of RabbitMQ at %s.",
            self._exchange_name,
            self._address.host,
        )
        return exchange

    async def close(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self._connection, self._exchange = self._connection, None, None
        self._channel = None
        if connection is not None:
            try:
                await _answers(_CLOSE_SECONDS, connection.close())
            except BrokerError as error:
                logger.debug("The connection to RabbitMQ did not close in order: %s.", error)

    def _is_open(self) -> bool:
        return (
            self._connection is not None
            and self._connection.connected.is_set()
            and self._channel is not None
            and not self._channel.is_closed
        )

    async def _connect(self) -> AbstractExchange:
        context = await asyncio.to_thread(self._security)
        self._connection = connection = await aio_pika.connect(self._address, ssl_context=context)
        await self._make_missing(connection)
        self._channel = channel = await connection.channel(on_return_raises=True)
        for name in self._queues:
            queue = await channel.get_queue(name, ensure=False)
            await queue.bind(self._exchange_name, routing_key="")
        return await channel.get_exchange(self._exchange_name, ensure=False)

    async def _make_missing(self, connection: AbstractConnection) -> None:
        """Make the exchange and the queues, unless they are there.

        What is there is used as it is: Rasa's own broker declares its exchange as one that does not
        survive a restart, and RabbitMQ closes the channel on a declaration that differs.
        """
        try:
            async with connection.channel() as channel:
                await channel.get_exchange(self._exchange_name)
        except ChannelNotFoundEntity:
            async with connection.channel() as channel:
                await channel.declare_exchange(
                    self._exchange_name, aio_pika.ExchangeType.FANOUT, durable=True
                )
        for name in self._queues:
            try:
                async with connection.channel() as channel:
                    await channel.get_queue(name)
            except ChannelNotFoundEntity:
                async with connection.channel() as channel:
                    await channel.declare_queue(name, durable=True)

    def _security(self) -> ssl.SSLContext | None:
        if self._address.scheme != "amqps":
            return None
        try:
            context = ssl.create_default_context(cafile=self._files["cacertfile"])
            certificate = self._files["certfile"]
            if certificate is not None:
                context.load_cert_chain(certificate, self._files["keyfile"])
        except (OSError, ValueError) as error:  # OSError includes SSLError
            raise SettingError(
                f"A certificate file that AMQP_URL names cannot be used: {error}. cacertfile, "
                f"certfile and keyfile are paths of files in the PEM format."
            ) from None
        return context


def _read_address(url: str) -> tuple[URL, dict[str, list[str]]]:
    """Return the broker's address and what the query says.

    Raises:
        SettingError: it is no such address. The message does not show it: it holds a password.
    """
    form = "AMQP_URL must be amqps://user:password@host:port/virtual-host (or amqp://)"
    try:
        address = URL(url)
        parameters = parse_qs(address.raw_query_string, keep_blank_values=True)
    except ValueError:
        raise SettingError(f"{form}; what it is set to cannot be read.") from None
    if address.scheme not in ("amqp", "amqps") or not address.host:
        raise SettingError(f"{form}.")
    unknown = sorted(set(parameters) - set(_PARAMETERS))
    if unknown:
        raise SettingError(
            f"The query of AMQP_URL holds {', '.join(unknown)}; it may hold "
            f"{', '.join(_PARAMETERS)}."
        )
    if parameters.get("exchange", ["-"])[-1] == "":
        raise SettingError("The exchange in the query of AMQP_URL is empty; name one.")
    if address.scheme == "amqp" and set(parameters) & set(_PARAMETERS[2:]):
        raise SettingError("AMQP_URL names certificates, so it must begin with amqps://.")
    # What RabbitMQ's own pages show as the connection's name.
    return address.with_query(name="assistant"), parameters


def _take_turn(engine: Engine, held: ExitStack) -> bool:
    """Take the lock if it is free; `held` keeps it. It ends with its transaction, so with us."""
    connection = held.enter_context(transaction(engine))
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar())


async def _answers(seconds: float, *questions: Awaitable[Any]) -> list[Any]:
    """Return what the broker answers to each.

    The library ends what is under way on a broken connection in many ways, one of which looks as if
    we were cancelled. Here all become one.

    Raises:
        BrokerError: one failed, the others were still seen to their end; or they took too long.
        SettingError: a certificate file went away since the start.
    """
    asked = asyncio.gather(*questions, return_exceptions=True)
    try:
        # Not wait_for: on Python 3.10 it may lose our own cancellation.
        await asyncio.wait([asked], timeout=seconds)
        if not asked.done():
            raise BrokerError(f"no answer within {seconds:g} seconds")
    finally:
        if not asked.done():
            asked.cancel()
            await asyncio.wait([asked], timeout=_CLOSE_SECONDS)
    answers: list[Any] = asked.result()
    for answer in answers:
        if isinstance(answer, SettingError):
            raise answer
        if isinstance(answer, BaseException):
            raise BrokerError(_words(answer)) from None
    return answers


def _words(error: BaseException) -> str:
    """Say what went wrong, without what the message was."""
    if isinstance(error, PublishError):
        return "no queue is bound to the exchange"
    if isinstance(error, DeliveryError):
        return "it refused an event, as when a queue is full"
    if isinstance(error, (AMQPError, OSError)):
        return f"{type(error).__name__} {error}"
    return type(error).__name__


def _report_outage(error: Exception) -> None:
    if isinstance(error, (BrokerError, StorageError, SettingError)):
        who = "RabbitMQ" if isinstance(error, BrokerError) else "The stream"
        logger.warning(
            "The event stream rests; events wait in the database, and it is tried again. %s: %s.",
            who,
            str(error).rstrip("."),
        )
    else:  # ours to mend
        logger.exception(
            "The event stream failed in a way that nobody foresaw; events wait in the database, and "
            "it is tried again."
        )
