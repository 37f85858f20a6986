"""SMS and WhatsApp by Twilio.

Wire format: https://www.twilio.com/docs/messaging/guides/webhook-request and
https://www.twilio.com/docs/messaging/api/message-resource. Twilio signs no time, so a request that
comes again is known by its message's id alone.
"""

from __future__ import annotations

import logging
import re
from typing import ClassVar
from urllib.parse import parse_qsl

import aiohttp
from sanic.request import Request
from sanic.response import HTTPResponse, raw
from twilio.request_validator import RequestValidator

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
from assistant.settings import Messaging, Settings

logger = logging.getLogger(__name__)

_WHATSAPP = "whatsapp:"
_NUMBER = re.compile(r"\+[1-9]\d{6,14}")
_LIMITS = Limits(
    # https://www.twilio.com/docs/api/errors/21617: the body must not exceed 1600 characters.
    text=1600,
    # Buttons need a template that was registered before (Content API), so a list stands in.
    choices=0,
)
_PASSING = frozenset({20001, 20003, 20008, 20403, 20404, 20429, 14107, 30001, 30022, 63018, 63038})
"""Errors that are ours to mend or pass by themselves: wrong credentials, queues, rates.

https://www.twilio.com/docs/api/errors describes each.
"""


class Twilio(Platform):
    """SMS and WhatsApp; each is on if it has a number.

    Senders are phone numbers, those on WhatsApp with `whatsapp:` before them, as Twilio names them.
    """

    name: ClassVar[str] = "twilio"
    title: ClassVar[str] = "Text message and WhatsApp"
    limits: ClassVar[Limits] = _LIMITS

    def __init__(self, settings: Messaging) -> None:
        self._account = settings.twilio_account_sid
        self._numbers = {
            "": settings.twilio_sms_number,
            _WHATSAPP: settings.twilio_whatsapp_number,
        }
        self._public_url = settings.public_url
        self._validator = RequestValidator(settings.twilio_auth_token)
        self._api = ApiClient(
            "Twilio",
            settings.twilio_api_url,
            settings.call_seconds,
            auth=aiohttp.BasicAuth(self._account, settings.twilio_auth_token),
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Twilio | None:
        """Return the platform; None without its secrets."""
        return cls(settings.messaging) if settings.messaging.twilio_auth_token else None

    def verify(self, request: Request) -> None:
        """Check X-Twilio-Signature over our public address and all fields.

        https://www.twilio.com/docs/usage/security#validating-requests

        Raises:
            ForgedRequestError: Twilio did not sign this, or for another account.
        """
        signature = request.headers.get("x-twilio-signature", "")
        if not signature:
            raise ForgedRequestError("There is no X-Twilio-Signature.", 401)
        query = f"?{request.query_string}" if request.query_string else ""
        address = f"{self._public_url}{request.path}{query}"
        fields = _Fields(_pairs(request))
        if not signature.isascii() or not self._validator.validate(address, fields, signature):
            raise ForgedRequestError(
                "X-Twilio-Signature does not fit. If Twilio sent this, compare PUBLIC_URL and "
                "TWILIO_AUTH_TOKEN with what Twilio's console shows."
            )
        if fields.first("AccountSid") != self._account:
            raise ForgedRequestError("The request is for another account.")

    def read(self, request: Request) -> list[Incoming]:
        """Return the message of a request, if it is one to us.

        Raises:
            UnreadableRequestError: a field that Twilio always sends is missing.
        """
        fields = _Fields(_pairs(request))
        if fields.first("MessageStatus") or fields.first("SmsStatus") not in ("", "received"):
            return []  # what became of a message of ours
        if fields.first("OptOutType"):
            return []  # Twilio has answered STOP, START or HELP itself
        message_id = fields.first("MessageSid") or fields.first("SmsMessageSid")
        sender, to = fields.first("From"), fields.first("To")
        if not message_id or not sender or not to:
            raise UnreadableRequestError("MessageSid, From or To is missing.")
        prefix = _WHATSAPP if sender.startswith(_WHATSAPP) else ""
        phone = sender.removeprefix(prefix)
        if to != f"{prefix}{self._numbers[prefix]}":
            logger.warning(
                "A message to another number than ours is left out; see docs/channels.md."
            )
            return []
        if not _NUMBER.fullmatch(phone) or phone in self._numbers.values():
            return []  # a short code or a name, which takes no answer, or ourselves
        text = fields.first("Body")
        return [
            Incoming(
                message_id,
                sender,
                text,
                phone=phone,
                unreadable="" if text.strip() else "media" if _has_media(fields) else "",
            )
        ]

    def acknowledge(self, request: Request) -> HTTPResponse:
        """Return TwiML that says nothing: the answer is sent by the API."""
        return raw(b"<Response/>", content_type="text/xml; charset=utf-8")

    def channel_of(self, sender: str) -> str:
        """Return "whatsapp" or "sms"."""
        return "whatsapp" if sender.startswith(_WHATSAPP) else "sms"

    async def send(self, recipient: str, outgoing: Outgoing) -> None:
        """Send one message.

        Raises:
            PlatformError: it is not sent, or nobody knows.
        """
        prefix = _WHATSAPP if recipient.startswith(_WHATSAPP) else ""
        number = self._numbers[prefix]
        if not number:
            raise PlatformError("Twilio has no number of ours for this channel", permanent=True)
        form = {"To": recipient, "From": f"{prefix}{number}", "Body": outgoing.text}
        if outgoing.image:
            form["MediaUrl"] = outgoing.image
        path = f"/2010-04-01/Accounts/{self._account}/Messages.json"
        answer = await self._api.call("POST", path, data=form)
        if answer.status >= 300 or not answer.body.get("sid"):
            raise _error(answer)

    async def check(self) -> list[str]:
        """Look whether Twilio knows the account and our number, and calls the right address.

        Where WhatsApp messages go can be seen in Twilio's console alone.
        """
        path = f"/2010-04-01/Accounts/{self._account}"
        try:
            account = await self._api.call("GET", f"{path}.json")
            if account.status == 401:
                return [
                    "Twilio does not accept TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN; copy both "
                    "again from the first page of Twilio's console."
                ]
            if account.body.get("status") != "active":
                return ["Twilio says that the account is not active; see Twilio's console."]
            return await self._problems_of_number(path) if self._numbers[""] else []
        except PlatformError as error:
            return [f"Twilio cannot be asked: {error}. Try again in a minute."]

    async def _problems_of_number(self, path: str) -> list[str]:
        number, address = self._numbers[""], f"{self._public_url}/webhooks/{self.name}"
        answer = await self._api.call(
            "GET", f"{path}/IncomingPhoneNumbers.json", params={"PhoneNumber": number}
        )
        found = [
            entry
            for entry in answer.body.get("incoming_phone_numbers") or []
            if isinstance(entry, dict) and entry.get("phone_number") == number
        ]
        if not found:
            return [f"The account has no number {number}; TWILIO_SMS_NUMBER names another one."]
        entry = found[0]
        problems = []
        if not (entry.get("capabilities") or {}).get("sms"):
            problems.append(f"{number} takes no SMS; choose a number that does.")
        if entry.get("sms_application_sid"):
            problems.append(
                f"{number} hands messages to a TwiML app; choose Webhook in its place, with "
                f"{address}."
            )
        elif entry.get("sms_url") != address or entry.get("sms_method", "POST") != "POST":
            problems.append(
                f"{number} does not call us: in Twilio's console under the number's Messaging "
                f'Configuration set "A message comes in" to Webhook, {address}, HTTP POST. If the '
                "number is in a Messaging Service, set the service to that address."
            )
        return problems

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


class _Fields(dict[str, list[str]]):
    """The fields of a form; each may stand there several times."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in pairs:
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        """Return all values of a field, as the validator asks for them."""
        return self.get(name, [])

    def first(self, name: str) -> str:
        """Return the first value of a field; "" if there is none."""
        return next(iter(self.get(name, [])), "")


def _pairs(request: Request) -> list[tuple[str, str]]:
    """Return the fields of a form, the empty ones too, since they are signed."""
    try:
        return parse_qsl(
            request.body.decode("utf-8"), keep_blank_values=True, errors="strict",
            max_num_fields=200,
        )  # fmt: skip
    except ValueError:
        raise ForgedRequestError("The body is not a form, which Twilio would send.") from None


def _has_media(fields: _Fields) -> bool:
    media = fields.first("NumMedia") not in ("", "0")
    return (
        media or bool(fields.first("Latitude")) or fields.first("MessageType") not in ("", "text")
    )


def _error(answer: ApiAnswer) -> PlatformError:
    code = answer.body.get("code")
    passing = answer.status < 300 or answer.status in (401, 403, 408) or code in _PASSING
    number = code if isinstance(code, int) else "none"
    return PlatformError(f"Twilio answered {answer.status}, code {number}", permanent=not passing)
