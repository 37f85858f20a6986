"""Slack, as https://docs.slack.dev documents it: signs events and presses, takes chat.postMessage.

The blocks are checked by Slack's own models (`slack_sdk.models.blocks`), which know its limits.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import time
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlencode

import httpx
from aiohttp import web
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import ActionsBlock, Block, ImageBlock, SectionBlock

from tests.platforms.stand_in import Refusal, Sent, StandIn

BOT_TOKEN = "xoxb-2345678901-Zk4uB7vTq9"
SIGNING_SECRET = "8d2f6c41b09e7a53f1c86d4209be57af"
ENVIRONMENT = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET}
BOT_ID = "B0FFICE001"
_MOST_BLOCKS = 50  # https://docs.slack.dev/reference/block-kit/blocks

_numbers = count(1)


@dataclass(frozen=True)
class Delivery:
    """A request of Slack's, ready to be posted."""

    headers: dict[str, str]
    body: bytes


def sign(body: bytes, timestamp: int | None = None, secret: str = SIGNING_SECRET) -> dict[str, str]:
    """Return the headers of https://docs.slack.dev/authentication/verifying-requests-from-slack.

    Written anew here, so that a mistake in the library that checks would be seen.
    """
    sent_at = str(int(time.time()) if timestamp is None else timestamp)
    digest = hmac.new(secret.encode(), b"v0:" + sent_at.encode() + b":" + body, hashlib.sha256)
    return {
        "X-Slack-Request-Timestamp": sent_at,
        "X-Slack-Signature": f"v0={digest.hexdigest()}",
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
    }


def as_json(body: dict[str, Any], timestamp: int | None = None) -> Delivery:
    """Return a body of the Events API, signed."""
    content = json.dumps(body).encode()
    return Delivery({"Content-Type": "application/json", **sign(content, timestamp)}, content)


def as_form(payload: dict[str, Any], timestamp: int | None = None) -> Delivery:
    """Return an interaction: a form whose only field, `payload`, is JSON; signed."""
    content = urlencode({"payload": json.dumps(payload)}).encode()
    kind = "application/x-www-form-urlencoded"
    return Delivery({"Content-Type": kind, **sign(content, timestamp)}, content)


def moment() -> str:
    """Return a `ts`: seconds and, behind the dot, a number that makes it unique."""
    return f"{int(time.time())}.{next(_numbers):06}"


