"""Telegram: what it sends is verified and read, what we send fits and fails in known ways."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sanic import Sanic
from sanic.compat import Header
from sanic.request import Request

from assistant.channels.messaging.platform import (
    Choice,
    ForgedRequestError,
    Outgoing,
    PlatformError,
    UnreadableRequestError,
)
from assistant.channels.messaging.telegram import Telegram
from assistant.settings import SettingError, load_settings
from tests.changed_json import changes
from tests.channel_contract import PARKING, ChannelContract
from tests.channel_server import Line, shown
from tests.platforms import telegram
from tests.platforms.base import BROKEN, NOT_JSON, SILENT, Fault, StandIn, Written, fresh_number
from tests.platforms.telegram import SECRET, TelegramStandIn, text_update

ANA = "59012345"
BEN = "59012346"
PUBLIC_URL = "https://chat.moonbeam.example"

APP = Sanic("telegram-tests")


def post(update: Any, secret: str = SECRET, body: bytes | None = None) -> Request:
    """A POST that shows the secret."""
    header = Header({"X-Telegram-Bot-Api-Secret-Token": secret} if secret else {})
    request = Request(b"/webhooks/telegram", header, "1.1", "POST", None, APP)
    request.body = json.dumps(update).encode() if body is None else body
    return request


@pytest.fixture
def stand_in() -> Iterator[TelegramStandIn]:
    stand_in = TelegramStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


def platform(stand_in: TelegramStandIn, **more: str) -> Telegram:
    environment = {
        **stand_in.environment,
        "PUBLIC_URL": PUBLIC_URL,
        "CHANNEL_CALL_SECONDS": "0.5",
        **more,
    }
    made = Telegram.from_settings(load_settings(environment))
    assert made is not None
    return made


@pytest.fixture
async def bot(stand_in: TelegramStandIn) -> AsyncIterator[Telegram]:
    made = platform(stand_in)
    yield made
    await made.close()


def choices(count: int) -> tuple[Choice, ...]:
    return tuple(Choice(f"c{number}", f"Choice {number}") for number in range(count))


# What comes in.


def test_whoever_shows_the_secret_is_believed(bot: Telegram) -> None:
    request = post(text_update(ANA, "Où est le cabinet? 針 😀"))
    bot.verify(request)
    assert bot.read(request)[0].text == "Où est le cabinet? 針 😀"
    assert (bot.acknowledge(request).status, bot.acknowledge(request).body) == (200, b"")


@pytest.mark.parametrize(
    ("secret", "status"),
    [("", 401), ("guessed", 403), (SECRET[:-1], 403), (SECRET + "x", 403), ("ü", 403)],
)
def test_nobody_else_is(bot: Telegram, secret: str, status: int) -> None:
    with pytest.raises(ForgedRequestError) as refused:
        bot.verify(post(text_update(ANA, "hours"), secret))
    assert refused.value.status == status


def test_telegram_sends_no_get(bot: Telegram) -> None:
    request = Request(b"/webhooks/telegram?x=1", Header({}), "1.1", "GET", None, APP)
    assert bot.answer_get(request) is None


def test_an_update_sent_again_is_known_by_its_id_and_its_order(bot: Telegram) -> None:
    first, second = text_update(ANA, "one"), text_update(ANA, "two")
    [one], [two], [again] = (bot.read(post(update)) for update in (first, second, first))
    assert (one.sender, one.order < two.order) == (ANA, True)
    assert one == again
    # After a quiet week the numbers of updates begin anew anywhere.
    [later] = bot.read(post(text_update(ANA, "three", update_id=first["update_id"])))
    assert later.message_id != one.message_id


def test_a_press_brings_its_data_and_what_the_button_showed(bot: Telegram) -> None:
    update = telegram.press_update(ANA, "Hours", "c1", query_id="4382")
    [press] = bot.read(post(update))
    assert (press.sender, press.text, press.choice, press.press) == (ANA, "Hours", "c1", "4382")
    [again] = bot.read(post(update))
    assert again.message_id == press.message_id
    # A message that is too old to be shown comes without its buttons.
    del update["callback_query"]["message"]["reply_markup"]
    assert bot.read(post(update))[0].text == ""


@pytest.mark.parametrize("text", ["/start", "/start flyer", " /start"])
def test_who_opens_the_chat_says_hello(bot: Telegram, text: str) -> None:
    assert [one.text for one in bot.read(post(text_update(ANA, text)))] == ["Hello"]


@pytest.mark.parametrize(
    "content", [telegram.PHOTO, telegram.VOICE, telegram.STICKER, telegram.LOCATION]
)
def test_media_alone_is_told_from_media_with_words(bot: Telegram, content: dict[str, Any]) -> None:
    [alone] = bot.read(post(telegram.media_update(ANA, **content)))
    [with_words] = bot.read(post(telegram.media_update(ANA, **content, caption="my back hurts")))
    assert (alone.text, alone.unreadable) == ("", "media")
    assert (with_words.text, with_words.unreadable) == ("my back hurts", "")


def test_what_is_no_message_of_a_patient_is_left_out(bot: Telegram) -> None:
    for update in telegram.other_updates(ANA):
        assert bot.read(post(update)) == [], update
    game = telegram.press_update(ANA, "Play", "c1")
    del game["callback_query"]["data"]
    inline = telegram.press_update(ANA, "Hours", "c1")
    del inline["callback_query"]["message"]
    in_group = telegram.press_update(ANA, "Hours", "c1")
    in_group["callback_query"]["message"]["chat"]["type"] = "supergroup"
    for update in (game, inline, in_group):
        assert bot.read(post(update)) == [], update


def test_what_is_older_than_a_day_is_left_out(
    bot: Telegram, caplog: pytest.LogCaptureFixture
) -> None:
    day = 24 * 3600
    assert bot.read(post(text_update(ANA, "yesterday", date=time.time() - day - 60))) == []
    assert len(bot.read(post(text_update(ANA, "just now", date=time.time() - day + 60)))) == 1
    assert "older than a day" in caplog.text
    assert "yesterday" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hours",
        b"\xff",
        b"[]",
        b"{}",
        b'{"update_id": "1"}',
        b'{"update_id": 1, "message": []}',
        b'{"update_id": 1, "message": {"chat": 1}}',
        b'{"update_id": 1, "message": {"chat": {"type": "private"}, "from": {}, "text": "x"}}',
        b'{"update_id": 1, "callback_query": {"data": "x", "message": {}}}',
        b"[" * 100_000,
    ],
)
def test_a_body_of_another_shape_is_unreadable(bot: Telegram, body: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        bot.read(post({}, body=body))


READER = Telegram(telegram.TOKEN, SECRET, PUBLIC_URL, PUBLIC_URL, 1.0)


@settings(max_examples=300, deadline=None)
@given(
    update=st.sampled_from(
        [
            text_update(ANA, "hours"),
            telegram.media_update(ANA),
            telegram.press_update(ANA, "Hours", "c1"),
        ]
    ),
    change=changes,
)
def test_whatever_telegram_writes_is_read_or_refused(update: Any, change: Any) -> None:
    try:
        found = READER.read(post(change(update)))
    except UnreadableRequestError:
        return
    for one in found:
        assert one.message_id
        assert int(one.sender)
        assert all(isinstance(value, str) for value in (one.text, one.choice, one.press))


# What goes out.

NO_ID = Fault(200, body=b'{"result": {}}')
ELSEWHERE = Fault(307, {"Location": f"/bot{telegram.TOKEN}/sendMessage"})


async def test_text_goes_as_it_is_and_buttons_below_it(
    bot: Telegram, stand_in: TelegramStandIn
) -> None:
    text = "*Monday* to _Friday_ <b>9</b>-5, see https://moonbeam.example/a_b"
    await bot.send(ANA, Outgoing(text, choices(3)))
    [sent] = stand_in.sent_to(ANA)
    assert sent.text == text
    assert sent.choices == tuple((one.id, one.title) for one in choices(3))
    assert not stand_in.problems


async def test_the_limits_are_those_that_telegram_enforces(
    bot: Telegram, stand_in: TelegramStandIn
) -> None:
    limits = bot.limits
    longest = Choice("c" * limits.choice_id, "t" * limits.choice_title)
    await bot.send(ANA, Outgoing("x" * limits.text_with_choices, (longest,)))
    await bot.send(ANA, Outgoing("x", choices(limits.choices)))
    assert not stand_in.problems
    for outgoing in (
        Outgoing("x" * (limits.text + 1)),
        Outgoing("x", (Choice(longest.id + "c", "t"),)),
    ):
        with pytest.raises(PlatformError) as refused:
            await bot.send(ANA, outgoing)
        assert refused.value.permanent
    assert len(stand_in.problems) == 2


async def test_a_picture_has_its_words_below_it(bot: Telegram, stand_in: TelegramStandIn) -> None:
    image = "https://moonbeam.example/door.jpg"
    await bot.send(ANA, Outgoing("", image=image, image_text="The blue door"))
    await bot.send(BEN, Outgoing("x" * 1025, choices(1), image, "The blue door"))
    assert [(one.image, one.text) for one in stand_in.sent_to(ANA)] == [(image, "The blue door")]
    photo, words = stand_in.sent_to(BEN)
    assert (photo.image, photo.text, photo.choices) == (image, "The blue door", ())
    assert (words.image, words.text, len(words.choices)) == ("", "x" * 1025, 1)
    assert not stand_in.problems


async def test_words_arrive_when_their_picture_cannot_be_fetched(
    bot: Telegram, stand_in: TelegramStandIn
) -> None:
    stand_in.images = False
    image = "https://moonbeam.example/door.jpg"
    await bot.send(ANA, Outgoing("Ring twice.", choices(1), image))
    await bot.send(BEN, Outgoing("x" * 4096, (), image))
    [sent] = stand_in.sent_to(ANA)
    assert (sent.text, len(sent.choices)) == (f"Ring twice.\n{image}", 1)
    assert [one.text for one in stand_in.sent_to(BEN)] == ["x" * 4096]


async def test_a_press_is_acknowledged_once(bot: Telegram, stand_in: TelegramStandIn) -> None:
    await bot.acknowledge_press("4382")
    assert stand_in.answered == ["4382"]
    with pytest.raises(PlatformError) as failed:  # too old, or acknowledged before a crash
        await bot.acknowledge_press("4382")
    assert failed.value.permanent


@pytest.mark.parametrize(
    "fault", [BROKEN, SILENT, NOT_JSON, NO_ID, ELSEWHERE], ids=lambda fault: str(fault.status)
)
async def test_a_fault_of_telegrams_is_worth_another_try(
    bot: Telegram, stand_in: TelegramStandIn, fault: Fault
) -> None:
    stand_in.fail(fault)
    with pytest.raises(PlatformError) as failed:
        await bot.send(ANA, Outgoing("hello"))
    assert not failed.value.permanent
    assert stand_in.sent == []
    await bot.send(ANA, Outgoing("hello"))
    assert len(stand_in.sent_to(ANA)) == 1


async def test_telegram_away_is_worth_another_try(bot: Telegram, stand_in: TelegramStandIn) -> None:
    stand_in.stop()
    try:
        with pytest.raises(PlatformError) as failed:
            await bot.send(ANA, Outgoing("hello"))
    finally:
        stand_in.start()
    assert not failed.value.permanent
    assert telegram.TOKEN not in str(failed.value)


async def test_too_many_calls_are_tried_again_after_the_time_asked_for(
    bot: Telegram, stand_in: TelegramStandIn
) -> None:
    stand_in.fail(telegram.TOO_MANY_FOR_SECONDS)
    with pytest.raises(PlatformError) as failed:
        await bot.send(ANA, Outgoing("hello"))
    assert (failed.value.permanent, failed.value.retry_after) == (False, 7.0)


async def test_who_blocked_the_bot_is_not_written_to_again(
    bot: Telegram, stand_in: TelegramStandIn
) -> None:
    stand_in.blocked.add(ANA)
    for outgoing in (
        Outgoing("my number is 5550134"),
        Outgoing("", image="https://moonbeam.example/door.jpg", image_text="5550134"),
    ):
        with pytest.raises(PlatformError, match="blocked") as failed:
            await bot.send(ANA, outgoing)
        assert failed.value.permanent
        assert "5550134" not in str(failed.value)
    assert stand_in.calls_made == 2


async def test_a_token_that_was_revoked_can_be_put_right(stand_in: TelegramStandIn) -> None:
    wrong = platform(stand_in, TELEGRAM_TOKEN="123456789:AArevoked")
    with pytest.raises(PlatformError, match="TELEGRAM_TOKEN") as failed:
        await wrong.send(ANA, Outgoing("hello"))
    assert not failed.value.permanent
    [problem] = await wrong.check()
    assert "TELEGRAM_TOKEN" in problem
    assert "revoked" not in problem
    await wrong.close()


# Settings, the webhook and the check.


def test_telegram_is_off_without_secrets_and_half_of_them_are_a_mistake() -> None:
    assert Telegram.from_settings(load_settings({})) is None
    environment = {**telegram.ENVIRONMENT, "PUBLIC_URL": PUBLIC_URL}
    for name, value in (("TELEGRAM_SECRET", ""), ("TELEGRAM_SECRET", "two words, no less than 24")):
        with pytest.raises(SettingError, match=name):
            load_settings({**environment, name: value})


async def test_the_check_says_what_is_wrong_and_setting_the_webhook_mends_it(
    bot: Telegram, stand_in: TelegramStandIn
) -> None:
    [unknown] = await bot.check()
    assert "assistant channels connect telegram" in unknown
    stand_in.webhook = {**stand_in.webhook, "url": "https://elsewhere.example/hook"}
    [elsewhere] = await bot.check()
    assert "elsewhere.example" in elsewhere
    await bot.set_webhook()
    assert await bot.check() == []
    assert stand_in.webhook_secret == SECRET
    stand_in.webhook |= {
        "allowed_updates": ["message"],
        "pending_update_count": 3,
        "last_error_date": int(time.time()) - 60,
        "last_error_message": "Wrong response from the webhook: 403 Forbidden",
    }
    held_back, failing = await bot.check()
    assert "hold back" in held_back
    assert "403 Forbidden" in failing
    # What failed yesterday and was handed over since is no problem.
    await bot.set_webhook()
    stand_in.webhook |= {"last_error_date": int(time.time()) - 86400, "last_error_message": "x"}
    assert await bot.check() == []
    stand_in.stop()
    [away] = await bot.check()
    assert "cannot reach" in away


async def test_the_check_knows_the_ports_of_telegram(stand_in: TelegramStandIn) -> None:
    bot = platform(stand_in, PUBLIC_URL="https://chat.moonbeam.example:9443")
    assert any("8443" in problem for problem in await bot.check())
    await bot.close()


# On the running server.


class TestTelegram(ChannelContract):
    channel: ClassVar[str] = "telegram"

    def signs_the_body(self, platform: StandIn) -> bool:
        return False

    def test_a_start_sets_no_webhook(self, line: Line) -> None:
        """Only `assistant channels connect` does: a second server must not take the messages away."""
        assert line.platform.webhook["url"] == ""  # type: ignore[attr-defined]

    def test_a_press_is_acknowledged_and_answered(self, line: Line, sender: str) -> None:
        line.say(sender, "I want to book an appointment, please pass on my request")
        answered = line.platform.answered  # type: ignore[attr-defined]
        before = len(answered)
        assert "What name" in shown(line.choose(sender, "Yes, that's okay"))
        assert len(answered) == before + 1

    def test_a_button_that_is_forgotten_stands_for_what_it_showed(
        self, line: Line, sender: str
    ) -> None:
        press = Written(sender, "Where can I park?", choice="0123456789ab", order=fresh_number())
        assert PARKING in shown(line.answers_to(press))

    def test_telegram_sends_no_get(self, line: Line) -> None:
        assert line.server.http.get("/webhooks/telegram").status_code == 405
