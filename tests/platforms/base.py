"""What the stand-ins of all platforms share: a server in a thread, faults, and what was sent."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web

from tests.receivers import lasting_port

PUBLIC_URL = "https://chat.moonbeam.example"
"""Where the platforms reach the server, as they know it; Twilio signs it."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Written:
    """What a patient did.

    Attributes:
        sender: who.
        text: the words; "" for none.
        message_id: the platform's own id of it.
        media: whether it is a photo or the like; with a text, that is its caption.
        choice: the id of a button that was pressed; "" for none.
        order: the place among the sender's messages, where the platform tells one.
    """

    sender: str
    text: str = ""
    message_id: str = ""
    media: bool = False
    choice: str = ""
    order: int = 0


@dataclass(frozen=True)
class WebhookCall:
    """A call that the platform makes of us."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"


@dataclass(frozen=True)
class Sent:
    """A message that we sent, as its reader sees it.

    Attributes:
        recipient: as `Written.sender`.
        text: what is shown.
        choices: id and title of each button.
        at: when, in seconds of the monotonic clock.
        raw: the call as it came.
    """

    recipient: str
    text: str
    choices: tuple[tuple[str, str], ...] = ()
    image: str = ""
    at: float = field(default_factory=time.monotonic)
    raw: Any = None


@dataclass(frozen=True)
class Fault:
    """How a call of the platform's interface fails; nothing is taken then.

    Attributes:
        status, headers, body: what is answered.
        seconds: how long that takes; more than the caller waits stands for no answer at all.
    """

    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"message": "invented failure"}'
    seconds: float = 0.0


TOO_MANY = Fault(429, {"Retry-After": "1"})
BROKEN = Fault(500)
NOT_JSON = Fault(200, {"Content-Type": "text/html"}, b"<html>A proxy says hello.</html>")
SILENT = Fault(seconds=60.0)


class StandIn(ABC):
    """A platform on this machine.

    A platform's own class says how it signs and what it takes; see `tests/platforms/twilio.py`.
    """

    name: ClassVar[str]
    """As in `/webhooks/<name>`."""

    channel: ClassVar[str] = ""
    """The channel, where a platform serves several; else the platform's name."""

    signature_header: ClassVar[str]
    """Where the proof is."""

    signs_time: ClassVar[bool] = False
    """Whether an old request is refused for its age."""

    batches: ClassVar[bool] = False
    """Whether one call may bring several messages."""

    orders: ClassVar[bool] = False
    """Whether messages bring their time or number, so that they are sorted by it."""

    def __init__(self) -> None:
        self.port = lasting_port()
        self.sent: list[Sent] = []
        self.problems: list[str] = []
        """What broke the platform's limits or schema; the call was refused, as the platform would."""
        self.blocked: set[str] = set()
        self.calls_made = 0
        self.fault_for: Callable[[int, str], Fault | None] = lambda count, recipient: None
        """Asked at each message: its number since the start, and for whom it is."""
        self._faults: list[Fault] = []
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None

    @classmethod
    def make(cls) -> list[StandIn]:
        """Return a stand-in for each channel of the platform."""
        return [cls()]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The settings that turn the platform on."""

    @abstractmethod
    def calls(
        self, *written: Written, at: float | None = None, secret: str | None = None
    ) -> list[WebhookCall]:
        """Return how the platform tells us of messages: in one call if it batches, else one each.

        Args:
            written: the messages.
            at: when it is signed, in seconds since 1970; now by default.
            secret: what it is signed with; the right one by default.
        """

    @abstractmethod
    def other_calls(self, sender: str) -> list[WebhookCall]:
        """Return signed calls that bring no message: echoes, receipts, edits, blocks, ..."""

    @abstractmethod
    def new_sender(self) -> str:
        """Return somebody who has not written before."""

    @abstractmethod
    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the interface that we call."""

    def is_acknowledged(self, status: int, body: bytes) -> bool:
        """Whether the platform is content with our answer to its call."""
        return status == 200

    # What a platform's own handlers use.

    async def refusal(self, recipient: str) -> web.Response | None:
        """Return the failure that this message meets, or None. Call it first.

        Compare it with None: a response of aiohttp without headers of its own is false.
        """
        with self._changed:
            self.calls_made += 1
            fault = self._faults.pop(0) if self._faults else None
            fault = fault or self.fault_for(self.calls_made, recipient)
        if fault is None:
            return None
        await asyncio.sleep(fault.seconds)
        return web.Response(status=fault.status, headers=fault.headers, body=fault.body)

    def take(self, sent: Sent) -> None:
        """Note a message that the platform took."""
        with self._changed:
            self.sent.append(sent)
            self._changed.notify_all()

    def object_to(self, problem: str) -> None:
        """Note that a message broke a limit or the schema."""
        self.problems.append(problem)

    # What tests use.

    def fail(self, *faults: Fault) -> None:
        """Fail the next messages in these ways, one after the other."""
        with self._changed:
            self._faults.extend(faults)

    def sent_to(self, recipient: str) -> list[Sent]:
        with self._changed:
            return [sent for sent in self.sent if sent.recipient == recipient]

    def start(self) -> None:
        ready = threading.Event()

        def serve() -> None:
            self._loop = asyncio.new_event_loop()
            self._loop.run_until_complete(self._open())
            ready.set()
            self._loop.run_forever()
            self._loop.close()

        threading.Thread(target=serve, daemon=True).start()
        assert ready.wait(10), f"the stand-in of {self.name} did not start"

    def stop(self) -> None:
        if self._loop is None or self._runner is None:
            return
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._runner = None

    async def _open(self) -> None:
        app = web.Application(client_max_size=1_000_000)
        self.add_routes(app.router)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()


def fresh_number() -> int:
    """Return a number that was not given before: for ids, senders, ..."""
    return next(_numbers)


def as_json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8")
