"""SMS and WhatsApp by Twilio, against the running server."""

from __future__ import annotations

from typing import ClassVar

from tests.channel_contract import ChannelContract


class TestSms(ChannelContract):
    channel: ClassVar[str] = "sms"


class TestWhatsApp(ChannelContract):
    channel: ClassVar[str] = "whatsapp"