def event(channel: str, text: str, /, event_id: str = "", **changes: Any) -> dict[str, Any]:
    """Return a direct message as https://docs.slack.dev/reference/events/message.im shows it.

    Args:
        channel: the direct message's id.
        text: what was typed, as Slack hands it on.
        event_id: stays the same when Slack tries again.
        changes: of the inner event; None takes a field away.
    """
    sent_at = moment()
    inner = {
        "type": "message",
        "channel": channel,
        "user": f"U{channel[1:]}",
        "text": text,
        "ts": sent_at,
        "event_ts": sent_at,
        "channel_type": "im",
        "client_msg_id": f"c0ffee00-0000-4000-8000-{next(_numbers):012}",
        **changes,
    }
    return {
        "token": "XXYYZZ",
        "team_id": "T123ABC456",
        "api_app_id": "A123ABC456",
        "event": {name: value for name, value in inner.items() if value is not None},
        "type": "event_callback",
        "authorizations": [
            {
                "team_id": "T123ABC456",
                "user_id": BOT_ID,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "event_id": event_id or f"Ev{next(_numbers):09}",
        "event_time": int(time.time()),
    }


def press(channel: str, value: str, title: str, trigger_id: str = "") -> dict[str, Any]:
    """Return a press of https://docs.slack.dev/reference/interaction-payloads/block_actions-payload."""
    return {
        "type": "block_actions",
        "team": {"id": "T123ABC456", "domain": "practice"},
        "user": {"id": f"U{channel[1:]}", "username": "jane", "team_id": "T123ABC456"},
        "api_app_id": "A123ABC456",
        "token": "XXYYZZ",
        "container": {
            "type": "message",
            "message_ts": moment(),
            "channel_id": channel,
            "is_ephemeral": False,
        },
        "trigger_id": trigger_id or f"{next(_numbers)}.123456.2e2548aa918b35fd85829545c2d4ae2b",
        "channel": {"id": channel, "name": "directmessage"},
        "message": {"bot_id": BOT_ID, "type": "message", "text": "", "ts": moment()},
        "response_url": "https://hooks.slack.com/actions/T123ABC456/1/abc",
        "actions": [
            {
                "type": "button",
                "block_id": "P0z+f",
                "action_id": "choice-0",
                "text": {"type": "plain_text", "text": title, "emoji": False},
                "value": value,
                "action_ts": moment(),
            }
        ],
    }


class SlackStandIn(StandIn):
    """Slack's Web API.

    Attributes:
        errors: what the next calls are answered with, one each: `is_archived`, ...
        scopes: what the token may do, as the header X-OAuth-Scopes tells.
        unfetched: images that Slack cannot get.
    """

    name = "slack"

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.scopes = "chat:write,im:history"
        self.unfetched: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a server that talks to this stand-in."""
        return {**ENVIRONMENT, "SLACK_API_URL": self.url}

    def post(
        self,
        url: str,
        payload: dict[str, Any],
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        timestamp: int | None = None,
    ) -> httpx.Response:
        """Call the webhook, signed: events as JSON, presses as a form.

        Args:
            url: its address.
            payload: an event or a press.
            headers: take the place of ours; a value of "" leaves the header out.
            body: sent in place of the payload that was signed.
            timestamp: when it was signed; now by default.
        """
        write = as_form if payload.get("type") == "block_actions" else as_json
        delivery = write(payload, timestamp)
        given = {**delivery.headers, **(headers or {})}
        given = {name: value for name, value in given.items() if value}
        content = delivery.body if body is None else body
        return httpx.post(url, content=content, headers=given, timeout=30)

    def forget(self) -> None:
        """Start anew for the next test."""
        super().forget()
        self.errors.clear()
        self.scopes = "chat:write,im:history"
        self.unfetched.clear()

    def routes(self) -> list[web.RouteDef]:
        """Return the methods that we use."""
        return [web.post("/auth.test", self._auth_test), web.post("/chat.postMessage", self._post)]

    def busy(self) -> Refusal:
        """Return what https://docs.slack.dev/apis/web-api/rate-limits says."""
        headers = {"Retry-After": str(self.retry_after)}
        return Refusal(429, {"ok": False, "error": "ratelimited"}, headers)

    def broken(self) -> Refusal:
        """Return an error of Slack's own."""
        return Refusal(500, {"ok": False, "error": "internal_error"})

    async def _auth_test(self, request: web.Request) -> web.Response:
        self._authorize(request)
        body = {
            "ok": True,
            "url": "https://practice.slack.com/",
            "user": "assistant",
            "bot_id": BOT_ID,
        }
        return web.json_response(body, headers={"X-OAuth-Scopes": self.scopes})

    async def _post(self, request: web.Request) -> web.Response:
        self._authorize(request)
        if not request.content_type.startswith("application/json"):
            self._complain("invalid_post_type", request.content_type)
        body = await request.json()
        channel = body.get("channel", "")
        blocks = self._checked(body)
        if channel in self.unreachable:
            raise self._refused("channel_not_found")
        shown = [block for block in blocks if isinstance(block, ImageBlock)]
        if any(image.image_url in self.unfetched for image in shown):
            raise self._refused("invalid_blocks")
        sections = [block.text.text for block in blocks if isinstance(block, SectionBlock)]
        buttons = [
            (element.value, element.text.text)
            for block in blocks
            if isinstance(block, ActionsBlock)
            for element in block.elements
        ]
        text = html.unescape("\n".join(sections) or body["text"])
        image = shown[0].image_url if shown else ""
        self.sent.append(Sent(channel, text, tuple(buttons), image, body))
        return web.json_response({"ok": True, "channel": channel, "ts": moment()})

    def _authorize(self, request: web.Request) -> None:
        if self.errors:
            raise self._refused(self.errors.pop(0))
        if request.headers.get("Authorization") != f"Bearer {BOT_TOKEN}":
            raise self._refused("invalid_auth")

    def _refused(self, error: str) -> Refusal:
        """Slack's errors come with status 200."""
        return Refusal(200, {"ok": False, "error": error})

    def _complain(self, error: str, reason: str) -> None:
        self.complaints.append(f"{error}: {reason}")
        raise self._refused(error)

    def _checked(self, body: dict[str, Any]) -> list[Block]:
        """Return the blocks; refuse what Slack would refuse, cut or show as markup."""
        known = {"channel", "text", "blocks", "unfurl_links", "unfurl_media"}
        if set(body) - known:  # as_user among them: granular bot tokens may not send it
            self._complain("invalid_arguments", f"{set(body) - known}")
        if not isinstance(body.get("channel"), str) or not body["channel"]:
            self._complain("channel_not_found", "no channel")
        if not body.get("text"):
            self._complain("no_text", "nothing for notifications and screen readers")
        if len(body["text"]) > 4000:
            self._complain("msg_too_long", f"{len(body['text'])} characters")
        raw = body.get("blocks") or []
        if not raw or len(raw) > _MOST_BLOCKS:
            self._complain("invalid_blocks", f"{len(raw)} blocks")
        blocks: list[Block] = list(Block.parse_all(raw))
        try:
            for block in blocks:
                block.validate_json()
        except SlackObjectFormationError as error:
            self._complain("invalid_blocks", str(error))
        for block in blocks:
            self._check_block(block)
        return blocks

    def _check_block(self, block: Block) -> None:
        # What the models let through.
        if isinstance(block, SectionBlock):
            text = block.text.text or ""
            if not text.strip() or block.text.type != "mrkdwn":
                self._complain("invalid_blocks", "a section without text")
            if "<" in text or ">" in text or html.escape(html.unescape(text), quote=False) != text:
                self._complain("invalid_blocks", "text that is not escaped")
        elif isinstance(block, ImageBlock):
            if not block.alt_text or not str(block.image_url).startswith("https://"):
                self._complain("invalid_blocks", "an image without alt_text, or not https")
        elif isinstance(block, ActionsBlock):
            names = [element.action_id for element in block.elements]
            if not names or len(set(names)) < len(names):
                self._complain("invalid_blocks", "an action_id twice, or no element")
            for element in block.elements:
                if not element.value or not element.text.text or element.text.type != "plain_text":
                    self._complain("invalid_blocks", "a button without value or words")
        else:
            self._complain("invalid_blocks", f"a block of type {block.type}")
