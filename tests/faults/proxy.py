"""A TCP proxy that misbehaves: it stands between the server and a database, broker or mail server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tests.receivers import lasting_port

_CHUNK = 65_536


class FaultProxy:
    """Forwards connections, until told to fail in one of the ways that networks fail.

    Args:
        upstream: a TCP port of this machine, or the path of a Unix socket.
    """

    def __init__(self, upstream: int | Path) -> None:
        self.port = lasting_port()
        self.accepted = 0
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._moving = asyncio.Event()
        self._markers: list[bytes] = []
        self._reply_is_lost = False
        self.tripped = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._wait(self._open())
        self._loop.call_soon_threadsafe(self._moving.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def refuse(self) -> None:
        """Cut what is connected and refuse what wants to connect."""
        self._wait(self._close())

    def hang(self) -> None:
        """Accept, but let no byte pass in either direction."""
        self._call(self._moving.clear)

    def delay(self, seconds: float) -> None:
        """Hold back each chunk of each answer."""
        self._delay = seconds

    def reset(self) -> None:
        """Cut what is connected with a TCP reset; new connections are welcome."""
        self._call(self._reset_all)

    def cut_at(self, *markers: bytes, reply_is_lost: bool = False) -> None:
        """Reset everything once a client has sent these bytes, one after the other.

        `tripped` is set when it happened. A marker must arrive within one chunk.

        Args:
            markers: what to look for in what clients send.
            reply_is_lost: the last marker still reaches the other side; only its answer does not.
        """
        self.tripped.clear()
        self._reply_is_lost = reply_is_lost
        self._markers = list(markers)

    def restore(self) -> None:
        """Forward again."""
        self._delay = 0.0
        self._markers = []
        self._call(self._moving.set)
        if self._server is None:
            self._wait(self._open())

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._reset_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            if isinstance(self._upstream, Path):
                far = await asyncio.open_unix_connection(str(self._upstream))
            else:
                far = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, far[1]}
        await asyncio.gather(
            self._pump(reader, far[1], self._forward), self._pump(far[0], writer, self._answer)
        )
        self._writers -= {writer, far[1]}

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        treat: Callable[[bytes, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._moving.wait()
                await treat(chunk, writer)
        with contextlib.suppress(OSError):
            writer.close()

    async def _forward(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        if self._markers and self._markers[0] in chunk:
            self._markers.pop(0)
            if not self._markers:
                if self._reply_is_lost:
                    writer.write(chunk)
                    await writer.drain()
                    await asyncio.sleep(0.2)  # the other side must have read it before the reset
                self._reset_all()
                self.tripped.set()
                return
        writer.write(chunk)
        await writer.drain()

    async def _answer(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        if self._reply_is_lost and not self._markers and not self.tripped.is_set():
            return  # between the last marker and the reset
        if self._delay:
            await asyncio.sleep(self._delay)
        writer.write(chunk)
        await writer.drain()

    def _reset_all(self) -> None:
        for writer in self._writers:
            _reset(writer)
        self._writers = set()

    def _call(self, act: Callable[[], None]) -> None:
        async def run() -> None:
            act()

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(timeout=10)


def _reset(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    if end is not None and end.family == socket.AF_INET:
        with contextlib.suppress(OSError):  # closing then sends a reset instead of a farewell
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
