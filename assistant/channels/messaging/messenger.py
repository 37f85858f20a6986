"""Facebook Messenger: what people write to the office's page.

What Meta sends and takes is documented at https://developers.facebook.com/docs/messenger-platform and
.../docs/graph-api; the pages are named where they matter.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from typing import Any, ClassVar

from sanic.request import Request
from sanic.response import HTTPResponse
from sanic.response import text as text_response

from assistant.channels.messaging.api_client import ApiAnswer, ApiClient
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
    # reference/send-api, message.text: 2,000 characters; quick replies may stand below all of them.
    text=2000,
    text_with_choices=2000,
    # send-messages/quick-replies: 13, a title of 20 characters, a payload of 1,000.
    choices=13,
    choice_title=20,
    choice_id=1000,
)
# send-messages/template/button: text of 640 characters, 1-3 buttons. They stay when they were pressed,
# quick replies go, so buttons are taken where they fit.
_BUTTONS = 3
_TEXT_WITH_BUTTONS = 640

_WINDOW = 24 * 3600.0  # seconds; policy: a RESPONSE is allowed for 24 hours after a message

# messenger-platform/error-codes, graph-api/guides/error-handling, graph-api/overview/rate-limiting.
_TOO_MANY = frozenset({4, 17, 32, 341, 613, 80006})
_RATE_PAUSE = (
    60.0  # seconds; the limits count calls of an hour, so that a quick retry only adds to them
)
_GONE = frozenset({551})  # blocked, deactivated
_REFUSED = frozenset({100, 105})  # no such person, or content that would be refused again
_GONE_SUBCODES = frozenset({1545041, 2018001})  # not available, no matching user
_WINDOW_SUBCODES = frozenset({2018065, 2018108, 2018278, 2534022})
_TOKEN = frozenset({10, 102, 104, 190, *range(200, 300)})  # the page's token, or what it may do

_FIELDS = ("messages", "messaging_postbacks")

_GET_STARTED = "GET_STARTED"
_GREETING = "Hello"
"""Stands for the button that opens the chat, if the page has one with the payload above."""


class Messenger(Platform):
    """The office's page.

    Args:
        page_token: lets us write as the page.
        app_secret: with it Meta signs its calls.
        verify_token: what Meta shows when the webhook is set up.
        webhook: where Meta reaches this server, for `check`.
        api_url: where the Graph API is, with its version.
        seconds: how long a call may take.
    """

    name: ClassVar[str] = "messenger"
    title: ClassVar[str] = "Messenger"
    limits: ClassVar[Limits] = _LIMITS

    def __init__(
        self,
        page_token: str,
        app_secret: str,
        verify_token: str,
        webhook: str,
        api_url: str,
        seconds: float,
    ) -> None:
        self._app_secret = app_secret
        self._verify_token = verify_token
        self._webhook = webhook
        self._api = ApiClient("Messenger", api_url, seconds)
        # graph-api/guides/secure-requests: shows that whoever has the token has the app's secret, too.
        proof = hmac.new(app_secret.encode(), page_token.encode(), hashlib.sha256).hexdigest()
        self._credentials = {"access_token": page_token, "appsecret_proof": proof}

    @classmethod
    def from_settings(cls, settings: Settings) -> Messenger | None:
        """Return the platform; None without a page token."""
        messaging = settings.messaging
        if not messaging.messenger_page_token:
            return None
        return cls(
            messaging.messenger_page_token,
            messaging.messenger_app_secret,
            messaging.messenger_verify_token,
            f"{messaging.public_url}/webhooks/{cls.name}",
            f"{messaging.messenger_api_url}/{messaging.messenger_graph_version}",
            messaging.call_seconds,
        )

    def verify(self, request: Request) -> None:
        """Make sure that Meta sent a request: X-Hub-Signature-256 over the body as it came.

        The older X-Hub-Signature is not looked at: it is SHA-1. The times in the body are signed with
        it, so `read` leaves out what is old.

        Raises:
            ForgedRequestError: it did not.
        """
        shown = request.headers.get("X-Hub-Signature-256", "")
        if not shown:
            raise ForgedRequestError("The request is not signed.", 401)
        digest = hmac.new(self._app_secret.encode(), request.body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), f"sha256={digest}".encode()):
            raise ForgedRequestError("The signature is wrong.")

    def answer_get(self, request: Request) -> HTTPResponse:
        """Return the challenge: so Meta makes sure that the address is ours.

        Raises:
            ForgedRequestError: the GET does not show the verify token.
        """
        shown = request.args.get("hub.verify_token", "")
        if not shown or request.args.get("hub.mode") != "subscribe":
            raise ForgedRequestError("The request is no verification of the webhook.", 401)
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), self._verify_token.encode()):
            raise ForgedRequestError("The verify token is wrong.")
        # Plain text: whoever knows the token could else have a browser read HTML here.
        return text_response(
            request.args.get("hub.challenge", ""), headers={"X-Content-Type-Options": "nosniff"}
        )

    def read(self, request: Request) -> list[Incoming]:
        """Return the messages and presses of all entries, in their order.

        Left out are our own messages (echoes), reads, deliveries, reactions, edits (the first wording
        is answered already), what another app of the page has in hand (standby), and whatever is
        older than 24 hours: Meta takes no answer to it any more. One odd event does not keep the
        others of its batch from being read.

        Raises:
            UnreadableRequestError: the body is no batch of events.
        """
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise UnreadableRequestError("The body is not JSON.") from error
        entries = body.get("entry") if isinstance(body, dict) else None
        if not isinstance(entries, list):
            raise UnreadableRequestError("The body has no entries.")
        if body.get("object") != "page":
            return []  # Instagram, or another product of Meta's that the app is subscribed to
        found = []
        for entry in entries:
            events = entry.get("messaging") if isinstance(entry, dict) else None
            for event in events if isinstance(events, list) else []:
                incoming = _incoming(event) if isinstance(event, dict) else None
                if incoming is not None:
                    found.append(incoming)
        return found

    def acknowledge(self, request: Request) -> HTTPResponse:
        """Return what Meta's own examples do."""
        return text_response("EVENT_RECEIVED")

    async def send(self, recipient: str, outgoing: Outgoing) -> None:
        """Send one message; a picture goes before its words, in a call of its own.

        Messenger has no description of a picture, so that it is written below.

        Raises:
            PlatformError: Messenger did not take it, or nobody knows.
        """
        words = outgoing.text or outgoing.image_text
        if outgoing.image:
            picture = {"type": "image", "payload": {"url": outgoing.image}}
            try:
                await self._send(recipient, {"attachment": picture})
            except _RefusedError:  # Meta could not fetch it; the words must arrive
                words = _with_address(words, outgoing.image)
            if not words:
                return
        await self._send(recipient, _words(words, outgoing.choices))

    async def check(self) -> list[str]:
        """Look whether token and secret are right, and whether Meta sends the page's messages here."""
        try:
            page, app = await self._identity()
            return [*await self._app_problems(app), *await self._page_problems(page, app)]
        except _CheckError as error:
            return [str(error)]
        except PlatformError as error:
            return [f"{error}. Try again; if it stays so, this machine cannot reach Messenger."]

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _send(self, recipient: str, message: dict[str, Any]) -> None:
        answer = await self._api.call(
            "POST",
            "/me/messages",
            params=self._credentials,
            json={
                "recipient": {"id": recipient},
                # The only type that needs no permission beyond answering within 24 hours.
                "messaging_type": "RESPONSE",
                "message": message,
            },
        )
        if answer.status != 200 or "message_id" not in answer.body:
            raise _error(answer)

    async def _identity(self) -> tuple[str, str]:
        """Return the ids of the page and of the app that the token is for."""
        page = await self._api.call("GET", "/me", params=self._credentials)
        code, message = _code(page)[0], str(page.body.get("error", {}))
        if code == 100 and "appsecret_proof" in message:
            raise _CheckError(
                "MESSENGER_APP_SECRET is not of the app that MESSENGER_PAGE_TOKEN was made with. Copy it "
                "from App settings, Basic, App secret."
            )
        if code is not None and code in _TOKEN:
            raise _CheckError(
                f"Meta refuses MESSENGER_PAGE_TOKEN (error {code}). Generate the page's token anew under "
                "Messenger, API setup, and set it."
            )
        app = await self._api.call("GET", "/app", params=self._credentials)
        ids = [answer.body.get("id") for answer in (page, app)]
        if not all(isinstance(found, str) and found for found in ids):
            raise _CheckError(
                f"Meta did not tell the page and the app (error {code or _code(app)[0]}). Is "
                "MESSENGER_GRAPH_VERSION still supported? Its changelog tells which versions are."
            )
        return str(ids[0]), str(ids[1])

    async def _app_problems(self, app: str) -> list[str]:
        token = {"access_token": f"{app}|{self._app_secret}"}
        answer = await self._api.call("GET", f"/{app}/subscriptions", params=token)
        pages = [one for one in _listed(answer) if one.get("object") == "page"]
        where = "In the app, under Messenger, Messenger API settings, Webhooks"
        if not pages or not pages[0].get("active"):
            return [
                f"Meta does not know where to send messages. {where}, enter {self._webhook} and "
                "MESSENGER_VERIFY_TOKEN."
            ]
        problems = []
        if pages[0].get("callback_url") != self._webhook:
            problems.append(
                f"Meta sends messages to {pages[0].get('callback_url')} instead of {self._webhook}. "
                f"{where}, change the callback URL."
            )
        fields = pages[0].get("fields")
        names = [one.get("name") for one in fields if isinstance(one, dict)] if fields else []
        missing = [name for name in _FIELDS if name not in names]
        if missing:
            problems.append(f"{where}, subscribe to {' and '.join(missing)}.")
        return problems

    async def _page_problems(self, page: str, app: str) -> list[str]:
        answer = await self._api.call("GET", f"/{page}/subscribed_apps", params=self._credentials)
        ours = [one for one in _listed(answer) if one.get("id") == app]
        fields = (ours[0].get("subscribed_fields") if ours else None) or []
        missing = [name for name in _FIELDS if name not in fields]
        if not missing:
            return []
        return [
            f"The page does not hand its {' and '.join(missing)} to the app. Under Messenger, Messenger "
            "API settings, Webhooks, add the page's subscriptions."
        ]


