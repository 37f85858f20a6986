"""Twilio's stand-in: programmable messaging for SMS and WhatsApp.

Sources: https://www.twilio.com/docs/messaging/guides/webhook-request (the fields of a message),
https://www.twilio.com/docs/usage/security#validating-requests (the signature: HMAC-SHA1 of the
address and all fields in the order of their names),
https://www.twilio.com/docs/messaging/api/message-resource (sending),
https://www.twilio.com/docs/api/errors (codes).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import ClassVar
from urllib.parse import urlencode

from aiohttp import BasicAuth, web

from tests.platforms.base import PUBLIC_URL, Sent, StandIn, WebhookCall, Written, fresh_number

ACCOUNT = "AC" + "0123456789abcdef" * 2
TOKEN = "tw-4f9c1d27ab6e8035"
SMS_NUMBER, WHATSAPP_NUMBER = "+12135550111", "+12135550122"
_MOST = 1600  # characters; error 21617


class TwilioStandIn(StandIn):
    """SMS; `WhatsAppStandIn` adds the prefix."""

    name: ClassVar[str] = "twilio"
    channel: ClassVar[str] = "sms"
    signature_header: ClassVar[str] = "X-Twilio-Signature"
    prefix: ClassVar[str] = ""
    number: ClassVar[str] = SMS_NUMBER
    sms_url = f"{PUBLIC_URL}/webhooks/twilio"  # what the console holds for the number

    @classmethod
    def make(cls) -> list[StandIn]:
        sms = cls()
        return [sms, WhatsAppStandIn(sms)]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TWILIO_ACCOUNT_SID": ACCOUNT,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_SMS_NUMBER": SMS_NUMBER,
            "TWILIO_WHATSAPP_NUMBER": WHATSAPP_NUMBER,
            "TWILIO_API_URL": self.url,
        }

    def new_sender(self) -> str:
        return f"{self.prefix}+1213{7_000_000 + fresh_number()}"

    def calls(
        self, *written: Written, at: float | None = None, secret: str | None = None
    ) -> list[WebhookCall]:
        return [self.signed(self.fields(message), secret) for message in written]

    def fields(self, message: Written) -> dict[str, str]:
        fields = {
            "ToCountry": "US",
            "MessageSid": message.message_id or f"SM{fresh_number():032x}",
            "NumMedia": "1" if message.media else "0",
            "NumSegments": "1",
            "SmsStatus": "received",
            "Body": message.text,
            "From": message.sender,
            "To": f"{self.prefix}{self.number}",
            "AccountSid": ACCOUNT,
            "ApiVersion": "2010-04-01",
        }
        if message.media:
            fields["MediaContentType0"] = "image/jpeg"
            fields["MediaUrl0"] = "https://api.twilio.com/2010-04-01/Accounts/AC/Media/ME1"
        return fields

    def signed(self, fields: dict[str, str], secret: str | None = None) -> WebhookCall:
        path = f"/webhooks/{self.name}"
        text = PUBLIC_URL + path + "".join(name + fields[name] for name in sorted(fields))
        digest = hmac.new((secret or TOKEN).encode(), text.encode(), hashlib.sha1).digest()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            self.signature_header: base64.b64encode(digest).decode(),
            "I-Twilio-Idempotency-Token": f"{fresh_number():08x}",
        }
        return WebhookCall(path, headers, urlencode(fields).encode())

    def other_calls(self, sender: str) -> list[WebhookCall]:
        ours = f"{self.prefix}{self.number}"
        status = {
            "MessageSid": f"SM{fresh_number():032x}",
            "MessageStatus": "delivered",
            "SmsStatus": "delivered",
            "From": ours,
            "To": sender,
            "AccountSid": ACCOUNT,
        }
        stop = {**self.fields(Written(sender, "STOP")), "OptOutType": "STOP"}
        elsewhere = {**self.fields(Written(sender, "hello")), "To": f"{self.prefix}+12135550199"}
        short_code = {**self.fields(Written(f"{self.prefix}74747", "Your code is 123456"))}
        own_echo = self.fields(Written(ours, "hello"))
        return [self.signed(f) for f in (status, stop, elsewhere, short_code, own_echo)]

    def is_acknowledged(self, status: int, body: bytes) -> bool:
        return status == 200 and body == b"<Response/>"

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/2010-04-01/Accounts/{account}/Messages.json", self._take)
        router.add_get("/2010-04-01/Accounts/{account}.json", self._show_account)
        router.add_get(
            "/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", self._show_number
        )

    async def _show_account(self, request: web.Request) -> web.Response:
        if _login(request) != (ACCOUNT, TOKEN):
            return _error(401, 20003, "Authenticate")
        return web.json_response({"sid": ACCOUNT, "status": "active", "type": "Full"})

    async def _show_number(self, request: web.Request) -> web.Response:
        if _login(request) != (ACCOUNT, TOKEN):
            return _error(401, 20003, "Authenticate")
        numbers = [
            {
                "phone_number": SMS_NUMBER,
                "sms_url": self.sms_url,
                "sms_method": "POST",
                "sms_application_sid": "",
                "capabilities": {"voice": True, "sms": True, "mms": True},
            }
        ]
        asked = request.query.get("PhoneNumber", "")
        found = [number for number in numbers if asked in (number["phone_number"], "")]
        return web.json_response({"incoming_phone_numbers": found, "page": 0})

    async def _take(self, request: web.Request) -> web.Response:
        form = await request.post()
        to, body = str(form.get("To", "")), str(form.get("Body", ""))
        if (refusal := await self.refusal(to)) is not None:
            return refusal
        if _login(request) != (ACCOUNT, TOKEN):
            return _error(401, 20003, "Authenticate")
        if request.match_info["account"] != ACCOUNT:
            return _error(404, 20404, "The requested resource was not found")
        prefix = "whatsapp:" if to.startswith("whatsapp:") else ""
        number = WHATSAPP_NUMBER if prefix else SMS_NUMBER
        if form.get("From") != f"{prefix}{number}":
            self.object_to(f"From is {form.get('From')} for a message to {to}")
            return _error(400, 21606, "The 'From' number is not valid")
        if not re.fullmatch(r"\+[1-9]\d{6,14}", to.removeprefix(prefix)):
            self.object_to(f"{to} is no number")
            return _error(400, 21211, "Invalid 'To' Phone Number")
        if not body and not form.get("MediaUrl"):
            self.object_to("a message without text and media")
            return _error(400, 21602, "Message body is required")
        if len(body.encode("utf-16-le")) // 2 > _MOST:
            self.object_to(f"a text of {len(body)} characters")
            return _error(400, 21617, "The concatenated message body exceeds the 1600 characters")
        if unknown := set(form) - {"To", "From", "Body", "MediaUrl"}:
            self.object_to(f"unknown fields {unknown}")
        if to in self.blocked:
            return _error(400, 21610, "Attempt to send to unsubscribed recipient")
        self.take(Sent(to, body, image=str(form.get("MediaUrl", "")), raw=dict(form)))
        sid = f"SM{fresh_number():032x}"
        return web.json_response({"sid": sid, "status": "queued", "to": to}, status=201)


class WhatsAppStandIn(TwilioStandIn):
    """The same account on WhatsApp: one server and one memory with the stand-in for SMS."""

    channel: ClassVar[str] = "whatsapp"
    prefix: ClassVar[str] = "whatsapp:"
    number: ClassVar[str] = WHATSAPP_NUMBER

    def __init__(self, sms: TwilioStandIn) -> None:
        self.__dict__ = sms.__dict__

    def start(self) -> None:
        """Do nothing: the other one is started."""

    def stop(self) -> None:
        """Do nothing: the other one is stopped."""

    def fields(self, message: Written) -> dict[str, str]:
        fields = super().fields(message)
        return {**fields, "WaId": message.sender[10:], "ProfileName": "Somebody"}


def _login(request: web.Request) -> tuple[str, str] | None:
    try:
        login = BasicAuth.decode(request.headers.get("Authorization", ""))
    except ValueError:
        return None
    return login.login, login.password


def _error(status: int, code: int, message: str) -> web.Response:
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(body, status=status)
