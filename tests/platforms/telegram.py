"""A stand-in for Telegram: its webhook calls, and the part of the Bot API that we use.

Source: https://core.telegram.org/bots/api, sections setWebhook (secret_token, allowed_updates, ports),
Update, Message, CallbackQuery, InlineKeyboardButton (callback_data of 1-64 bytes), sendMessage (1-4096
characters), sendPhoto (caption of 1024), answerCallbackQuery, getWebhookInfo, ResponseParameters
(retry_after). The wording of errors is the Bot API server's own
(https://github.com/tdlib/telegram-bot-api) as its clients quote it.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any, ClassVar

from aiohttp import web

from tests.platforms.base import (
    Fault,
    Sent,
    StandIn,
    WebhookCall,
    Written,
    as_json,
    fresh_number,
)

TOKEN = "123456789:AAF1x2y3z4-wIvOtDkq7PnRmQeLsJhGfDbC"
SECRET = "moonbeam_9f8e7d6c5b4a3f2e1d0c"
BOT = 123456789

ENVIRONMENT = {"TELEGRAM_TOKEN": TOKEN, "TELEGRAM_SECRET": SECRET}

Update = dict[str, Any]

_update_ids = itertools.count(761_325_000)
_message_ids = itertools.count(4_000)


def chat_of(sender: str) -> dict[str, Any]:
    """A private chat; its id is the user's."""
    return {
        "id": int(sender),
        "type": "private",
        "first_name": "Ana",
        "username": "ana_placeholder",
    }


def user(sender: str) -> dict[str, Any]:
    """A user."""
    return {"id": int(sender), "is_bot": False, "first_name": "Ana", "language_code": "en"}


def update(update_id: int | None = None, **kind: Any) -> Update:
    """An update with the next number, or one of one's own."""
    return {"update_id": next(_update_ids) if update_id is None else update_id, **kind}


def message(sender: str, date: float | None = None, **content: Any) -> dict[str, Any]:
    """A message in a private chat, sent now or at a Unix time."""
    return {
        "message_id": next(_message_ids),
        "from": user(sender),
        "chat": chat_of(sender),
        "date": int(time.time() if date is None else date),
        **content,
    }


def text_update(
    sender: str, text: str, update_id: int | None = None, date: float | None = None
) -> Update:
    """What comes when somebody writes."""
    return update(update_id, message=message(sender, date, text=text))


def press_update(sender: str, title: str, data: str, query_id: str = "") -> Update:
    """What comes when somebody presses a button under a message of ours."""
    return update(
        callback_query={
            "id": query_id or str(4_382_000_000_000_000_000 + next(_message_ids)),
            "from": user(sender),
            "message": {
                "message_id": next(_message_ids),
                "from": {"id": BOT, "is_bot": True, "first_name": "Moonbeam"},
                "chat": chat_of(sender),
                "date": int(time.time()),
                "text": "What would you like to know?",
                "reply_markup": {"inline_keyboard": [[{"text": title, "callback_data": data}]]},
            },
            "chat_instance": "-3778102918273645",
            "data": data,
        }
    )


PHOTO = {
    "photo": [
        {
            "file_id": "AgACAgIAAx",
            "file_unique_id": "AQAD",
            "width": 90,
            "height": 90,
            "file_size": 900,
        }
    ]
}
VOICE = {"voice": {"file_id": "AwACAgIAAx", "file_unique_id": "AgAD", "duration": 3}}
STICKER = {
    "sticker": {
        "file_id": "CAACAgIAAx",
        "file_unique_id": "AgAE",
        "type": "regular",
        "width": 512,
        "height": 512,
        "is_animated": False,
        "is_video": False,
    }
}
LOCATION = {"location": {"latitude": 45.5, "longitude": -122.6}}


def media_update(sender: str, **content: Any) -> Update:
    """What comes with a photo, a voice message, ... (`PHOTO`, `VOICE`, ...)."""
    return update(message=message(sender, **(content or PHOTO)))


