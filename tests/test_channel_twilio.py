"""SMS and WhatsApp by Twilio, against the running server."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import pytest

from assistant.settings import SettingError, load_settings
from tests.channel_contract import PARKING, ChannelContract
from tests.channel_server import Channels, Line, shown
from tests.platforms.base import Written
from tests.platforms.twilio import ACCOUNT, SMS_NUMBER, TOKEN, TwilioStandIn


class TwilioContract(ChannelContract):
    """What both have beyond the contract."""

    def test_the_number_that_is_known_is_offered_and_not_assumed(
        self, line: Line, sender: str
    ) -> None:
        line.say(sender, "I want to book an appointment, please pass on my request")
        line.choose(sender, "Yes, that's okay")
        asked = shown(line.say(sender, "My name is Ana Lopez"))
        phone = sender[-10:]
        known = f"({phone[:3]}) {phone[3:6]}-{phone[6:]}"
        assert "Please type a phone number or an e-mail address." in asked
        assert f"1. Use {known}" in asked
        # A number that is on no menu is an answer, and no choice.
        assert "I need one way to reach you." in shown(line.say(sender, "2"))
        assert known in shown(line.choose(sender, f"Use {known}"))
        line.choose(sender, "Any time")
        assert f"Reach you at: {known}" in shown(line.choose(sender, "Skip"))
        line.choose(sender, self.cancel)

    def test_a_call_for_another_account_is_refused(self, line: Line) -> None:
        platform = line.platform
        assert isinstance(platform, TwilioStandIn)
        written = Written(platform.new_sender(), "Where can I park?")
        fields = {**platform.fields(written), "AccountSid": "AC" + "f" * 32}
        assert line.post(platform.signed(fields)).status_code == 403
        line.settle()
        assert platform.sent_to(written.sender) == []

    def test_every_field_and_the_address_are_signed(self, line: Line) -> None:
        platform = line.platform
        (call,) = platform.calls(Written(platform.new_sender(), "hello"))
        for changed in (
            replace(call, body=call.body + b"&Extra=1"),
            replace(call, body=call.body.replace(b"From=", b"from=")),
            replace(call, path=call.path + "?x=1"),
            replace(call, headers={**call.headers, "X-Twilio-Signature": "\u00e9".encode().hex()}),
        ):
            assert line.post(changed).status_code == 403

    def test_what_is_no_form_is_refused(self, line: Line) -> None:
        (call,) = line.platform.calls(Written(line.platform.new_sender(), "hello"))
        for body in (b"", b"{}", b"\xff\xfe", b"&" * 1000, b"a=1&" * 1000):
            assert line.post(replace(call, body=body)).status_code == 403


class TestSms(TwilioContract):
    channel: ClassVar[str] = "sms"
    cancel: ClassVar[str] = "Cancel it"  # "Cancel" alone would unsubscribe

    @pytest.mark.parametrize("word", ["STOP", "stop", " Help ", "UNSUBSCRIBE", "Cancel", "START"])
    def test_the_carriers_words_are_left_to_the_carrier(
        self, line: Line, sender: str, word: str
    ) -> None:
        assert line.say(sender, word) == []

    def test_a_platform_off_is_not_there(self, line: Line) -> None:
        assert line.server.http.post("/webhooks/nobody").status_code == 404
        assert line.server.http.get("/webhooks/twilio").status_code == 405

    def test_the_refusals_are_counted(self, line: Line) -> None:
        metrics = line.server.http.get("/metrics").text
        assert 'assistant_refused_requests_total{channel="twilio",code="forged"}' in metrics
        assert 'assistant_channel_messages{state="pending"} 0.0' in metrics

    def test_the_database_is_away(self, line: Line, sender: str) -> None:
        path = line.server.database_url.removeprefix("sqlite:///")
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("BEGIN IMMEDIATE")  # from here on nobody else can write
        try:
            before = len(line.platform.sent_to(sender))
            (question,) = line.platform.calls(Written(sender, "Where can I park?"))
            (alarm,) = line.platform.calls(Written(sender, "I have chest pain, can't breathe"))
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(line.post, [question, alarm]))
            assert [answer.status_code for answer in answers] == [503, 503]
            deadline = time.monotonic() + 20
            while len(line.platform.sent_to(sender)) == before:
                assert time.monotonic() < deadline, "the advice waits for the database"
                time.sleep(0.05)  # between looks; the deadline decides, not this
            (advice,) = line.platform.sent_to(sender)[before:]
            assert "911" in advice.text
        finally:
            database.close()
        # What came is kept after all, and what Twilio sends again is the same.
        line.deliver_call(question)
        deadline = time.monotonic() + 30
        while shown(line.platform.sent_to(sender)[before:]).count(PARKING) == 0:
            assert time.monotonic() < deadline, "the question is lost"
            time.sleep(0.05)
        line.settle()
        assert shown(line.platform.sent_to(sender)[before:]).count(PARKING) == 1


class TestWhatsApp(TwilioContract):
    channel: ClassVar[str] = "whatsapp"

    def test_stop_is_a_word_like_others(self, line: Line, sender: str) -> None:
        assert line.say(sender, "stop") != []  # no carrier stands behind WhatsApp


def test_both_channels_of_one_number_are_apart(channels: Channels) -> None:
    sms, whatsapp = channels.line("sms"), channels.line("whatsapp")
    number = sms.platform.new_sender()
    sms.say(number, "hello")
    answers = whatsapp.say(f"whatsapp:{number}", "Where can I park?")
    assert "automated assistant of" in answers[0].text  # a new sender there
    assert PARKING in shown(answers)


# Its settings.

ALL = {
    "PUBLIC_URL": "https://chat.moonbeam.example",
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": TOKEN,
    "TWILIO_SMS_NUMBER": SMS_NUMBER,
}


def test_one_number_is_enough_and_none_is_off() -> None:
    assert load_settings(ALL).messaging.twilio_sms_number == SMS_NUMBER
    assert load_settings({}).messaging.twilio_auth_token == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PUBLIC_URL": ""}, "PUBLIC_URL must say where"),
        ({"PUBLIC_URL": "https://chat.moonbeam.example/webhooks"}, "scheme and host alone"),
        ({"PUBLIC_URL": "http://chat.moonbeam.example"}, "without encryption"),
        ({"TWILIO_AUTH_TOKEN": ""}, "TWILIO_AUTH_TOKEN is not"),
        ({"TWILIO_ACCOUNT_SID": ""}, "TWILIO_ACCOUNT_SID is not"),
        ({"TWILIO_ACCOUNT_SID": "SM12"}, "AC and 32"),
        ({"TWILIO_SMS_NUMBER": ""}, "at least one of"),
        ({"TWILIO_SMS_NUMBER": "(213) 555-0111"}, "with \\+ and country code"),
        ({"TWILIO_API_URL": "http://twilio.example"}, "without encryption"),
    ],
)
def test_half_of_the_settings_are_a_mistake(changed: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        load_settings({**ALL, **changed})
