"""Telegram: private chats with the office's bot.

What Telegram sends and takes is documented at https://core.telegram.org/bots/api; the sections are named
where they matter. A client of our own: three methods, no network at the start.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from typing import Any, ClassVar
from urllib.parse import urlsplit

from sanic.request import Request

from assistant.channels.messaging.api_client import ApiAnswer, ApiClient
from assistant.channels.messaging.platform import (
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
    # sendMessage: text, 1-4096 characters, with buttons or without.
    text=4096,
    text_with_choices=4096,
    # No section names a number; the Bot API takes 100. More than these fill the screen of a phone.
    choices=20,
    # InlineKeyboardButton names none for text; what is longer than a line of a phone is cut off there.
    choice_title=40,
    # InlineKeyboardButton: callback_data, 1-64 bytes.
    choice_id=64,
)
_CAPTION = 1024  # characters; sendPhoto

_OLDEST = 24 * 3600.0  # seconds; "Getting updates": they are not kept longer than 24 hours
_PORTS = (443, 80, 88, 8443)  # setWebhook: ports currently supported
_UPDATES = ["message", "callback_query"]

_MEDIA = frozenset(
    {
        "animation",
        "audio",
        "checklist",
        "contact",
        "dice",
        "document",
        "game",
        "location",
        "paid_media",
        "photo",
        "poll",
        "sticker",
        "story",
        "venue",
        "video",
        "video_note",
        "voice",
    }
)
"""What a patient can send besides words. Other fields of a message tell of pins, timers ..."""

_GREETING = "Hello"
"""Stands for /start, which Telegram sends for whoever opens the chat for the first time."""


class Telegram(Platform):
    """The office's bot.

    Args:
        token: the bot's, from BotFather.
        secret: what Telegram shows at each call.
        webhook: where Telegram reaches this server.
        api_url: where Telegram is.
        seconds: how long a call may take.
    """

    name: ClassVar[str] = "telegram"
    title: ClassVar[str] = "Telegram"
    limits: ClassVar[Limits] = _LIMITS

    def __init__(self, token: str, secret: str, webhook: str, api_url: str, seconds: float) -> None:
        self._token = token
        self._secret = secret
        self._webhook = webhook
        self._api = ApiClient("Telegram", api_url, seconds)

    @classmethod
    def from_settings(cls, settings: Settings) -> Telegram | None:
        """Return the platform; None without a token."""
        messaging = settings.messaging
        if not messaging.telegram_token:
            return None
        return cls(
            messaging.telegram_token,
            messaging.telegram_secret,
            f"{messaging.public_url}/webhooks/{cls.name}",
            messaging.telegram_api_url,
            messaging.call_seconds,
        )

    def verify(self, request: Request) -> None:
        """Make sure that Telegram sent a request: it shows the secret that the webhook was set with.

        Telegram signs nothing and tells no time outside of the update, so `read` leaves out what is old.

        Raises:
            ForgedRequestError: it did not.
        """
        shown = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "")
        if not shown:
            raise ForgedRequestError("The request does not show the secret.", 401)
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), self._secret.encode()):
            raise ForgedRequestError("The secret is wrong.")

    def read(self, request: Request) -> list[Incoming]:
        """Return the message or the press that an update tells of.

        Left out are edits (the first wording is answered already), groups and channels (the bot speaks
        with one patient at a time), other bots, people who block or unblock us, and messages older than a day.

        Raises:
            UnreadableRequestError: the body is no update.
        """
        try:
            update = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise UnreadableRequestError("The body is not JSON.") from error
        number: Any = update.get("update_id") if isinstance(update, dict) else None
        if not _is_whole(number):
            raise UnreadableRequestError("The body has no update_id.")
        if "message" in update:
            return _message(number, _object(update, "message"))
        if "callback_query" in update:
            return _press(number, _object(update, "callback_query"))
        return []

    async def send(self, recipient: str, outgoing: Outgoing) -> None:
        """Send one message; a picture with a long text takes two calls, the picture first.

        Raises:
            PlatformError: Telegram did not take it, or nobody knows.
        """
        words = outgoing.text or outgoing.image_text
        if outgoing.image:
            one_call = len(words) <= _CAPTION
            caption = words if one_call else outgoing.image_text[:_CAPTION]
            photo: dict[str, Any] = {"chat_id": int(recipient), "photo": outgoing.image}
            if caption:
                photo["caption"] = caption
            if one_call:
                photo |= _keyboard(outgoing)
            answer = await self._call("sendPhoto", photo)
            if answer.status == 400:  # Telegram could not fetch it; the words must arrive
                words = _with_address(words, outgoing.image)
            else:
                _raise_for(answer)
                if one_call:
                    return
        message = {
            "chat_id": int(recipient),
            "text": words,
            # No parse_mode: the text is shown as it is, whatever signs it holds.
            "link_preview_options": {"is_disabled": True},
            **_keyboard(outgoing),
        }
        _raise_for(await self._call("sendMessage", message))

    async def acknowledge_press(self, press: str) -> None:
        """Answer a callback query; until then the patient's app shows a progress bar (CallbackQuery).

        Raises:
            PlatformError: Telegram did not take it.
        """
        _raise_for(await self._call("answerCallbackQuery", {"callback_query_id": press}))

    async def set_webhook(self) -> None:
        """Tell Telegram where to send updates, and the secret to show.

        Raises:
            PlatformError: Telegram did not take it.
        """
        wishes = {"url": self._webhook, "secret_token": self._secret, "allowed_updates": _UPDATES}
        _raise_for(await self._call("setWebhook", wishes))

    async def check(self) -> list[str]:
        """Look whether the token is right, and whether Telegram sends updates to this server."""
        try:
            bot = await self._call("getMe", {})
            if bot.status in (401, 404):
                return [
                    "Telegram does not know TELEGRAM_TOKEN. Copy it from BotFather (/mybots, the bot, "
                    "API Token) and set it."
                ]
            _raise_for(bot)
            info = await self._call("getWebhookInfo", {})
            _raise_for(info)
        except PlatformError as error:
            return [f"{error}. Try again; if it stays so, this machine cannot reach Telegram."]
        return [*self._address_problems(), *self._webhook_problems(info.body.get("result"))]

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _call(self, method: str, arguments: dict[str, Any]) -> ApiAnswer:
        return await self._api.call("POST", f"/bot{self._token}/{method}", json=arguments)

    def _address_problems(self) -> list[str]:
        parts = urlsplit(self._webhook)
        if parts.scheme == "https" and (parts.port or 443) in _PORTS:
            return []
        return [
            f"Telegram sends to https:// and the ports {', '.join(map(str, _PORTS))} alone. Change "
            "PUBLIC_URL to such an address."
        ]

    def _webhook_problems(self, info: Any) -> list[str]:
        if not isinstance(info, dict):
            return ["Telegram did not tell about the webhook. Try again later."]
        set_it = "Run `assistant channels connect telegram`."
        url = info.get("url")
        if not url:
            return [f"Telegram does not know where to send messages. {set_it}"]
        if url != self._webhook:
            return [f"Telegram sends messages to {url} instead of {self._webhook}. {set_it}"]
        problems = []
        allowed = info.get("allowed_updates")
        if isinstance(allowed, list) and not set(_UPDATES) <= set(map(str, allowed)):
            problems.append(f"Telegram was told to hold back messages or presses. {set_it}")
        waiting = info.get("pending_update_count")
        failed_at = info.get("last_error_date")
        recently = isinstance(failed_at, int | float) and time.time() - failed_at < 3600
        if waiting and recently:
            reason = str(info.get("last_error_message", "no reason given"))[:200]
            problems.append(
                f"Telegram has {waiting} messages that it could not hand over: {reason}. If it speaks of "
                f"401 or 403, the secret has changed: {set_it} Else look whether {self._webhook} can be "
                "reached from the internet and its certificate is valid."
            )
        return problems


def _message(number: int, message: dict[str, Any]) -> list[Incoming]:
    chat, sender = _object(message, "chat"), message.get("from")
    if chat.get("type") != "private" or not isinstance(sender, dict) or sender.get("is_bot"):
        return []
    chat_id, message_id, date = chat.get("id"), message.get("message_id"), message.get("date", 0)
    if not all(map(_is_whole, (chat_id, message_id, date))):
        raise UnreadableRequestError("The message has no chat, message_id or date.")
    if time.time() - date > _OLDEST:
        logger.warning("A message on Telegram is older than a day; it is not answered.")
        return []
    text = message.get("text") or message.get("caption") or ""
    media = bool(_MEDIA & set(message))
    if not isinstance(text, str):
        raise UnreadableRequestError("The text is none.")
    if "text" not in message and not media:
        return []  # a pinned message, a changed timer ...
    command = text.split(maxsplit=1)[:1]
    return [
        Incoming(
            # Numbers of updates begin anew somewhere after a quiet week ("Update"), those of messages not.
            message_id=f"{number}-{message_id}",
            sender=str(chat_id),
            text=_GREETING if command == ["/start"] else text,
            unreadable="media" if media and not text.strip() else "",
            order=float(number),
        )
    ]


def _press(number: int, query: dict[str, Any]) -> list[Incoming]:
    message, data, query_id = query.get("message"), query.get("data"), query.get("id")
    if not isinstance(message, dict) or not isinstance(data, str):
        return []  # a button of an inline message or of a game; we have none
    chat = _object(message, "chat")
    if chat.get("type") != "private":
        return []
    if not _is_whole(chat.get("id")) or not isinstance(query_id, str) or not query_id:
        raise UnreadableRequestError("The press has no chat or id.")
    return [
        Incoming(
            message_id=f"press-{query_id}",
            sender=str(chat["id"]),
            text=_title(message, data),
            choice=data,
            order=float(number),
            press=query_id,
        )
    ]


def _title(message: dict[str, Any], data: str) -> str:
    """Return what the pressed button shows; the press itself does not tell."""
    markup = message.get("reply_markup")
    rows = markup.get("inline_keyboard") if isinstance(markup, dict) else None
    for row in rows if isinstance(rows, list) else []:
        for button in row if isinstance(row, list) else []:
            if isinstance(button, dict) and button.get("callback_data") == data:
                title = button.get("text")
                return title if isinstance(title, str) else ""
    return ""


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise UnreadableRequestError(f"{name} is no object.")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 2**63


def _with_address(words: str, address: str) -> str:
    longer = f"{words}\n{address}".strip()
    return longer if len(longer) <= _LIMITS.text else words


def _keyboard(outgoing: Outgoing) -> dict[str, Any]:
    if not outgoing.choices:
        return {}
    rows = [[{"text": choice.title, "callback_data": choice.id}] for choice in outgoing.choices]
    return {"reply_markup": {"inline_keyboard": rows}}


def _raise_for(answer: ApiAnswer) -> None:
    """Raise what an answer means, if it is no success.

    Its words are not passed on: they are not ours, and they may repeat what was sent.
    """
    if answer.status == 200 and answer.body.get("ok") is True:
        return
    if answer.status == 403:  # blocked, deactivated, never started
        raise PlatformError(
            "Telegram answered 403: the patient has blocked the bot", permanent=True
        )
    if answer.status == 400:  # no such chat, or content that it would refuse again
        raise PlatformError("Telegram answered 400 and would do so again", permanent=True)
    if answer.status in (401, 404):
        # The office can put the token right within the hours for which an answer is kept.
        raise PlatformError(f"Telegram answered {answer.status}: it does not know TELEGRAM_TOKEN")
    raise PlatformError(f"Telegram answered {answer.status} without success")