def other_updates(sender: str) -> list[Update]:
    """What is no message of a patient: edits, blocking, groups, channels, other bots, services."""
    group = {"id": -100123456, "type": "supergroup", "title": "Neighbors"}
    edited = {**message(sender, text="I meant Friday"), "edit_date": int(time.time())}
    member = {"user": {"id": BOT, "is_bot": True, "first_name": "Moonbeam"}}
    blocked = {
        "chat": chat_of(sender),
        "from": user(sender),
        "date": int(time.time()),
        "old_chat_member": {**member, "status": "member"},
        "new_chat_member": {**member, "status": "kicked", "until_date": 0},
    }
    from_bot = message(sender, text="hours")
    from_bot["from"] = {**from_bot["from"], "is_bot": True}
    return [
        update(edited_message=edited),
        update(my_chat_member=blocked),
        update(message={**message(sender, text="hours"), "chat": group}),
        update(
            channel_post={**message(sender, text="hours"), "chat": {**group, "type": "channel"}}
        ),
        update(message=from_bot),
        update(message=message(sender, pinned_message=message(sender, text="hours"))),
        update(poll={"id": "1", "question": "hours?", "options": []}),
        update(message_reaction={"chat": chat_of(sender), "message_id": 1, "date": 1}),
        update(inline_query={"id": "1", "from": user(sender), "query": "hours", "offset": ""}),
    ]


def signed(payload: Update, secret: str = SECRET) -> WebhookCall:
    """Return a call of the webhook; it shows the secret, and nothing is signed."""
    headers = {"Content-Type": "application/json", "X-Telegram-Bot-Api-Secret-Token": secret}
    return WebhookCall("/webhooks/telegram", headers, as_json(payload))


