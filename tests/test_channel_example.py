"""The example of docs/adding-a-channel.md works, so that nobody begins with what is no longer true."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

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
from tests.platforms.base import BROKEN, Sent, StandIn, WebhookCall, Written, fresh_number

SECRET = "5b1e7c0a94d24f6e8b3d"


class ParrotStandIn(StandIn):
    """What the page says of Parrot."""

    name: ClassVar[str] = "parrot"
    signature_header: ClassVar[str] = "Parrot-Signature"

    @property
    def environment(self) -> dict[str, str]:
        return {"PARROT_TOKEN": "right", "PARROT_SECRET": SECRET, "PARROT_API_URL": self.url}

    def new_sender(self) -> str:
        return f"c{fresh_number()}"

    def calls(
        self, *written: Written, at: float | None = None, secret: str | None = None
    ) -> list[WebhookCall]:
        body = json.dumps({"events": [event(message) for message in written]}).encode()
        return [signed(body, at, secret or SECRET)]

    def other_calls(self, sender: str) -> list[WebhookCall]:
        echo = {"type": "echo", "id": "e9", "chat": sender, "text": "9 to 5", "time": 2}
        return [signed(json.dumps({"events": [echo]}).encode())]

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/messages", self._take)
        router.add_get("/me", self._me)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (failure := await self.refusal(body["chat"])) is not None:
            return failure
        if body["chat"] in self.blocked:
            return web.json_response({}, status=403)
        buttons = tuple((button["id"], button["title"]) for button in body.get("buttons", []))
        self.take(Sent(body["chat"], body["text"], buttons, raw=body))
        return web.json_response({"id": "m1"})

    async def _me(self, request: web.Request) -> web.Response:
        right = request.headers.get("Authorization") == "Bearer right"
        return web.json_response({}, status=200 if right else 401)


def event(written: Written) -> dict[str, Any]:
    """Return what Parrot says of a message."""
    content = {"text": written.text} if written.text else {"photo": "p.jpg"}
    if written.choice:
        content = {"button": written.choice}
    return {
        "type": "press" if written.choice else "message",
        "id": written.message_id or f"e{fresh_number()}",
        "chat": written.sender,
        "time": written.order,
        **content,
    }


def signed(body: bytes, at: float | None = None, secret: str = SECRET) -> WebhookCall:
    """Return a call of Parrot's."""
    moment = str(time.time() if at is None else at)
    signature = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256)
    headers = {"Parrot-Time": moment, "Parrot-Signature": signature.hexdigest()}
    return WebhookCall("/webhooks/parrot", headers, body)


def arriving(call: WebhookCall) -> Request:
    request = Request(call.path.encode(), CIMultiDict(call.headers), "1.1", "POST", None, None)
    request.body = call.body
    return request


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


def test_it_is_a_whole_platform_and_off_without_its_secret(example: Any) -> None:
    assert not example.Parrot.__abstractmethods__
    assert parrot(example, shown="") is None


def test_it_reads_what_parrot_signed(example: Any) -> None:
    written = [
        Written("c1", "Hours?", "e1", order=1),
        Written("c1", message_id="e3", choice="k3x9", order=3),
        Written("c1", message_id="e4", media=True, order=4),
    ]
    (call,) = ParrotStandIn().calls(*written)
    platform = parrot(example)
    platform.verify(arriving(call))
    found = platform.read(arriving(call))
    assert [(m.message_id, m.text, m.choice, m.unreadable) for m in found] == [
        ("e1", "Hours?", "", ""),
        ("e3", "", "k3x9", ""),
        ("e4", "", "", "media"),
    ]
    (other,) = ParrotStandIn().other_calls("c1")
    assert platform.read(arriving(other)) == []


HOURS = b'{"events": []}'
FORGED = {
    "unsigned": WebhookCall("/webhooks/parrot", {}, HOURS),
    "forged": signed(HOURS, secret="x"),
    "tampered": replace(signed(HOURS), body=b'{"events": [] }'),
    "stale": signed(HOURS, at=time.time() - 301),
}


@pytest.mark.parametrize("fault", FORGED)
def test_it_refuses_all_else(example: Any, fault: str) -> None:
    with pytest.raises(ForgedRequestError):
        parrot(example).verify(arriving(FORGED[fault]))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"events": [1]}', b'{"events": [{}]}'])
def test_it_says_what_it_cannot_read(example: Any, body: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        parrot(example).read(arriving(signed(body)))


async def test_it_sends_and_tells_what_is_permanent(
    at_work: tuple[Platform, ParrotStandIn],
) -> None:
    platform, stand_in = at_work
    await platform.send("c1", Outgoing("Which?", (Choice("k3x9", "Hours"),)))
    assert stand_in.sent_to("c1")[0].choices == (("k3x9", "Hours"),)
    stand_in.blocked = {"c2"}
    with pytest.raises(PlatformError) as blocked:
        await platform.send("c2", Outgoing("Hello"))
    stand_in.fail(BROKEN)
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
