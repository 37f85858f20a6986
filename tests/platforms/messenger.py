"""A stand-in for Messenger: Meta's webhook calls, and the part of the Graph API that we use.

Sources, all at https://developers.facebook.com/docs/:
- graph-api/webhooks/getting-started: verification by GET, X-Hub-Signature-256, escaped Unicode, batches.
- messenger-platform/reference/webhook-events/: messages, message-echoes, messaging_postbacks,
  message-reads, message-deliveries, message-edits, standby.
- messenger-platform/reference/send-api, .../send-messages/quick-replies (13, 20 characters, payload of
  1,000), .../buttons/postback (20, 1,000), .../template/button (1-3 buttons, 640 characters).
- messenger-platform/error-codes, graph-api/guides/error-handling, graph-api/overview/rate-limiting.
- graph-api/guides/secure-requests: appsecret_proof.
- graph-api/reference/app/subscriptions, graph-api/reference/page/subscribed_apps.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from typing import Any

import httpx
from aiohttp import web

from tests.platforms.stand_in import Refusal, Sent, StandIn

APP_SECRET = "5f0c3f9d1b7e4a8290c6d3e1f7a8b9c0"
PAGE_TOKEN = "EAAGm0PX4ZCpsBAKbIaZCdEfGhIjKlMnOpQrStUvWxYz"
VERIFY_TOKEN = "moonbeam-acupuncture-verifies"
PAGE = "682498302938465"
APP = "1517776481860111"
VERSION = "v25.0"

ENVIRONMENT = {
    "MESSENGER_APP_SECRET": APP_SECRET,
    "MESSENGER_PAGE_TOKEN": PAGE_TOKEN,
    "MESSENGER_VERIFY_TOKEN": VERIFY_TOKEN,
}

Event = dict[str, Any]


def signature(body: bytes, secret: str = APP_SECRET) -> str:
    """Return X-Hub-Signature-256 of a body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def as_body(payload: dict[str, Any]) -> bytes:
    """Write JSON as Meta does: no character beyond ASCII, and slashes escaped."""
    text = json.dumps(payload, ensure_ascii=True, separators=(",", ":"))
    return text.replace("/", "\\/").encode()


def event(sender: str, timestamp: float | None = None, **kind: Any) -> Event:
    """One entry of `messaging`: who, when (Unix time), and one of `message`, `postback`, ..."""
    moment = int(1000 * (time.time() if timestamp is None else timestamp))
    return {
        "sender": {"id": sender},
        "recipient": {"id": PAGE},
        "timestamp": moment,
        **kind,
    }


def mid() -> str:
    """A message id as Meta makes them."""
    return f"m_{secrets.token_urlsafe(48)}"


def text_event(
    sender: str, text: str, message_id: str = "", timestamp: float | None = None
) -> Event:
    """What comes when somebody writes."""
    return event(sender, timestamp, message={"mid": message_id or mid(), "text": text})


def quick_reply_event(sender: str, title: str, payload: str) -> Event:
    """What comes when somebody taps a quick reply."""
    return event(sender, message={"mid": mid(), "text": title, "quick_reply": {"payload": payload}})


def postback_event(sender: str, title: str, payload: str) -> Event:
    """What comes when somebody presses a button of a template."""
    return event(sender, postback={"mid": mid(), "title": title, "payload": payload})


def media_event(sender: str, kind: str = "image", text: str = "") -> Event:
    """What comes with a picture, a voice message, a sticker, ..."""
    attachment: dict[str, Any] = {
        "type": kind,
        "payload": {"url": "https://scontent.example/photo.jpg"},
    }
    if kind == "sticker":
        attachment["payload"]["sticker_id"] = 369239263222822
    message: dict[str, Any] = {"mid": mid(), "attachments": [attachment]}
    if text:
        message["text"] = text
    return event(sender, message=message)


def echo_event(recipient: str, text: str = "", image: bool = False) -> Event:
    """What comes when the page itself has written, if somebody subscribed to that."""
    message: dict[str, Any] = {"is_echo": True, "app_id": int(APP), "mid": mid()}
    if image:
        message["attachments"] = [{"type": "image", "payload": {"url": "https://x.example/a.png"}}]
    else:
        message["text"] = text
    return {
        "sender": {"id": PAGE},
        "recipient": {"id": recipient},
        "timestamp": int(1000 * time.time()),
        "message": message,
    }


