"""A RabbitMQ for the tests, and a way to break the connection to it without stopping it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

from tests.receivers import lasting_port

ABSENT = (
    "There is no RabbitMQ to test with: TEST_AMQP_URL is not set, none answers on 127.0.0.1:5672, "
    "and rabbitmq-server is not on PATH."
)

_HERE = "amqp://guest:guest@127.0.0.1:5672"
_START_SECONDS = 60.0


@contextmanager
def rabbitmq_server() -> Iterator[str | None]:
    """Provide the address of a broker; None if there is none and none can be started.

    It is `TEST_AMQP_URL`, or the one on this machine, or one that lives as long as this.
    """
    if os.environ.get("TEST_AMQP_URL"):
        yield os.environ["TEST_AMQP_URL"]
    elif _answers(_HERE):
        yield _HERE
    elif shutil.which("rabbitmq-server"):
        with _started() as address:
            yield address
    else:
        yield None


@contextmanager
def _started() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    folder.chmod(0o777)
    port, distribution_port, names_port = lasting_port(), lasting_port(), lasting_port()
    environment = {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"test-{uuid.uuid4().hex[:12]}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "ERL_EPMD_PORT": str(names_port),  # Erlang's name server: ours, so that we may end it
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    address = f"amqp://guest:guest@127.0.0.1:{port}"
    with (folder / "output").open("wb") as output:
        server = subprocess.Popen(
            ["rabbitmq-server"],  # noqa: S607
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(address):
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(
                    "rabbitmq-server did not start:\n"
                    + (folder / "output").read_text(errors="replace")
                )
            time.sleep(0.2)
        yield address
    finally:
        with suppress(ProcessLookupError, OSError, ValueError):
            os.kill(int((folder / "pid").read_text()), 15)
        server.terminate()
        server.wait(30)
        _end_name_server(environment)
        shutil.rmtree(folder, ignore_errors=True)


def _end_name_server(environment: dict[str, str]) -> None:
    """End the name server that came with the broker; it refuses while the broker is known to it."""
    deadline = time.monotonic() + 10.0
    while shutil.which("epmd") and time.monotonic() < deadline:
        result = subprocess.run(
            ["epmd", "-kill"],  # noqa: S607
            env=environment,
            capture_output=True,
            text=True,
        )
        if "living nodes" not in result.stdout + result.stderr:
            return
        time.sleep(0.1)


def _answers(address: str) -> bool:
    """Say whether a broker speaks at an address, which takes longer than that its port is open."""
    url = URL(address)
    try:
        with socket.create_connection((url.host or "", url.port or 5672), 1.0) as connection:
            connection.settimeout(5.0)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"  # the frame with which a broker greets
    except OSError:
        return False


@dataclass
class Consumer:
    """What an owner has at the other end: a queue, and who reads it."""

    connection: AbstractConnection
    channel: AbstractChannel
    exchange: str
    queue: str

    async def take(self, count: int, seconds: float = 20.0) -> list[AbstractIncomingMessage]:
        """Return the next messages; fail if fewer come in time."""
        return await self._take(lambda messages: len(messages) == count, seconds)

    async def take_different(
        self, count: int, seconds: float = 20.0
    ) -> list[AbstractIncomingMessage]:
        """Return the next messages up to so many different ones; fail if that takes too long."""
        return await self._take(
            lambda messages: len({message.message_id for message in messages}) == count, seconds
        )

    async def count(self) -> int:
        """Return how many messages wait in the queue; 0 too if there is none yet."""
        try:
            async with self.connection.channel() as channel:
                queue = await channel.declare_queue(self.queue, passive=True)
                return queue.declaration_result.message_count or 0
        except ChannelNotFoundEntity:
            return 0

    async def has_some(self) -> bool:
        """Say whether messages wait in the queue."""
        return await self.count() > 0

    async def _take(
        self, is_enough: Callable[[list[AbstractIncomingMessage]], bool], seconds: float
    ) -> list[AbstractIncomingMessage]:
        queue = await self.channel.get_queue(self.queue, ensure=False)
        messages: list[AbstractIncomingMessage] = []
        deadline = time.monotonic() + seconds
        while not is_enough(messages):
            if await self.count():
                while message := await queue.get(no_ack=True, fail=False):
                    messages.append(message)
                    if is_enough(messages):
                        break
            else:
                assert time.monotonic() < deadline, f"only {len(messages)} messages came"
                await asyncio.sleep(0.02)
        return messages


@asynccontextmanager
async def consumer(server: str) -> AsyncIterator[Consumer]:
    """Provide a consumer of an exchange and a queue that nobody else uses, deleted afterwards.

    Neither is made: that is the stream's task.
    """
    mark = uuid.uuid4().hex[:12]
    connection = await aio_pika.connect(server)
    async with connection:
        channel = await connection.channel()
        ours = Consumer(connection, channel, f"test-exchange-{mark}", f"test-queue-{mark}")
        try:
            yield ours
        finally:
            async with connection.channel() as last:
                await last.queue_delete(ours.queue)
                await last.exchange_delete(ours.exchange)


@dataclass
class Wire:
    """The wire to the broker: a TCP proxy that can be cut, or made to swallow the answers."""

    server: str
    context: ssl.SSLContext | None = None  # speaks TLS to who connects
    port: int = field(default_factory=lasting_port)
    answers_pass: bool = True
    bytes_left: int | None = None  # towards the broker, before the wire breaks
    connections: int = 0
    _listener: asyncio.AbstractServer | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def mend(self) -> None:
        """Let connections in, whole ones."""
        self.answers_pass, self.bytes_left = True, None
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._join, "127.0.0.1", self.port, ssl=self.context
            )

    async def cut(self) -> None:
        """Break all connections and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = URL(self.server)
        self.connections += 1
        there = await asyncio.open_connection(url.host, url.port or 5672)
        ends = {writer, there[1]}
        self._writers |= ends
        try:
            await asyncio.gather(self._ask(reader, there[1]), self._answer(there[0], writer))
        except (OSError, EOFError):
            pass
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.bytes_left is not None:
                data = data[: self.bytes_left]
                self.bytes_left -= len(data)
            writer.write(data)
            await writer.drain()
            if self.bytes_left == 0:
                raise EOFError
        raise EOFError

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.answers_pass:
                writer.write(data)
                await writer.drain()
        raise EOFError


@asynccontextmanager
async def wire(server: str, context: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Provide a whole wire to a broker."""
    ours = Wire(server, context)
    await ours.mend()
    try:
        yield ours
    finally:
        await ours.cut()
