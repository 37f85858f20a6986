"""Slack, as https://docs.slack.dev documents it: signs events and presses, takes chat.postMessage.

The blocks are checked by Slack's own models (`slack_sdk.models.blocks`), which know its limits.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
import time
from typing import Any, ClassVar
from urllib.parse import urlencode

from aiohttp import web
from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import ActionsBlock, Block, ImageBlock, SectionBlock

from tests.platforms.base import Sent, StandIn, WebhookCall, Written, fresh_number

BOT_TOKEN = "xoxb-Zk4uB7vTq9-of-an-invented-app"
SIGNING_SECRET = "8d2f6c41b09e7a53f1c86d4209be57af"
ENVIRONMENT = {"SLACK_BOT_TOKEN": BOT_TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET}
BOT_ID = "B0FFICE001"
_MOST_TEXT = (
    4000  # characters beside blocks; https://docs.slack.dev/reference/methods/chat.postMessage
)
_MOST_BLOCKS = 50  # https://docs.slack.dev/reference/block-kit/blocks


def sign(body: bytes, at: float | None = None, secret: str = SIGNING_SECRET) -> dict[str, str]:
    """Return the headers of https://docs.slack.dev/authentication/verifying-requests-from-slack.

    Written anew here, so that a mistake in the library that checks would be seen.
    """
    sent_at = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), b"v0:" + sent_at.encode() + b":" + body, hashlib.sha256)
    return {
        "X-Slack-Request-Timestamp": sent_at,
        "X-Slack-Signature": f"v0={digest.hexdigest()}",
        "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
    }


def signed(
    payload: dict[str, Any], at: float | None = None, secret: str = SIGNING_SECRET
) -> WebhookCall:
    """Return a call of the webhook: an event is JSON, a press a form whose field `payload` is JSON."""
    if payload["type"] == "block_actions":
        kind = "application/x-www-form-urlencoded"
        body = urlencode({"payload": json.dumps(payload)}).encode()
    else:
        kind = "application/json"
        body = json.dumps(payload).encode()
    headers = {"Content-Type": kind, **sign(body, at, secret)}
    return WebhookCall("/webhooks/slack", headers, body)


def moment() -> str:
    """Return a `ts`: seconds and, behind the dot, a number that makes it unique."""
    return f"{int(time.time())}.{fresh_number():06}"


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
        "client_msg_id": f"c0ffee00-0000-4000-8000-{fresh_number():012}",
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
        "event_id": event_id or f"Ev{fresh_number():09}",
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
        "trigger_id": trigger_id or f"{fresh_number()}.123456.2e2548aa918b35fd85829545c2d4ae2b",
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


def no_messages(channel: str) -> dict[str, dict[str, Any]]:
    """Return events and interactions that are no message of a patient, by what they are."""
    elsewhere = f"C{channel[1:]}"
    dismissed = press(channel, "", "")
    dismissed["type"] = "view_closed"
    return {
        "our own message": event(channel, "Hello", bot_id=BOT_ID),
        "another bot's": event(channel, "Hello", subtype="bot_message", bot_id="B1"),
        "an edit": event(
            channel, "", subtype="message_changed", hidden=True, message={"text": "Hello"}
        ),
        "a deletion": event(channel, "", subtype="message_deleted", hidden=True),
        "a join": event(channel, "joined", subtype="channel_join"),
        "a message in a channel": event(elsewhere, "Hello", channel_type="channel"),
        "a message in a group": event(elsewhere, "Hello", channel_type="mpim"),
        "a reaction": event(channel, "", type="reaction_added"),
        "the opened app": event(channel, "", type="app_home_opened", channel_type=None),
        "a closed window": dismissed,
        "the news that events were held back": {"type": "app_rate_limited", "team_id": "T1"},
    }


class _RefusedError(Exception):
    """Slack refuses a call; its errors come with status 200."""


class SlackStandIn(StandIn):
    """Slack's side: sends signed events and presses, and is the Web API.

    Attributes:
        errors: what the next calls are answered with, one each: `is_archived`, ...
        scopes: what the token may do, as the header X-OAuth-Scopes tells.
        unfetched: images that Slack cannot get.
    """

    name: ClassVar[str] = "slack"
    signature_header: ClassVar[str] = "X-Slack-Signature"
    signs_time: ClassVar[bool] = True
    orders: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.scopes = "chat:write,im:history"
        self.unfetched: set[str] = set()
        self._began = int(time.time())

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "SLACK_API_URL": self.url}

    def new_sender(self) -> str:
        return f"D{fresh_number():08}X"

    # Calls of the webhook.

    def calls(
        self, *written: Written, at: float | None = None, secret: str | None = None
    ) -> list[WebhookCall]:
        return [self._call(message, at, secret or SIGNING_SECRET) for message in written]

    def other_calls(self, sender: str) -> list[WebhookCall]:
        return [signed(payload) for payload in no_messages(sender).values()]

    def _call(self, written: Written, at: float | None, secret: str) -> WebhookCall:
        sent_at = f"{self._began}.{written.order:06}" if written.order else moment()
        if written.choice:
            payload = press(written.sender, written.choice, written.text, written.message_id)
            payload["actions"][0]["action_ts"] = sent_at
        else:
            files = [{"id": "F0AB", "mimetype": "image/png"}] if written.media else None
            subtype = "file_share" if written.media else None
            payload = event(
                written.sender,
                # Slack hands text on like this.
                html.escape(written.text, quote=False),
                written.message_id,
                ts=sent_at,
                event_ts=sent_at,
                files=files,
                subtype=subtype,
            )
        return signed(payload, at, secret)

    # The Web API.

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/auth.test", self._auth_test)
        router.add_post("/chat.postMessage", self._post_message)

    async def _auth_test(self, request: web.Request) -> web.Response:
        try:
            self._authorize(request)
        except _RefusedError as error:
            return _refused(str(error))
        body = {
            "ok": True,
            "url": "https://practice.slack.com/",
            "user": "assistant",
            "bot_id": BOT_ID,
        }
        return web.json_response(body, headers={"X-OAuth-Scopes": self.scopes})

    async def _post_message(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        channel = str(body.get("channel"))
        if (failure := await self.refusal(channel)) is not None:
            return failure
        try:
            self._authorize(request)
            if not request.content_type.startswith("application/json"):
                self._object("invalid_post_type", request.content_type)
            self.take(self._read(channel, body))
        except _RefusedError as error:
            return _refused(str(error))
        return web.json_response({"ok": True, "channel": channel, "ts": moment()})

    def _read(self, channel: str, body: dict[str, Any]) -> Sent:
        blocks = self._checked(body)
        if channel in self.blocked:
            raise _RefusedError("channel_not_found")
        shown = [block for block in blocks if isinstance(block, ImageBlock)]
        if any(image.image_url in self.unfetched for image in shown):
            raise _RefusedError("invalid_blocks")
        sections = [block.text.text for block in blocks if isinstance(block, SectionBlock)]
        buttons = tuple(
            (element.value, element.text.text)
            for block in blocks
            if isinstance(block, ActionsBlock)
            for element in block.elements
        )
        text = html.unescape("\n".join(sections))
        return Sent(channel, text, buttons, shown[0].image_url if shown else "", raw=body)

    def _authorize(self, request: web.Request) -> None:
        if self.errors:
            raise _RefusedError(self.errors.pop(0))
        if request.headers.get("Authorization") != f"Bearer {BOT_TOKEN}":
            raise _RefusedError("invalid_auth")

    def _object(self, error: str, reason: str) -> None:
        self.object_to(f"{error}: {reason}")
        raise _RefusedError(error)

    def _checked(self, body: dict[str, Any]) -> list[Block]:
        """Return the blocks; refuse what Slack would refuse, cut or show as markup."""
        known = {"channel", "text", "blocks", "unfurl_links", "unfurl_media"}
        if set(body) - known:  # as_user among them: granular bot tokens may not send it
            self._object("invalid_arguments", f"{set(body) - known}")
        if not body.get("channel"):
            self._object("channel_not_found", "no channel")
        if not body.get("text"):
            self._object("no_text", "nothing for notifications")
        if len(body["text"]) > _MOST_TEXT:
            self._object("msg_too_long", f"{len(body['text'])} characters")
        raw = body.get("blocks") or []
        if not raw or len(raw) > _MOST_BLOCKS:
            self._object("invalid_blocks", f"{len(raw)} blocks")
        blocks: list[Block] = list(Block.parse_all(raw))
        try:
            for block in blocks:
                block.validate_json()
        except SlackObjectFormationError as error:
            self._object("invalid_blocks", str(error))
        for block in blocks:
            self._check_block(block)
        return blocks

    def _check_block(self, block: Block) -> None:
        # What the models let through.
        if isinstance(block, SectionBlock):
            text = block.text.text or ""
            if not text.strip() or block.text.type != "mrkdwn":
                self._object("invalid_blocks", "a section without text")
            if "<" in text or ">" in text or html.escape(html.unescape(text), quote=False) != text:
                self._object("invalid_blocks", "text that is not escaped")
        elif isinstance(block, ImageBlock):
            if not block.alt_text or not str(block.image_url).startswith("https://"):
                self._object("invalid_blocks", "an image without alt_text, or not https")
        elif isinstance(block, ActionsBlock):
            names = [element.action_id for element in block.elements]
            if not names or len(set(names)) < len(names):
                self._object("invalid_blocks", "an action_id twice, or no element")
            for element in block.elements:
                if not element.value or not element.text.text or element.text.type != "plain_text":
                    self._object("invalid_blocks", "a button without value or words")
        else:
            self._object("invalid_blocks", f"a block of type {block.type}")


def _refused(error: str) -> web.Response:
    return web.json_response({"ok": False, "error": error})
