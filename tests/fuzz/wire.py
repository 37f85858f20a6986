"""HTTP as bytes: sends what no ordinary client would send, and reads what comes back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import h11

Header = tuple[str, str]

GIVE_UP_SECONDS = 20.0
"""After that there is no answer. Far more than is allowed, so that lateness can be measured."""

UNFINISHED_SECONDS = 0.2
"""How long an answer to half a request is waited for; there need not be one."""


@dataclass(frozen=True)
class Request:
    """One request, as it goes over the wire.

    Attributes:
        method, target: as they stand in the first line.
        headers: in order; may repeat. `Host` and `Content-Length` are added where they are missing.
        body: the body.
        raw: the whole request instead of all others, for what is no HTTP.
        unfinished: whether the server may rightly wait for more.
    """

    method: str = "GET"
    target: str = "/"
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    raw: bytes | None = None
    unfinished: bool = False

    @property
    def verb(self) -> str:
        """The method, also of what is sent raw."""
        if self.raw is None:
            return self.method
        return self.raw.partition(b" ")[0].decode("latin-1")

    def to_bytes(self, host: str) -> bytes:
        """Return what is sent."""
        if self.raw is not None:
            return self.raw.replace(b"{host}", host.encode())
        names = {name.lower() for name, _ in self.headers}
        headers = list(self.headers)
        if "host" not in names:
            headers.insert(0, ("Host", host))
        if not names & {"content-length", "transfer-encoding"} and (
            self.body or self.method in ("POST", "PUT", "PATCH")
        ):
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{n}: {v}" for n, v in headers)]
        return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: 0 if there was no answer.
        headers: names in lower case.
        body: the body.
        seconds: from the first byte sent to the last byte received.
        trouble: why there is no answer: `silent`, `closed`, `refused` or `unreadable: ...`; else "".
    """

    status: int = 0
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    seconds: float = 0.0
    trouble: str = ""

    def header(self, name: str) -> str:
        """Return the value of a header, "" if it is missing."""
        return next((value for known, value in self.headers if known == name), "")


@dataclass
class Connection:
    """A connection to the server that is kept open as long as the server keeps it."""

    host: str
    port: int
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None)

    async def ask(self, request: Request) -> Answer:
        """Send a request and return the answer; never raises for what the server does."""
        kept = self._streams is not None
        answer = await self._ask_once(request)
        if kept and answer.trouble == "closed":
            # The server may close an idle connection in the very moment that it is used.
            answer = await self._ask_once(request)
        return answer

    async def _ask_once(self, request: Request) -> Answer:
        seconds = UNFINISHED_SECONDS if request.unfinished else GIVE_UP_SECONDS
        started = time.monotonic()
        try:
            return await asyncio.wait_for(self._exchange(request, started), seconds)
        except asyncio.TimeoutError:
            trouble = "silent"
        except h11.RemoteProtocolError as error:
            trouble = f"unreadable: {error}"
        except ConnectionRefusedError:
            trouble = "refused"
        except ConnectionError:
            trouble = "closed"
        self.close()
        return Answer(seconds=time.monotonic() - started, trouble=trouble)

    async def _exchange(self, request: Request, started: float) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        writer.write(request.to_bytes(f"{self.host}:{self.port}"))
        parser = _parser(request.verb)
        status, body = 0, bytearray()
        headers: list[Header] = []
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65_536)
                if not data and not status:
                    raise ConnectionResetError
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
            elif isinstance(event, h11.Data):
                body += event.data
            elif not isinstance(event, h11.InformationalResponse):
                break  # the end of the message
        closes = ("connection", "close") in [(name, value.lower()) for name, value in headers]
        if closes or request.raw is not None:
            self.close()
        return Answer(status, tuple(headers), bytes(body), time.monotonic() - started)

    def close(self) -> None:
        """Close it; the next request opens a new one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _parser(method: str) -> h11.Connection:
    """Return a parser that expects the answer to a request of that method."""
    parser = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=1_000_000)
    asked = "HEAD" if method == "HEAD" else "GET"
    parser.send(h11.Request(method=asked, target="/", headers=[("Host", "server")]))
    parser.send(h11.EndOfMessage())
    return parser