class _RefusedError(PlatformError):
    """Messenger refuses the content, and would do so again."""


class _CheckError(Exception):
    """The check cannot go on; the text says why and what to do."""


def _incoming(event: dict[str, Any]) -> Incoming | None:
    """Return the message or press of an event; None if it is neither, or is left out on purpose."""
    kind = "postback" if "postback" in event else "message"
    content, sender, sent_at = event.get(kind), event.get("sender"), _moment(event.get("timestamp"))
    if not isinstance(content, dict) or content.get("is_echo") or content.get("is_deleted"):
        return None
    # Somebody of the checkbox plugin has a user_ref alone; there is nobody to write to.
    who = sender.get("id") if isinstance(sender, dict) else None
    if not _is_text(who):
        return None
    if sent_at is None or not (_is_text(content.get("mid")) or kind == "postback"):
        logger.warning("An event of Messenger has no documented shape; it is left out.")
        return None
    if time.time() - sent_at > _WINDOW:
        logger.warning("A message on Messenger is older than 24 hours; it cannot be answered.")
        return None
    message_id = content.get("mid") or _mark(event)
    if kind == "postback":
        title, payload = _text_of(content.get("title")), _text_of(content.get("payload"))
        if payload == _GET_STARTED:
            title, payload = _GREETING, ""
        return Incoming(message_id, str(who), title, choice=payload, order=sent_at)
    reply = content.get("quick_reply")
    text = _text_of(content.get("text"))
    return Incoming(
        message_id,
        str(who),
        text,
        choice=_text_of(reply.get("payload")) if isinstance(reply, dict) else "",
        # A link that somebody writes comes with an attachment, too; then there are words.
        unreadable="media" if content.get("attachments") and not text.strip() else "",
        order=sent_at,
    )