class RefusalError(Exception):
    """The Bot API refuses a call."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


class TelegramStandIn(StandIn):
    """Telegram's side: calls the webhook, and is the Bot API.

    Attributes:
        answered: ids of callback queries that were answered.
        images: whether photos can be fetched from their addresses.
        webhook: what getWebhookInfo tells.
        webhook_secret: the secret_token that the webhook was set with.
    """

    name: ClassVar[str] = "telegram"
    signature_header: ClassVar[str] = "X-Telegram-Bot-Api-Secret-Token"
    orders: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.answered: list[str] = []
        self.images = True
        self.webhook: dict[str, Any] = {
            "url": "",
            "has_custom_certificate": False,
            "pending_update_count": 0,
        }
        self.webhook_secret = ""

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "TELEGRAM_API_URL": self.url}

    def new_sender(self) -> str:
        return str(5_901_000_000 + fresh_number())

    # Calls of the webhook.

    def calls(
        self, *written: Written, at: float | None = None, secret: str | None = None
    ) -> list[WebhookCall]:
        return [signed(self._update(message), secret or SECRET) for message in written]

    def other_calls(self, sender: str) -> list[WebhookCall]:
        old = text_update(sender, "hours", date=time.time() - 25 * 3600)
        return [signed(other) for other in (*other_updates(sender), old)]

    def _update(self, written: Written) -> Update:
        if written.choice:
            made = press_update(written.sender, written.text, written.choice)
        elif written.media:
            caption = {"caption": written.text} if written.text else {}
            made = media_update(written.sender, **PHOTO, **caption)
        else:
            made = text_update(written.sender, written.text)
        if written.order:
            made["update_id"] = 761_000_000 + written.order
        return made

    # The Bot API.

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/bot{token}/{method}", self._call)

    async def _call(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        name = request.match_info["method"]
        failure = await self.refusal(str(body.get("chat_id"))) if name.startswith("send") else None
        if failure is not None:
            return failure
        methods = {
            "sendMessage": self._send_message,
            "sendPhoto": self._send_photo,
            "answerCallbackQuery": self._answer,
            "getMe": self._get_me,
            "getWebhookInfo": self._get_webhook_info,
            "setWebhook": self._set_webhook,
        }
        try:
            if request.match_info["token"] != TOKEN:
                raise RefusalError(401, "Unauthorized")
            if name not in methods:
                raise RefusalError(404, "Not Found")
            return web.json_response({"ok": True, "result": methods[name](body)})
        except RefusalError as refused:
            return web.json_response(
                {"ok": False, "error_code": refused.code, "description": refused.description},
                status=refused.code,
            )

    def _send_message(self, body: dict[str, Any]) -> dict[str, Any]:
        self._expect(body, {"chat_id", "text"}, {"reply_markup", "link_preview_options"})
        # The API counts UTF-16 units in entities and does not say what it counts in a text.
        text = body["text"]
        if not text.strip():
            raise self._complain("Bad Request: message text is empty")
        if length(text) > 4096:
            raise self._complain("Bad Request: message is too long")
        return self._taken(body, Sent(str(body["chat_id"]), text, self._buttons(body), raw=body))

    def _send_photo(self, body: dict[str, Any]) -> dict[str, Any]:
        self._expect(body, {"chat_id", "photo"}, {"reply_markup", "caption"})
        caption = body.get("caption", "")
        if length(caption) > 1024:
            raise self._complain("Bad Request: message caption is too long")
        if not body["photo"].startswith(("https://", "http://")) or not self.images:
            raise RefusalError(400, "Bad Request: failed to get HTTP URL content")
        sent = Sent(str(body["chat_id"]), caption, self._buttons(body), body["photo"], raw=body)
        return self._taken(body, sent)

    def _taken(self, body: dict[str, Any], sent: Sent) -> dict[str, Any]:
        if not isinstance(body["chat_id"], int):
            raise self._complain("Bad Request: chat_id is empty")
        if sent.recipient in self.blocked:
            raise RefusalError(403, "Forbidden: bot was blocked by the user")
        self.take(sent)
        return {
            "message_id": next(_message_ids),
            "from": {"id": BOT, "is_bot": True, "first_name": "Moonbeam"},
            "chat": chat_of(sent.recipient),
            "date": int(time.time()),
            "text": sent.text,
        }

    def _buttons(self, body: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        markup = body.get("reply_markup")
        if markup is None:
            return ()
        if set(markup) != {"inline_keyboard"} or not markup["inline_keyboard"]:
            raise self._complain("Bad Request: object expected as reply markup")
        buttons = [button for row in markup["inline_keyboard"] for button in row]
        for button in buttons:
            if set(button) != {"text", "callback_data"} or not button["text"].strip():
                raise self._complain("Bad Request: can't parse inline keyboard button")
            if not 1 <= len(button["callback_data"].encode()) <= 64:
                raise self._complain("Bad Request: BUTTON_DATA_INVALID")
        if len(buttons) > 100:
            raise self._complain("Bad Request: reply markup is too long")
        return tuple((button["callback_data"], button["text"]) for button in buttons)

    def _answer(self, body: dict[str, Any]) -> bool:
        self._expect(body, {"callback_query_id"}, set())
        query = body["callback_query_id"]
        if query in self.answered or not query.isdigit():
            raise RefusalError(
                400,
                "Bad Request: query is too old and response timeout expired or query ID is invalid",
            )
        self.answered.append(query)
        return True

    def _get_me(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": BOT,
            "is_bot": True,
            "first_name": "Moonbeam",
            "username": "moonbeam_bot",
            "can_join_groups": False,
        }

    def _get_webhook_info(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.webhook

    def _set_webhook(self, body: dict[str, Any]) -> bool:
        self._expect(body, {"url", "secret_token", "allowed_updates"}, set())
        if not body["url"].startswith("https://"):
            raise RefusalError(
                400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook"
            )
        self.webhook = {
            "url": body["url"],
            "has_custom_certificate": False,
            "pending_update_count": 0,
            "allowed_updates": body["allowed_updates"],
        }
        self.webhook_secret = body["secret_token"]
        return True

    def _expect(self, body: dict[str, Any], needed: set[str], allowed: set[str]) -> None:
        """Refuse what is missing, and what we never mean to send: `parse_mode`, for one."""
        if not needed <= set(body) <= needed | allowed:
            raise self._complain(f"Bad Request: unexpected parameters {sorted(body)}")

    def _complain(self, description: str) -> RefusalError:
        self.object_to(description)
        return RefusalError(400, description)


TOO_MANY_FOR_SECONDS = Fault(
    429,
    body=as_json(
        {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 7",
            "parameters": {"retry_after": 7},
        }
    ),
)
"""How the Bot API says it: in the body, and without a Retry-After."""


def length(text: str) -> int:
    """Return the length in UTF-16 units, as entities are counted: an emoji is two."""
    return len(text.encode("utf-16-le")) // 2
