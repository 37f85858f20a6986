"""Slack: direct messages to the office's app, answered with Block Kit.

What Slack sends and takes is documented at https://docs.slack.dev: "Verifying requests from Slack",
"The Events API", "block_actions payload", "Formatting message text", `chat.postMessage`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import secrets
import time
from typing import Any, ClassVar
from urllib.parse import parse_qs

import aiohttp
from sanic.request import Request
from sanic.response import HTTPResponse, raw
from sanic.response import json as json_response
from slack_sdk.signature import SignatureVerifier

from assistant.channels.messaging.api_client import ApiAnswer, ApiClient, status_of_post
from assistant.channels.messaging.platform import (
    Choice,
    ForgedRequestError,
    Incoming,
    Limits,
    Outgoing,
    Platform,
    PlatformError,
    UnreadableRequestError,
)
from assistant.settings import Settings

logger = logging.getLogger(__name__)

_LIMITS = Limits(
    # https://docs.slack.dev/reference/block-kit/blocks/section-block: text, 3,000 characters.
    text=3000,
    text_with_choices=3000,
    # .../blocks/actions-block: 25 elements.
    choices=25,
    # .../block-elements/button-element: text 75 characters, value 2,000.
    choice_title=75,
    choice_id=2000,
)
_ALT_TEXT = 2000  # characters; .../blocks/image-block

_PERMANENT = frozenset(
    {
        # Nobody is there any more.
        "account_inactive",
        "cannot_dm_bot",
        "channel_not_found",
        "is_archived",
        "messages_tab_disabled",
        "not_in_channel",
        "restricted_action",
        "user_not_found",
        # Slack would refuse the same words again.
        "invalid_arguments",
        "invalid_blocks",
        "invalid_blocks_format",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
    }
)
"""Errors of chat.postMessage after which another try is useless.

