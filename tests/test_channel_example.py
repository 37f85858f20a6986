"""The example of docs/adding-a-channel.md works, so that nobody begins with what is no longer true."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict
from sanic.request import Request

from assistant.channels.messaging.platform import (
    Choice,
    ForgedRequestError,
    Outgoing,
    Platform,
    PlatformError,
    UnreadableRequestError,
)
from tests.conftest import PROJECT
from tests.platforms.stand_in import Refusal, Sent, StandIn

SECRET = "5b1e7c0a94d24f6e8b3d"


class ParrotStandIn(StandIn):
    """What the page says of Parrot."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/messages", self._take), web.get("/me", self._me)]

    def busy(self) -> Refusal:
        return Refusal(429, {}, {"Retry-After": str(self.retry_after)})

    def broken(self) -> Refusal:
        return Refusal(500, {})

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["chat"] in self.unreachable:
            raise Refusal(403, {})
        buttons = tuple((button["id"], button["title"]) for button in body.get("buttons", []))
        self.sent.append(Sent(body["chat"], body["text"], buttons, body=body))
        return web.json_response({"id": "m1"})

    async def _me(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer right":
            raise Refusal(401, {})
        return web.json_response({"name": "Moonbeam"})


@pytest.fixture(scope="module")
def example() -> Any:
    """The module of the page."""
    page = (PROJECT / "docs" / "adding-a-channel.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    module = ModuleType("parrot")
    sys.modules["parrot"] = module
    exec(compile(code[1], "docs/adding-a-channel.md", "exec"), module.__dict__)  # noqa: S102
    return module


def parrot(example: Any, api_url: str = "http://127.0.0.1:9", shown: str = "right") -> Platform:
    messaging = SimpleNamespace(
        parrot_token=shown, parrot_secret=SECRET, parrot_api_url=api_url, call_seconds=2.0
    )
    platform: Platform = example.Parrot.from_settings(SimpleNamespace(messaging=messaging))
    return platform


@pytest.fixture
async def at_work(example: Any) -> AsyncIterator[tuple[Platform, ParrotStandIn]]:
    stand_in = ParrotStandIn()
    stand_in.start()
    platform = parrot(example, stand_in.url)
    yield platform, stand_in
    await platform.close()
    stand_in.stop()


def arriving(body: bytes, sent_at: float | None = None, secret: str = SECRET) -> Request:
    moment = str(time.time() if sent_at is None else sent_at)
    signature = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256)
    headers = CIMultiDict({"Parrot-Time": moment, "Parrot-Signature": signature.hexdigest()})
    request = Request(b"/webhooks/parrot", headers, "1.1", "POST", None, None)
    request.body = body
    return request


EVENTS = {
    "events": [
        {"type": "message", "id": "e1", "chat": "c1", "text": "Hours?", "time": 1},
        {"type": "echo", "id": "e2", "chat": "c1", "text": "9 to 5", "time": 2},
        {"type": "press", "id": "e3", "chat": "c1", "button": "k3x9", "time": 3},
        {"type": "message", "id": "e4", "chat": "c1", "photo": "p.jpg", "time": 4},
    ]
}


def test_it_is_a_whole_platform_and_off_without_its_secret(example: Any) -> None:
    assert not example.Parrot.__abstractmethods__
    assert parrot(example, shown="") is None


def test_it_reads_what_parrot_signed(example: Any) -> None:
    request = arriving(json.dumps(EVENTS).encode())
    platform = parrot(example)
    platform.verify(request)
    found = [(m.message_id, m.text, m.choice, m.unreadable) for m in platform.read(request)]
    assert found == [("e1", "Hours?", "", ""), ("e3", "", "k3x9", ""), ("e4", "", "", "media")]


@pytest.mark.parametrize("fault", ["unsigned", "forged", "tampered", "stale"])
def test_it_refuses_all_else(example: Any, fault: str) -> None:
    body = json.dumps(EVENTS).encode()
    request = arriving(
        body, time.time() - 301 if fault == "stale" else None, "x" if fault == "forged" else SECRET
    )
    if fault == "unsigned":
        del request.headers["Parrot-Signature"]
    if fault == "tampered":
        request.body = body.replace(b"Hours", b"Money")
    with pytest.raises(ForgedRequestError):
        parrot(example).verify(request)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"events": [1]}', b'{"events": [{}]}'])
def test_it_says_what_it_cannot_read(example: Any, body: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        parrot(example).read(arriving(body))


async def test_it_sends_and_tells_what_is_permanent(
    at_work: tuple[Platform, ParrotStandIn],
) -> None:
    platform, stand_in = at_work
    await platform.send("c1", Outgoing("Which?", (Choice("k3x9", "Hours"),)))
    assert stand_in.to("c1")[0].choices == (("k3x9", "Hours"),)
    stand_in.unreachable = {"c2"}
    with pytest.raises(PlatformError) as blocked:
        await platform.send("c2", Outgoing("Hello"))
    stand_in.fail("error")
    with pytest.raises(PlatformError) as passing:
        await platform.send("c1", Outgoing("Hello"))
    assert (blocked.value.permanent, passing.value.permanent) == (True, False)


async def test_its_check_tells_a_wrong_token(
    example: Any, at_work: tuple[Platform, ParrotStandIn]
) -> None:
    platform, stand_in = at_work
    assert await platform.check() == []
    wrong = parrot(example, stand_in.url, shown="wrong")
    assert "PARROT_TOKEN" in (await wrong.check())[0]
    await wrong.close()
