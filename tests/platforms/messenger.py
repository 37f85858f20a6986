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
from typing import Any, ClassVar

from aiohttp import web

from tests.platforms.base import Fault, Sent, StandIn, WebhookCall, Written, fresh_number

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


def length(text: str) -> int:
    """Return the length in UTF-16 units, as nobody at Meta says what is counted: an emoji is two."""
    return len(text.encode("utf-16-le")) // 2


def signed(payload: dict[str, Any], secret: str = APP_SECRET) -> WebhookCall:
    """Return a call of the webhook."""
    body = as_body(payload)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "facebookexternalua",
        "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": signature(body, secret),
    }
    return WebhookCall("/webhooks/messenger", headers, body)


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
        callback_url, app_fields, page_fields: how the webhook is set up in the app and for the page.
    """

    name: ClassVar[str] = "messenger"
    signature_header: ClassVar[str] = "X-Hub-Signature-256"
    batches: ClassVar[bool] = True
    orders: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.window_closed: set[str] = set()
        self.images = True
        self.callback_url = ""
        self.app_fields = ["messages", "messaging_postbacks"]
        self.page_fields = ["messages", "messaging_postbacks"]
        self._began = time.time()

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "MESSENGER_API_URL": self.url}

    def new_sender(self) -> str:
        return str(7_382_917_364_000_000 + fresh_number())

    # Calls of the webhook.

    def calls(
        self, *written: Written, at: float | None = None, secret: str | None = None
    ) -> list[WebhookCall]:
        events = [self._event(message) for message in written]
        return [signed(batch(*events), secret or APP_SECRET)]

    def other_calls(self, sender: str) -> list[WebhookCall]:
        echoes = [echo_event(sender, "We are open from nine."), echo_event(sender, image=True)]
        old = text_event(sender, "hours", timestamp=time.time() - 25 * 3600)
        elsewhere = {**batch(text_event(sender, "hours")), "object": "instagram"}
        standby = {
            "object": "page",
            "entry": [{"id": PAGE, "standby": [text_event(sender, "hours")]}],
        }
        payloads = [batch(event) for event in (*other_events(sender), *echoes, old)]
        return [signed(payload) for payload in (*payloads, elsewhere, standby)]

    def is_acknowledged(self, status: int, body: bytes) -> bool:
        return status == 200 and body == b"EVENT_RECEIVED"

    def _event(self, written: Written) -> Event:
        # The order is told by milliseconds.
        moment = self._began + written.order / 1000 if written.order else time.time()
        if written.media:
            made = media_event(written.sender, text=written.text)
        elif written.choice and self._is_button(written.choice):
            made = postback_event(written.sender, written.text, written.choice)
        elif written.choice:
            made = quick_reply_event(written.sender, written.text, written.choice)
        else:
            made = text_event(written.sender, written.text)
        content = made.get("message") or made["postback"]
        content["mid"] = written.message_id or content["mid"]
        return {**made, "timestamp": int(1000 * moment)}

    def _is_button(self, choice: str) -> bool:
        """Whether it was the button of a template, and no quick reply."""
        return any(
            "attachment" in sent.raw["message"] and choice in dict(sent.choices)
            for sent in self.sent
        )

    # The Graph API.

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/{version}/me/messages", self._send)
        router.add_get("/{version}/me", self._me)
        router.add_get("/{version}/app", self._app)
        router.add_get("/{version}/{app}/subscriptions", self._subscriptions)
        router.add_get("/{version}/{page}/subscribed_apps", self._subscribed_apps)

    async def _send(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        recipient = str(body.get("recipient", {}).get("id"))
        if (failure := await self.refusal(recipient)) is not None:
            return failure
        if (refused := _refused(request)) is not None:
            return refused
        if fault := _fault_of(body):
            self.object_to(fault)
            return _error(100, f"(#100) {fault}")
        if recipient in self.blocked:
            return _error(551, "(#551) This person isn't available right now.", subcode=1545041)
        if recipient in self.window_closed:
            message = "(#10) This message is sent outside of allowed window."
            return _error(10, message, subcode=2018278)
        sent = _as_sent(body)
        if sent.image and not self.images:
            return _error(100, "(#100) Failed to fetch the file from the url", subcode=2018008)
        self.take(sent)
        return web.json_response({"recipient_id": recipient, "message_id": mid()})

    async def _me(self, request: web.Request) -> web.Response:
        return _told(request, {"id": PAGE, "name": "Moonbeam Acupuncture"})

    async def _app(self, request: web.Request) -> web.Response:
        return _told(request, {"id": APP, "name": "Moonbeam assistant"})

    async def _subscriptions(self, request: web.Request) -> web.Response:
        data = [
            {
                "object": "page",
                "callback_url": self.callback_url,
                "active": True,
                "fields": [{"name": name, "version": VERSION} for name in self.app_fields],
            }
        ]
        found = {"data": data if self.callback_url else []}
        return _told(request, found, f"{APP}|{APP_SECRET}")

    async def _subscribed_apps(self, request: web.Request) -> web.Response:
        if request.match_info["page"] != PAGE:
            return _error(100, "Unsupported get request.")
        data = [{"id": APP, "name": "Moonbeam assistant", "subscribed_fields": self.page_fields}]
        return _told(request, {"data": data if self.page_fields else []})


def _told(request: web.Request, body: dict[str, Any], token: str = PAGE_TOKEN) -> web.Response:
    refused = _refused(request, token)
    return web.json_response(body) if refused is None else refused


def _refused(request: web.Request, token: str = PAGE_TOKEN) -> web.Response | None:
    """Return what answers a call with the wrong version, token or proof; None if all is right."""
    if request.match_info["version"] != VERSION:
        return _error(2635, "You are calling a deprecated version of the API.")
    if request.query.get("access_token") != token:
        return _error(190, "Invalid OAuth access token.")
    proof = hmac.new(APP_SECRET.encode(), token.encode(), hashlib.sha256).hexdigest()
    if token == PAGE_TOKEN and request.query.get("appsecret_proof") != proof:
        return _error(100, "Invalid appsecret_proof provided in the API argument")
    return None


def error_body(code: int, message: str, subcode: int | None = None) -> dict[str, Any]:
    """Return an error of the Graph API."""
    error: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": {**error, "fbtrace_id": "BLBz/WZt8dN"}}


def _error(code: int, message: str, subcode: int | None = None) -> web.Response:
    return web.json_response(error_body(code, message, subcode), status=400)


TOO_MANY_AS_400 = Fault(
    400,
    body=json.dumps(error_body(613, "Calls to this api have exceeded the rate limit.")).encode(),
)
"""How the Graph API says it, too."""


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
    if "text" in message and not (message["text"].strip() and length(message["text"]) <= 2000):
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
        if not 1 <= length(reply["title"]) <= 20:
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
    if not 1 <= length(payload["text"]) <= 640:
        return "(#105) the text of a button template has 1 to 640 characters"
    if not 1 <= len(payload["buttons"]) <= 3:
        return "(#105) param name_placeholder[buttons] has too many elements."
    for button in payload["buttons"]:
        if set(button) != {"type", "title", "payload"} or button["type"] != "postback":
            return "a button has a type, a title and a payload"
        if not (1 <= length(button["title"]) <= 20 and 1 <= len(button["payload"]) <= 1000):
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
        raw=body,
    )
