"""What the stand-ins for the platforms share: a real HTTP server, a record, and faults on demand."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from hypothesis import strategies as st

from tests.receivers import lasting_port


@dataclass(frozen=True)
class Sent:
    """A message that the platform took from us for a patient.

    Attributes:
        recipient: whom it reached.
        text: what they read, or the words at an image.
        choices: id and title of each button.
        image: the address of an image; "" without.
        body: the call as it came.
    """

    recipient: str
    text: str
    choices: tuple[tuple[str, str], ...] = ()
    image: str = ""
    body: dict[str, Any] = field(default_factory=dict)


class Refusal(Exception):  # noqa: N818 - the platform's word, no error of ours
    """The platform refuses a call: the answer's status and JSON."""

    def __init__(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = headers or {}


def _changed(parent: Any, dice: random.Random, value: Any) -> Any:
    """Return a copy of JSON with one part, picked at random, taken away or replaced."""
    if not isinstance(parent, dict | list) or not parent or dice.random() < 0.1:
        return value
    copy = dict(parent) if isinstance(parent, dict) else list(parent)
    place = dice.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    if isinstance(copy, dict) and dice.random() < 0.1:
        del copy[place]
    else:
        copy[place] = _changed(copy[place], dice, value)
    return copy


changes = st.builds(
    lambda dice, value: lambda document: _changed(document, dice, value),
    st.randoms(use_true_random=False),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(2**63), 2**63, 1e308, 0, "", "\ud83d", "x" * 5000]),
        st.floats(),
        st.text(max_size=5),
        st.just([]),
        st.just({}),
    ),
)
"""Ways to make documented JSON into something that is not quite it."""


FAULTS = ("busy", "error", "silent", "hang up", "nonsense", "redirect")
"""429, 500, no answer, a closed connection, no JSON, and a redirect to somewhere else."""


class StandIn:
    """A platform on this machine, in a thread of its own.

    Attributes:
        sent: what it took, in order.
        complaints: our calls that the real platform would have refused as wrong. A test that did not
            mean to send such must find none.
        calls: how many calls came, refused ones and faults included.
        unreachable: recipients who blocked us.
        retry_after: seconds that it asks us to wait when busy.
        silence: seconds that "silent" keeps a call.
    """

    def __init__(self) -> None:
        self.port = lasting_port()
        self.sent: list[Sent] = []
        self.complaints: list[str] = []
        self.calls = 0
        self.unreachable: set[str] = set()
        self.retry_after = 1
        self.silence = 60.0
        self.arrived_elsewhere = 0
        self._faults: deque[str] = deque()
        self._always = ""
        self._share = 0.0
        self._dice = random.Random(9)
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base address, for the setting that names the platform's API."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to listen; again after `stop`, on the same port."""
        if self._loop is not None:
            return
        ready = threading.Event()

        def serve() -> None:
            loop = asyncio.new_event_loop()
            self._loop = loop
            loop.run_until_complete(self._listen())
            ready.set()
            loop.run_forever()
            loop.run_until_complete(self._close())
            loop.close()

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()
        assert ready.wait(10), "the stand-in did not start"

    def stop(self) -> None:
        """Be away: connections are refused."""
        if self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop = None

    def fail(self, *faults: str) -> None:
        """Meet the next calls with these faults, one each."""
        assert set(faults) <= set(FAULTS), faults
        self._faults.extend(faults)

    def always(self, fault: str) -> None:
        """Meet every call with a fault; "" to end that."""
        assert not fault or fault in FAULTS, fault
        self._always = fault

    def fail_one_in(self, calls: int) -> None:
        """Let one call in so many fail, in turn with 429, 500 and a closed connection."""
        self._share = 1 / calls if calls else 0.0

    def forget(self) -> None:
        """Start anew for the next test."""
        self.sent.clear()
        self.complaints.clear()
        self.unreachable.clear()
        self._faults.clear()
        self._always = ""
        self._share = 0.0
        self.calls = 0

    def to(self, recipient: str) -> list[Sent]:
        """Return what reached somebody, in order."""
        return [message for message in self.sent if message.recipient == recipient]

    def wait(self, found: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until something holds, looking after each call that comes.

        Raises:
            AssertionError: it does not hold in time.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not found():
                left = deadline - time.monotonic()
                assert left > 0, f"waited in vain; sent {self.sent}, complaints {self.complaints}"
                self._changed.wait(min(left, 0.2))

    def wait_for(self, recipient: str, count: int = 1, seconds: float = 20.0) -> list[Sent]:
        """Wait until so many messages reached somebody, and return them."""
        self.wait(lambda: len(self.to(recipient)) >= count, seconds)
        return self.to(recipient)

    # What a platform fills in.

    def routes(self) -> list[web.RouteDef]:
        """The platform's API; handlers raise `Refusal`."""
        raise NotImplementedError

    def busy(self) -> Refusal:
        """How the platform says that there were too many calls."""
        raise NotImplementedError

    def broken(self) -> Refusal:
        """How the platform says that it failed."""
        raise NotImplementedError

    # The server.

    async def _listen(self) -> None:
        application = web.Application(middlewares=[self._meet])
        application.add_routes([*self.routes(), web.route("*", "/elsewhere", self._elsewhere)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _elsewhere(self, request: web.Request) -> web.Response:
        self.arrived_elsewhere += 1
        return web.json_response({"ok": True})

    @web.middleware
    async def _meet(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path == "/elsewhere":
            return await self._elsewhere(request)
        self.calls += 1
        try:
            fault = self._next_fault()
            if fault:
                return await self._fail(fault, request)
            return await handler(request)
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)
        finally:
            with self._changed:
                self._changed.notify_all()

    def _next_fault(self) -> str:
        if self._faults:
            return self._faults.popleft()
        if self._share and self._dice.random() < self._share:
            return self._dice.choice(("busy", "error", "hang up"))
        return self._always

    async def _fail(self, fault: str, request: web.Request) -> web.StreamResponse:
        if fault == "busy":
            raise self.busy()
        if fault == "error":
            raise self.broken()
        if fault == "silent":
            await asyncio.sleep(self.silence)
        if fault == "redirect":
            raise web.HTTPTemporaryRedirect(f"{self.url}/elsewhere")
        if fault == "nonsense":
            return web.Response(
                text="<html>Welcome to the hotel's network</html>", content_type="text/html"
            )
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