def other_events(sender: str) -> list[Event]:
    """What is no message: reads, deliveries, reactions, edits, ..."""
    return [
        event(sender, read={"watermark": 1458668856253}),
        event(sender, delivery={"mids": [mid()], "watermark": 1458668856253}),
        event(sender, reaction={"reaction": "love", "action": "react", "mid": mid()}),
        event(sender, message_edit={"mid": mid(), "text": "I meant Friday", "num_edit": 1}),
        event(sender, referral={"ref": "flyer", "source": "SHORTLINK", "type": "OPEN_THREAD"}),
        event(sender, optin={"type": "notification_messages", "payload": "x"}),
        event(sender, pass_thread_control={"new_owner_app_id": APP}),
    ]


def batch(*events: Event) -> dict[str, Any]:
    """One call's payload: all events in one entry."""
    return {"object": "page", "entry": [entry(*events)]}


def entry(*events: Event) -> dict[str, Any]:
    """One entry of a payload."""
    return {"id": PAGE, "time": int(1000 * time.time()), "messaging": list(events)}


class MessengerStandIn(StandIn):
    """Meta's side: calls the webhook, and takes what is sent with the Send API.

    Attributes:
        window_closed: recipients who wrote more than 24 hours ago.
        images: whether pictures can be fetched from their addresses.
        callback_url, page_fields: how the webhook is set up in the app and for the page.
    """

    name = "messenger"

    def __init__(self) -> None:
        super().__init__()
        self.window_closed: set[str] = set()
        self.images = True
        self.callback_url = ""
        self.app_fields = ["messages", "messaging_postbacks"]
        self.page_fields = ["messages", "messaging_postbacks"]
        self.rate_limited_as_400 = False

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a server that talks to this stand-in."""
        return {**ENVIRONMENT, "MESSENGER_API_URL": self.url}

    # Calls of the webhook.

    def post(
        self,
        url: str,
        payload: dict[str, Any],
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> httpx.Response:
        """Call the webhook, signed.

        Args:
            url: its address.
            payload: what is signed.
            headers: take the place of ours; a value of "" leaves the header out.
            body: sent in place of what was signed.
        """
        signed = as_body(payload)
        given = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature": "sha1=" + hmac.new(APP_SECRET.encode(), signed, "sha1").hexdigest(),
            "X-Hub-Signature-256": signature(signed),
            **(headers or {}),
        }
        given = {name: value for name, value in given.items() if value}
        return httpx.post(url, content=signed if body is None else body, headers=given, timeout=30)

    # The Graph API.

    def forget(self) -> None:
        super().forget()
        self.window_closed.clear()
        self.images = True
        self.rate_limited_as_400 = False

    def busy(self) -> Refusal:
        error = _error(4, "(#4) Application request limit reached", "OAuthException")
        if self.rate_limited_as_400:
            return Refusal(400, _error(613, "Calls to this api have exceeded the rate limit."))
        return Refusal(429, error, {"Retry-After": str(self.retry_after)})

    def broken(self) -> Refusal:
        return Refusal(
            500, _error(2, "An unexpected error has occurred. Please retry your request later.")
        )

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/{version}/me/messages", self._send),
            web.get("/{version}/me", self._me),
            web.get("/{version}/app", self._app),
            web.get("/{version}/{app}/subscriptions", self._subscriptions),
            web.get("/{version}/{page}/subscribed_apps", self._subscribed_apps),
        ]

    async def _send(self, request: web.Request) -> web.Response:
        self._admit(request)
        body = json.loads(await request.read())
        fault = _fault_of(body)
        if fault:
            self.complaints.append(fault)
            raise Refusal(400, _error(100, f"(#100) {fault}", "OAuthException"))
        recipient = body["recipient"]["id"]
        if recipient in self.unreachable:
            raise Refusal(
                400, _error(551, "(#551) This person isn't available right now.", subcode=1545041)
            )
        if recipient in self.window_closed:
            message = "(#10) This message is sent outside of allowed window."
            raise Refusal(400, _error(10, message, subcode=2018278))
        sent = _as_sent(body)
        if sent.image and not self.images:
            raise Refusal(
                400, _error(100, "(#100) Failed to fetch the file from the url", subcode=2018008)
            )
        self.sent.append(sent)
        return web.json_response({"recipient_id": recipient, "message_id": mid()})

    def _admit(self, request: web.Request, token: str = PAGE_TOKEN) -> None:
        if request.match_info["version"] != VERSION:
            raise Refusal(400, _error(2635, "You are calling a deprecated version of the API."))
        if request.query.get("access_token") != token:
            raise Refusal(400, _error(190, "Invalid OAuth access token.", "OAuthException"))
        if "|" in token:
            return
        proof = hmac.new(APP_SECRET.encode(), token.encode(), hashlib.sha256).hexdigest()
        if request.query.get("appsecret_proof") != proof:
            message = "Invalid appsecret_proof provided in the API argument"
            raise Refusal(400, _error(100, message, "GraphMethodException"))

    async def _me(self, request: web.Request) -> web.Response:
        self._admit(request)
        return web.json_response({"id": PAGE, "name": "Moonbeam Acupuncture"})

    async def _app(self, request: web.Request) -> web.Response:
        self._admit(request)
        return web.json_response({"id": APP, "name": "Moonbeam assistant"})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        self._admit(request, f"{APP}|{APP_SECRET}")
        data = [
            {
                "object": "page",
                "callback_url": self.callback_url,
                "active": True,
                "fields": [{"name": name, "version": VERSION} for name in self.app_fields],
            }
        ]
        return web.json_response({"data": data if self.callback_url else []})

    async def _subscribed_apps(self, request: web.Request) -> web.Response:
        self._admit(request)
        if request.match_info["page"] != PAGE:
            raise Refusal(400, _error(100, "Unsupported get request."))
        data = [{"id": APP, "name": "Moonbeam assistant", "subscribed_fields": self.page_fields}]
        return web.json_response({"data": data if self.page_fields else []})


def _error(
    code: int, message: str, kind: str = "OAuthException", subcode: int | None = None
) -> dict[str, Any]:
    error: dict[str, Any] = {"message": message, "type": kind, "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": {**error, "fbtrace_id": "BLBz/WZt8dN"}}


def _fault_of(body: Any) -> str:
    """Return what the Send API would refuse in a call; "" if nothing."""
    if set(body) != {"recipient", "messaging_type", "message"}:
        return f"unexpected fields: {sorted(body)}"
    if body["messaging_type"] != "RESPONSE":
        return "the 24 hour window is for RESPONSE alone"
    if set(body["recipient"]) != {"id"} or not str(body["recipient"]["id"]).isdigit():
        return "recipient[id] is no page-scoped id"
    message = body["message"]
    if not message or set(message) - {"text", "attachment", "quick_replies"}:
        return f"unexpected parts of a message: {sorted(message)}"
    if ("text" in message) == ("attachment" in message):
        return "a message is either text or an attachment"
    if "text" in message and not 1 <= len(message["text"].strip()) <= len(message["text"]) <= 2000:
        return "Length of param message[text] must be less than or equal to 2000"
    if "quick_replies" in message:
        return _quick_replies_fault(message["quick_replies"])
    return _attachment_fault(message["attachment"]) if "attachment" in message else ""


def _quick_replies_fault(replies: Any) -> str:
    if not isinstance(replies, list) or not 1 <= len(replies) <= 13:
        return "message[quick_replies] are 1 to 13"
    for reply in replies:
        if set(reply) != {"content_type", "title", "payload"} or reply["content_type"] != "text":
            return "a quick reply has a content_type, a title and a payload"
        if not 1 <= len(reply["title"]) <= 20:
            return "the title of a quick reply has 1 to 20 characters"
        if not 1 <= len(reply["payload"]) <= 1000:
            return "the payload of a quick reply has 1 to 1000 characters"
    if len({reply["payload"] for reply in replies}) < len(replies):
        return "two quick replies have one payload"
    return ""


def _attachment_fault(attachment: Any) -> str:
    payload = attachment["payload"]
    if attachment["type"] == "image":
        fine = str(payload.get("url", "")).startswith(("https://", "http://"))
        return "" if fine else "an image has an address"
    if attachment["type"] != "template" or payload.get("template_type") != "button":
        return "unknown attachment"
    if set(payload) != {"template_type", "text", "buttons"}:
        return "a button template has text and buttons"
    if not 1 <= len(payload["text"]) <= 640:
        return "(#105) the text of a button template has 1 to 640 characters"
    if not 1 <= len(payload["buttons"]) <= 3:
        return "(#105) param name_placeholder[buttons] has too many elements."
    for button in payload["buttons"]:
        if set(button) != {"type", "title", "payload"} or button["type"] != "postback":
            return "a button has a type, a title and a payload"
        if not (1 <= len(button["title"]) <= 20 and 1 <= len(button["payload"]) <= 1000):
            return "a button's title has 1 to 20 characters, its payload 1 to 1000"
    return ""


def _as_sent(body: dict[str, Any]) -> Sent:
    message = body["message"]
    payload = message.get("attachment", {}).get("payload", {})
    buttons = payload.get("buttons") or message.get("quick_replies") or []
    return Sent(
        recipient=body["recipient"]["id"],
        text=message.get("text") or payload.get("text", ""),
        choices=tuple((button["payload"], button["title"]) for button in buttons),
        image=payload.get("url", ""),
        body=body,
    )