Not among them: a token that is wrong or lacks a scope. The office can put that right within the hours
for which an answer is kept.
"""

_TOKEN_ERRORS = frozenset(
    {"account_inactive", "invalid_auth", "not_authed", "token_expired", "token_revoked"}
)
_SCOPES = ("chat:write", "im:history")

_WORDS = frozenset({"", "file_share", "me_message", "thread_broadcast"})
"""Subtypes of a message that somebody wrote; the others tell of edits, deletions, joins ..."""

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_LINK = re.compile(r"<([^<>|]+)(?:\|([^<>]*))?>")


class Slack(Platform):
    """The app in the office's workspace.

    Args:
        bot_token: lets us write as the app's bot.
        signing_secret: with it Slack signs what it sends.
        webhook: where Slack reaches this server, for `check`.
        api_url: where Slack is.
        seconds: how long a call may take.
    """

    name: ClassVar[str] = "slack"
    title: ClassVar[str] = "Slack"
    limits: ClassVar[Limits] = _LIMITS

    def __init__(
        self, bot_token: str, signing_secret: str, webhook: str, api_url: str, seconds: float
    ) -> None:
        self._verifier = SignatureVerifier(signing_secret)
        self._webhook = webhook
        self._seconds = seconds
        self._api = ApiClient("Slack", api_url, seconds, {"Authorization": f"Bearer {bot_token}"})

    @classmethod
    def from_settings(cls, settings: Settings) -> Slack | None:
        """Return the platform; None without a bot token."""
        messaging = settings.messaging
        if not messaging.slack_bot_token:
            return None
        return cls(
            messaging.slack_bot_token,
            messaging.slack_signing_secret,
            f"{messaging.public_url}/webhooks/{cls.name}",
            messaging.slack_api_url,
            messaging.call_seconds,
        )

    def verify(self, request: Request) -> None:
        """Make sure that Slack sent a request, at most five minutes ago.

        Raises:
            ForgedRequestError: it did not.
        """
        timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
        signature = request.headers.get("X-Slack-Signature", "")
        if not timestamp or not signature:
            raise ForgedRequestError("The request is not signed.", 401)
        try:
            # The library reads any number, and fails on one that is too large for a float.
            valid = _TIMESTAMP.fullmatch(timestamp) is not None and self._verifier.is_valid(
                request.body, timestamp, signature
            )
        except (TypeError, ValueError):  # a signature that is not ASCII, a body that is not UTF-8
            valid = False
        if not valid:
            raise ForgedRequestError("The signature is wrong, or older than five minutes.")

    def read(self, request: Request) -> list[Incoming]:
        """Return the message or the press that a request tells of.

        Left out are messages of bots (our own among them), edits, deletions and joins, whatever is
        said outside of a direct message, and events that are no message.

        Raises:
            UnreadableRequestError: the body is no event and no interaction of Slack's.
        """
        body = _body(request)
        if body["type"] == "event_callback":
            return _message(body)
        if body["type"] == "block_actions":
            return _presses(body)
        if body["type"] == "app_rate_limited":
            logger.warning(
                "Slack has held back messages: the app got more than 30,000 events in an hour."
            )
        return []

    def acknowledge(self, request: Request) -> HTTPResponse:
        """Return an empty answer; to the question whether this address is ours, what Slack asks for."""
        body = _body(request)
        if body["type"] == "url_verification":
            challenge = body.get("challenge")
            if not isinstance(challenge, str):
                raise UnreadableRequestError("The verification has no challenge.")
            return json_response({"challenge": challenge})
        return raw(b"")

    async def send(self, recipient: str, outgoing: Outgoing) -> None:
        """Post one message.

        Raises:
            PlatformError: Slack did not take it, or nobody knows.
        """
        answer = await self._post(recipient, outgoing, _blocks(outgoing))
        if answer.body.get("error") == "invalid_blocks" and outgoing.image:
            # Slack refuses the whole message if it cannot fetch the picture; the words must arrive.
            shown = _join(outgoing.text, f"{outgoing.image_text}: {outgoing.image}".lstrip(": "))
            plain = Outgoing(shown, outgoing.choices)
            answer = await self._post(recipient, plain, _blocks(plain))
        if answer.body.get("ok") is not True:
            raise _error(answer)

    async def check(self) -> list[str]:
        """Look whether the token is right and may do what it has to, and whether Slack can reach us."""
        return [*await self._check_token(), *await self._check_webhook()]

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _post(
        self, recipient: str, outgoing: Outgoing, blocks: list[dict[str, Any]]
    ) -> ApiAnswer:
        message = {
            "channel": recipient,
            # Notifications have this instead of the blocks, which hold all of it.
            "text": _sections(outgoing.text or outgoing.image_text or "Picture")[0],
            "blocks": blocks,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        return await self._api.call("POST", "/chat.postMessage", json=message)

    async def _check_token(self) -> list[str]:
        try:
            answer = await self._api.call("POST", "/auth.test")
        except PlatformError as error:
            return [f"{error}. Try again; if it stays so, this machine cannot reach Slack."]
        if answer.body.get("ok") is not True:
            reason = _named(answer.body.get("error"))
            if reason in _TOKEN_ERRORS:
                return [
                    f"Slack refuses SLACK_BOT_TOKEN ({reason}). Copy the Bot User OAuth Token anew "
                    "from OAuth & Permissions, and set it."
                ]
            return [f"Slack could not check SLACK_BOT_TOKEN: {reason}. Try again later."]
        granted = answer.headers.get("X-OAuth-Scopes")
        if granted is None:
            return []
        missing = [scope for scope in _SCOPES if scope not in re.split(r"[,\s]+", granted)]
        if not missing:
            return []
        return [
            f"The app lacks the scope {' and '.join(missing)}. Add it under OAuth & Permissions, Bot "
            "Token Scopes, then install the app to the workspace again."
        ]

    async def _check_webhook(self) -> list[str]:
        """Ask ourselves what Slack asks when the address is entered: is our secret the server's?

        Whether the address answers at all, `assistant channels check` asks for each platform.
        """
        challenge = secrets.token_hex(16)
        body = json.dumps({"type": "url_verification", "challenge": challenge}).encode()
        timestamp = str(int(time.time()))
        signature = self._verifier.generate_signature(timestamp=timestamp, body=body) or ""
        headers = {
            "Content-Type": "application/json",
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature,
        }
        try:
            status = await status_of_post(self._webhook, self._seconds, body, headers)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError):
            return []
        if status not in (401, 403):
            return []
        return [
            f"{self._webhook} refuses what SLACK_SIGNING_SECRET signs: the server there runs with "
            "another one, or its clock is wrong. Restart it after a change of settings."
        ]


def _body(request: Request) -> dict[str, Any]:
    """Return what Slack says: JSON for events, a form with JSON in it for presses."""
    try:
        text = request.body.decode("utf-8")
        if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            text = parse_qs(text, max_num_fields=20).get("payload", [""])[0]
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableRequestError("The body is not JSON.") from error
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise UnreadableRequestError("The body says nothing of its type.")
    return body


def _message(body: dict[str, Any]) -> list[Incoming]:
    event = body.get("event")
    if not isinstance(event, dict) or not _is_text(body.get("event_id")):
        raise UnreadableRequestError("The event has no event or no event_id.")
    ours = (
        event.get("type") == "message"
        and event.get("channel_type") == "im"
        and str(event.get("subtype") or "") in _WORDS
        and not event.get("bot_id")
        and not event.get("hidden")
    )
    if not ours:
        return []
    text = event.get("text") or ""
    if not _is_text(event.get("channel")) or not isinstance(text, str):
        raise UnreadableRequestError("The message has no channel or text.")
    said = _plain(text)
    media = not said.strip() and event.get("files")
    return [
        Incoming(
            message_id=body["event_id"],
            sender=event["channel"],
            text=said,
            unreadable="media" if media else "",
            order=_moment(event.get("ts")),
        )
    ]


def _presses(body: dict[str, Any]) -> list[Incoming]:
    channel, actions = body.get("channel"), body.get("actions")
    if not isinstance(channel, dict) or not _is_text(channel.get("id")):
        return []  # a press in a modal or on a home tab, which we have none of
    if not isinstance(actions, list) or not all(isinstance(action, dict) for action in actions):
        raise UnreadableRequestError("The presses are no list.")
    presses = []
    for place, action in enumerate(actions):
        if action.get("type") != "button" or not _is_text(action.get("value")):
            continue
        pressed_at = action.get("action_ts")
        # One id for each press: a trigger_id is never given twice, and a replay brings the old one.
        mark = body.get("trigger_id") or pressed_at
        if not _is_text(mark):
            raise UnreadableRequestError("The press has no trigger_id.")
        title = action["text"].get("text", "") if isinstance(action.get("text"), dict) else ""
        presses.append(
            Incoming(
                message_id=f"{mark}:{place}",
                sender=channel["id"],
                text=title if isinstance(title, str) else "",
                choice=action["value"],
                order=_moment(pressed_at),
            )
        )
    return presses


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _moment(timestamp: Any) -> float:
    try:
        moment = float(timestamp)
    except (TypeError, ValueError):
        moment = math.nan
    if not math.isfinite(moment):
        raise UnreadableRequestError("The time is no number.")
    return moment


def _plain(text: str) -> str:
    """Return what was typed: without the links that Slack makes of addresses, and unescaped.

    A form that asks for an e-mail address gets `<mailto:a@b.example|a@b.example>` otherwise.
    """
    said = _LINK.sub(_linked, text)
    return said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _linked(match: re.Match[str]) -> str:
    target, label = match[1], match[2] or ""
    if target[0] in "@#!":  # a person, a channel, everybody
        return f"{'@' if target[0] == '!' else target[0]}{label.lstrip('@#')}" if label else ""
    if target.startswith("mailto:"):
        return target.removeprefix("mailto:")
    if target.startswith("tel:"):
        return label or target.removeprefix("tel:")
    return target if not label or label in target else f"{label} {target}"


def _blocks(outgoing: Outgoing) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": part}}
        for part in _sections(outgoing.text)
    ]
    if outgoing.image:
        alt_text = outgoing.image_text[:_ALT_TEXT] or "Picture"
        blocks.append({"type": "image", "image_url": outgoing.image, "alt_text": alt_text})
    if outgoing.choices:
        buttons = [_button(place, choice) for place, choice in enumerate(outgoing.choices)]
        blocks.append({"type": "actions", "elements": buttons})
    return blocks


def _button(place: int, choice: Choice) -> dict[str, Any]:
    return {
        "type": "button",
        "action_id": f"choice-{place}",  # must differ within a block
        "text": {"type": "plain_text", "text": choice.title, "emoji": False},
        "value": choice.id,
    }


def _escaped(text: str) -> str:
    # https://docs.slack.dev/messaging/formatting-message-text: these three alone. Nothing of ours can
    # mention somebody or hide an address behind a word then.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _sections(text: str) -> list[str]:
    """Return the escaped text in parts that fit: escaping makes it longer than the limit counted."""
    parts = []
    rest = text
    while rest.strip():
        end = len(rest)
        while len(_escaped(rest[:end])) > _LIMITS.text:
            end -= max(1, (len(_escaped(rest[:end])) - _LIMITS.text) // len("&amp;"))
        if end < len(rest):
            end = max(rest.rfind("\n", 0, end), rest.rfind(" ", 0, end)) + 1 or end
        parts.append(_escaped(rest[:end].strip()))
        rest = rest[end:]
    return parts


def _join(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def _named(error: Any) -> str:
    """Return Slack's word for an error, and nothing else that may stand there."""
    return error if isinstance(error, str) and re.fullmatch("[a-z_]{1,60}", error) else "no reason"


def _error(answer: ApiAnswer) -> PlatformError:
    error = _named(answer.body.get("error"))
    hint = ""
    if error in _TOKEN_ERRORS or error == "missing_scope":
        hint = "; `assistant channels check slack` says what to do"
    return PlatformError(f"Slack refused a message: {error}{hint}", permanent=error in _PERMANENT)