def _mark(event: dict[str, Any]) -> str:
    """Return an id for a postback without one: the same when Meta sends it again."""
    return "postback-" + hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()


def _moment(timestamp: Any) -> float | None:
    """Return Unix time in seconds; Meta writes milliseconds, and some events as a string."""
    try:
        value = float(timestamp)
    except (TypeError, ValueError, OverflowError):
        return None
    if not 0 < value < 1e15:
        return None
    return value / 1000 if value > 1e11 else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _words(words: str, choices: tuple[Choice, ...]) -> dict[str, Any]:
    """Return a message: with buttons where they fit, with quick replies where they don't."""
    if not choices:
        return {"text": words}
    if len(choices) <= _BUTTONS and len(words) <= _TEXT_WITH_BUTTONS:
        buttons = [
            {"type": "postback", "title": choice.title, "payload": choice.id} for choice in choices
        ]
        payload = {"template_type": "button", "text": words, "buttons": buttons}
        return {"attachment": {"type": "template", "payload": payload}}
    replies = [
        {"content_type": "text", "title": choice.title, "payload": choice.id} for choice in choices
    ]
    return {"text": words, "quick_replies": replies}


def _with_address(words: str, address: str) -> str:
    longer = f"{words}\n{address}".strip()
    return longer if len(longer) <= _LIMITS.text else words


def _code(answer: ApiAnswer) -> tuple[int | None, int | None]:
    """Return code and subcode of an error."""
    error = answer.body.get("error")
    if not isinstance(error, dict):
        return None, None
    code, subcode = error.get("code"), error.get("error_subcode")
    return (
        code if isinstance(code, int) else None,
        subcode if isinstance(subcode, int) else None,
    )


def _error(answer: ApiAnswer) -> PlatformError:
    """Return what an error means. Its words are not passed on: they may repeat what was sent."""
    code, subcode = _code(answer)
    told = f"Messenger answered {answer.status}, error {code}/{subcode}"
    if code is None:
        return PlatformError(f"Messenger answered {answer.status} without a message id")
    if code in _TOO_MANY:
        return PlatformError(f"{told}: too many calls", _RATE_PAUSE)
    if subcode in _WINDOW_SUBCODES:
        return PlatformError(f"{told}: the last message is older than 24 hours", permanent=True)
    if code in _GONE or subcode in _GONE_SUBCODES:
        return PlatformError(f"{told}: the patient cannot be reached", permanent=True)
    if code in _REFUSED:
        return _RefusedError(told, permanent=True)
    if code in _TOKEN:
        # The office can put this right within the hours for which an answer is kept.
        return PlatformError(f"{told}: see `assistant channels check messenger`")
    return PlatformError(told)


def _listed(answer: ApiAnswer) -> list[dict[str, Any]]:
    data = answer.body.get("data")
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
