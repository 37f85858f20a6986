"""What every messaging channel must do, against the running server.

A channel's test class inherits from `ChannelContract` and names its channel:

    class TestTelegram(ChannelContract):
        channel = "telegram"
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar

import pytest

from assistant.channels.conversation import EMPTY
from assistant.channels.messaging.conversation_rules import ONLY_TEXT
from assistant.channels.messaging.registry import platforms_of
from assistant.channels.messaging.rendering import render
from assistant.settings import load_settings
from tests.channel_server import LONG_ANSWER, LONG_QUESTION, Channels, Line, shown, without
from tests.platforms.base import (
    BROKEN,
    NOT_JSON,
    PUBLIC_URL,
    SILENT,
    TOO_MANY,
    StandIn,
    Written,
    fresh_number,
)

PARKING = "There is a lot behind the building."
PRICE = "$111"
GLUTEN = "giving up gluten"
FIRST_WORDS = "automated assistant of Moonbeam Test Acupuncture"


class ChannelContract:
    """The contract; see the module."""

    channel: ClassVar[str]
    cancel: ClassVar[str] = "Cancel"
    """What the choice is called that ends the form."""

    @pytest.fixture
    def line(self, channels: Channels) -> Iterator[Line]:
        line = channels.line(self.channel)
        yield line
        line.settle()
        assert line.platform.problems == []  # no message broke the platform's limits or schema

    @pytest.fixture
    def sender(self, line: Line) -> str:
        """Somebody who has heard the first words of the channel already."""
        return line.newcomer()

    # Who may call.

    def test_a_message_is_answered(self, line: Line) -> None:
        sender = line.platform.new_sender()
        answers = line.say(sender, "Where can I park?")
        assert FIRST_WORDS in answers[0].text
        assert "911" in answers[0].text
        assert "https://moonbeam.example/privacy" in shown(answers)
        assert PARKING in shown(answers)
        again = line.say(sender, "How much is the first visit?")
        assert PRICE in shown(again)
        assert FIRST_WORDS not in shown(again)

    def test_a_forged_call_is_refused(self, line: Line) -> None:
        written = Written(line.platform.new_sender(), "Where can I park?")
        for call in line.platform.calls(written, secret="x" * 32):
            assert line.post(call).status_code in (401, 403)
        line.settle()
        assert line.platform.sent_to(written.sender) == []

    def test_an_unsigned_call_is_refused(self, line: Line) -> None:
        written = Written(line.platform.new_sender(), "Where can I park?")
        for call in line.platform.calls(written):
            call = without(call, line.platform.signature_header)
            assert line.post(call).status_code == 401
        line.settle()
        assert line.platform.sent_to(written.sender) == []

    def test_a_tampered_call_is_refused(self, line: Line) -> None:
        if not self.signs_the_body(line.platform):
            pytest.skip("The platform shows a secret and signs no body.")
        written = Written(line.platform.new_sender(), "hello", message_id=self.new_id(line))
        for call in line.platform.calls(written):
            changed = replace(call, body=call.body.replace(b"hello", b"hullo"))
            assert changed.body != call.body
            assert line.post(changed).status_code == 403
        line.settle()
        assert line.platform.sent_to(written.sender) == []

    def test_a_stale_call_is_not_answered_again(self, line: Line, sender: str) -> None:
        written = Written(sender, "Where can I park?", order=fresh_number())
        if line.platform.signs_time:
            before = len(line.platform.sent_to(sender))
            for call in line.platform.calls(written, at=time.time() - 3600):
                assert line.post(call).status_code == 403
            line.settle()
            assert len(line.platform.sent_to(sender)) == before
            return
        # Whoever caught a call can send it again a day later: its id is still known.
        calls = line.platform.calls(written)
        for call in calls:
            line.deliver_call(call)
        line.settle()
        answered = line.platform.sent_to(sender)
        line.server.change(
            "UPDATE channel_messages SET received_at = received_at - 86000 WHERE state = 'answered'"
        )
        for call in calls:
            line.deliver_call(call)
        line.settle()
        assert line.platform.sent_to(sender) == answered

    # Each message once, in order.

    def test_a_replayed_call_is_answered_once(self, line: Line, sender: str) -> None:
        written = Written(sender, "Where can I park?", order=fresh_number())
        before = len(line.platform.sent_to(sender))
        for call in line.platform.calls(written):
            for _ in range(3):
                line.deliver_call(call)
                line.settle()
        assert shown(line.platform.sent_to(sender)[before:]).count(PARKING) == 1

    def test_a_message_that_comes_many_times_at_once_is_answered_once(
        self, line: Line, sender: str
    ) -> None:
        written = Written(sender, "Where can I park?", order=fresh_number())
        before = len(line.platform.sent_to(sender))
        calls = line.platform.calls(written) * 8
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(line.deliver_call, calls))
        line.settle()
        assert shown(line.platform.sent_to(sender)[before:]).count(PARKING) == 1

    def test_three_messages_get_three_answers_in_order(self, line: Line, sender: str) -> None:
        texts = ["Where can I park?", "How much is the first visit?", "Should I avoid gluten?"]
        before = len(line.platform.sent_to(sender))
        written = [Written(sender, text, order=fresh_number()) for text in texts]
        calls = line.platform.calls(*written)
        assert len(calls) == (1 if line.platform.batches else 3)
        for call in calls:
            line.deliver_call(call)
        line.settle()
        read = shown(line.platform.sent_to(sender)[before:])
        places = [read.find(words) for words in (PARKING, PRICE, GLUTEN)]
        assert -1 not in places
        assert places == sorted(places)

    def test_messages_that_come_out_of_order_are_sorted(self, line: Line, sender: str) -> None:
        first, second, third = (
            Written(sender, text, order=fresh_number())
            for text in (
                "Should I avoid gluten?",
                "Where can I park?",
                "How much is the first visit?",
            )
        )
        before = len(line.platform.sent_to(sender))
        line.platform.fail(BROKEN)
        line.deliver(first)
        self.wait_for_a_failed_call(line)
        line.deliver(third)
        line.deliver(second)
        line.settle()
        read = shown(line.platform.sent_to(sender)[before:])
        places = [read.find(words) for words in (GLUTEN, PARKING, PRICE)]
        assert -1 not in places
        if not line.platform.orders:  # nothing but their coming tells their order
            places[1:] = reversed(places[1:])
        assert places == sorted(places)

    # What is no question.

    def test_an_empty_message_is_asked_about(self, line: Line, sender: str) -> None:
        answers = line.say(sender, "  ")
        assert shown(answers) in (EMPTY, "")  # some platforms know no empty message

    def test_media_alone_gets_a_sentence(self, line: Line, sender: str) -> None:
        answers = line.answers_to(Written(sender, media=True, order=fresh_number()))
        assert shown(answers) == ONLY_TEXT

    def test_the_words_under_a_picture_are_answered(self, line: Line, sender: str) -> None:
        answers = line.answers_to(
            Written(sender, "Where can I park?", media=True, order=fresh_number())
        )
        assert PARKING in shown(answers)

    def test_what_is_no_message_gets_no_answer(self, line: Line, sender: str) -> None:
        before = len(line.platform.sent)
        calls = line.platform.other_calls(sender)
        assert calls
        for call in calls:
            line.deliver_call(call)
        line.settle()
        assert line.platform.sent[before:] == []

    # The platform's limits.

    def test_a_long_answer_is_split_at_sentences(self, line: Line, sender: str) -> None:
        answers = line.say(sender, LONG_QUESTION)
        assert len(answers) > 1
        read = " ".join(answer.text for answer in answers)
        rooms = re.findall(r"Room number (\d+) has screen number \1\.", read)
        assert [int(number) for number in rooms] == list(range(1, 251))
        assert len(rooms) == LONG_ANSWER.count("Room")
        cut = [a.text for a in answers if "Room" in a.text and not a.text.startswith("Room")]
        assert len(cut) <= 1  # what stands before the first

    def test_more_choices_than_fit_can_be_chosen_from(self, line: Line) -> None:
        settings = load_settings({**line.platform.environment, "PUBLIC_URL": PUBLIC_URL})
        limits = platforms_of(settings)[line.platform.name].limits
        buttons = [{"title": f"Choice {n}", "payload": f"/secret{n}"} for n in range(1, 151)]
        message = {"text": "Which one?", "buttons": buttons, "metadata": {}}
        rendered = render([message], limits)
        text = "\n".join(part.text for part in rendered.parts)
        assert all(f"{n}. Choice {n}\n" in text for n in range(1, 151))
        assert "secret" not in text
        assert [offer.number for offer in rendered.menu] == list(range(1, 151))

    def test_a_choice_that_was_offered_can_be_made(self, line: Line, sender: str) -> None:
        self.fill_in_the_form(line, sender)
        assert "What should I change?" in shown(line.choose(sender, "Change"))
        # Four choices: buttons on some platforms, a numbered list where they don't fit.
        answers = line.choose(sender, "The note")
        assert "note" in shown(answers).lower()
        assert "/" not in shown(answers)
        assert "deleted" in shown(self.leave_the_form(line, sender))

    # A platform that fails.

    def test_who_blocked_us_is_left_alone(self, line: Line, sender: str) -> None:
        line.platform.blocked.add(sender)
        before = line.platform.calls_made
        refused = line.states().get("refused", 0)
        line.deliver(Written(sender, "Where can I park?", order=fresh_number()))
        line.settle()
        assert line.states()["refused"] == refused + 1
        assert line.platform.calls_made == before + 1
        line.platform.blocked.discard(sender)
        assert PRICE in shown(line.say(sender, "How much is the first visit?"))

    def test_too_many_requests_is_waited_out(self, line: Line, sender: str) -> None:
        line.platform.fail(TOO_MANY)
        began = time.monotonic()
        answers = line.say(sender, "Where can I park?")
        assert shown(answers).count(PARKING) == 1
        assert answers[0].at - began >= 1.0  # as long as the platform asked for

    def test_an_error_of_the_platform_is_tried_again(self, line: Line, sender: str) -> None:
        line.platform.fail(BROKEN, NOT_JSON)
        assert shown(line.say(sender, "Where can I park?")).count(PARKING) == 1

    def test_a_silent_platform_is_tried_again(self, line: Line, sender: str) -> None:
        line.platform.fail(SILENT)
        assert shown(line.say(sender, "Where can I park?")).count(PARKING) == 1

    def test_an_answer_goes_on_where_it_stopped(self, line: Line, sender: str) -> None:
        before = line.platform.calls_made
        line.platform.fault_for = lambda count, _: BROKEN if count == before + 2 else None
        try:
            answers = line.say(sender, LONG_QUESTION)
        finally:
            line.platform.fault_for = lambda *_: None
        texts = [answer.text for answer in answers]
        assert line.platform.calls_made == before + len(texts) + 1
        assert len(texts) == len(set(texts))

    # The rules of all channels.

    def test_a_red_flag_comes_first(self, line: Line) -> None:
        sender = line.platform.new_sender()
        answers = line.say(sender, "I can't feel my groin and I wet myself")
        assert answers[0].text.find("911") < answers[0].text.find("automated") or (
            "automated" not in answers[0].text
        )
        assert "911" in answers[0].text
        assert FIRST_WORDS in shown(answers)

    def test_nothing_of_a_waiting_message_can_be_read(self, line: Line, sender: str) -> None:
        line.platform.fail(BROKEN)
        line.deliver(Written(sender, "Where is the blue zeppelin?", order=fresh_number()))
        self.wait_for_a_failed_call(line)
        kept = line.server.rows("SELECT sealed, sealed_replies FROM channel_messages")
        assert any(row[0] for row in kept)
        who = sender.removeprefix("whatsapp:").encode()
        for name, content in line.server.kept().items():
            assert who not in content, name
            if name.startswith("channel_") or name.endswith(".log"):
                assert b"zeppelin" not in content, name  # the conversation itself holds it
        line.settle()

    def test_a_private_chat_is_not_kept(self, line: Line, sender: str) -> None:
        assert "private chat now" in shown(line.say(sender, "private chat"))
        events = self.events(line)
        assert PARKING in shown(line.say(sender, "Where can I park?"))
        assert "over" in shown(line.say(sender, "end private chat"))
        assert self.events(line) == events
        line.say(sender, "Where can I park?")
        assert self.events(line) > events

    def test_everything_is_erased_by_words(self, line: Line) -> None:
        events = self.events(line)
        sender = line.newcomer()
        self.fill_in_the_form(line, sender)
        assert "has your request" in shown(line.choose(sender, "Send"))
        assert self.events(line) > events
        assert "erased" in shown(line.say(sender, "Erase my data, please."))
        assert self.events(line) == events
        (row,) = line.server.rows(
            "SELECT status FROM contact_requests ORDER BY created_at DESC LIMIT 1"
        )
        assert row[0] == "withdrawn"
        assert FIRST_WORDS in shown(line.say(sender, "hello"))

    # Help for the tests.

    def signs_the_body(self, platform: StandIn) -> bool:
        """Whether the proof covers the body; Telegram's is a secret alone."""
        return True

    def new_id(self, line: Line) -> str:
        return ""

    def wait_for_a_failed_call(self, line: Line) -> None:
        deadline = time.monotonic() + 20
        while True:
            rows = line.server.rows(
                "SELECT count(*) FROM channel_senders WHERE failures > 0 AND due_at IS NOT NULL"
            )
            if rows[0][0]:
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)  # between looks; the deadline decides, not this

    def events(self, line: Line) -> int:
        (row,) = line.server.rows("SELECT count(*) FROM events")
        return int(row[0])

    def fill_in_the_form(self, line: Line, sender: str) -> None:
        line.say(sender, "I want to book an appointment, please pass on my request")
        assert "What name" in shown(line.choose(sender, "Yes, that's okay"))
        assert "reach you" in shown(line.say(sender, "My name is Ana Lopez"))
        assert "suit you" in shown(line.say(sender, "818 555 0134"))
        line.choose(sender, "Any time")
        assert "Shall I send it" in shown(line.choose(sender, "Skip"))

    def leave_the_form(self, line: Line, sender: str) -> list:  # type: ignore[type-arg]
        line.say(sender, "Skip")
        return line.choose(sender, self.cancel)
