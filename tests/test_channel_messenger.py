"""Messenger: what Meta sends is verified and read, what we send fits and fails in known ways."""

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

from assistant.channels.messaging.messenger import Messenger
from assistant.channels.messaging.platform import (
    Choice,
    ForgedRequestError,
    Outgoing,
    PlatformError,
    UnreadableRequestError,
)
from assistant.settings import SettingError, load_settings
from tests.changed_json import changes
from tests.channel_contract import GLUTEN, PARKING, PRICE, ChannelContract
from tests.channel_server import Line, shown
from tests.platforms import messenger as meta
from tests.platforms.base import BROKEN, NOT_JSON, SILENT, Fault, Written, fresh_number
from tests.platforms.messenger import MessengerStandIn, as_body, batch, entry, signature, text_event

ANA = "7382917364500921"
BEN = "7382917364500922"
PUBLIC_URL = "https://chat.moonbeam.example"

APP = Sanic("messenger-tests")


def post(payload: Any, body: bytes | None = None, **headers: str) -> Request:
    """A signed POST; `headers` take the place of its own, "" leaves one out."""
    signed = as_body(payload)
    given = {"X-Hub-Signature-256": signature(signed), **headers}
    request = Request(
        b"/webhooks/messenger",
        Header({name: value for name, value in given.items() if value}),
        "1.1",
        "POST",
        None,
        APP,
    )
    request.body = signed if body is None else body
    return request


def get(query: str) -> Request:
    return Request(f"/webhooks/messenger?{query}".encode(), Header({}), "1.1", "GET", None, APP)


@pytest.fixture
def stand_in() -> Iterator[MessengerStandIn]:
    stand_in = MessengerStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


@pytest.fixture
async def messenger(stand_in: MessengerStandIn) -> AsyncIterator[Messenger]:
    environment = {
        **stand_in.environment,
        "PUBLIC_URL": PUBLIC_URL,
        "CHANNEL_CALL_SECONDS": "0.5",
    }
    platform = Messenger.from_settings(load_settings(environment))
    assert platform is not None
    yield platform
    await platform.close()


def choices(count: int) -> tuple[Choice, ...]:
    return tuple(Choice(f"c{number}", f"Choice {number}") for number in range(count))


# What comes in.


def test_a_call_signed_over_its_raw_bytes_is_taken(messenger: Messenger) -> None:
    """Meta escapes Unicode and slashes before it signs: JSON written anew would not match."""
    payload = batch(text_event(ANA, "Où est le cabinet? / 針 😀"))
    assert rb"\u00f9" in as_body(payload)
    assert rb"\/" in as_body(payload)
    request = post(payload)
    messenger.verify(request)
    assert messenger.read(request)[0].text == "Où est le cabinet? / 針 😀"
    assert messenger.acknowledge(request).body == b"EVENT_RECEIVED"


PAYLOAD = batch(text_event(ANA, "hours"))
SHA1 = {"X-Hub-Signature": "sha1=" + "a" * 40}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(PAYLOAD, **{"X-Hub-Signature-256": ""}), 401),
        (post(PAYLOAD, **{"X-Hub-Signature-256": ""}, **SHA1), 401),
        (post(PAYLOAD, **{"X-Hub-Signature-256": signature(as_body(PAYLOAD), "guessed")}), 403),
        (post(PAYLOAD, **{"X-Hub-Signature-256": "sha256=" + "0" * 64}), 403),
        (post(PAYLOAD, **{"X-Hub-Signature-256": signature(as_body(PAYLOAD)).upper()}), 403),
        (post(PAYLOAD, **{"X-Hub-Signature-256": "sha256=ü"}), 403),
        (post(PAYLOAD, **{"X-Hub-Signature-256": "md5=" + "0" * 32}), 403),
        (post(PAYLOAD, body=as_body(PAYLOAD).replace(b"hours", b"hoUrs")), 403),
        (post(PAYLOAD, body=as_body(PAYLOAD) + b" "), 403),
        (post(PAYLOAD, body=b""), 403),
    ],
)
def test_a_call_that_meta_did_not_sign_is_refused(
    messenger: Messenger, request_: Request, status: int
) -> None:
    with pytest.raises(ForgedRequestError) as refused:
        messenger.verify(request_)
    assert refused.value.status == status


def test_the_webhook_is_verified_by_its_token(messenger: Messenger) -> None:
    query = f"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={meta.VERIFY_TOKEN}"
    answer = messenger.answer_get(get(query))
    assert (answer.status, answer.body) == (200, b"1158201444")
    html = get(query.replace("1158201444", "%3Cscript%3E"))
    assert messenger.answer_get(html).content_type.startswith("text/plain")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 401),
        ("hub.mode=subscribe&hub.challenge=1", 401),
        (f"hub.challenge=1&hub.verify_token={meta.VERIFY_TOKEN}", 401),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong", 403),
        ("hub.mode=subscribe&hub.challenge=1&hub.verify_token=%C3%BC", 403),
    ],
)
def test_nobody_else_gets_a_challenge_back(messenger: Messenger, query: str, status: int) -> None:
    with pytest.raises(ForgedRequestError) as refused:
        messenger.answer_get(get(query))
    assert refused.value.status == status


def test_all_messages_of_a_batch_are_read_in_order(messenger: Messenger) -> None:
    payload = {
        "object": "page",
        "entry": [
            entry(text_event(ANA, "one", "m_1"), text_event(BEN, "two", "m_2")),
            entry(text_event(ANA, "three", "m_3")),
        ],
    }
    found = messenger.read(post(payload))
    assert [(one.message_id, one.sender, one.text) for one in found] == [
        ("m_1", ANA, "one"),
        ("m_2", BEN, "two"),
        ("m_3", ANA, "three"),
    ]
    assert all(abs(one.order - time.time()) < 60 for one in found)


def test_presses_bring_their_payload(messenger: Messenger) -> None:
    quick = meta.quick_reply_event(ANA, "Hours", "c1")
    button = meta.postback_event(ANA, "Fees", "c2")
    # The page on messaging_postbacks shows a time in seconds, as a string; older calls bring no mid.
    button["timestamp"] = str(int(time.time()))
    del button["postback"]["mid"]
    first = messenger.read(post(batch(quick, button)))
    assert [(one.text, one.choice) for one in first] == [("Hours", "c1"), ("Fees", "c2")]
    again = messenger.read(post(batch(button)))
    assert again[0].message_id == first[1].message_id
    other = messenger.read(post(batch({**button, "timestamp": str(int(time.time()) - 5)})))
    assert other[0].message_id != first[1].message_id


def test_who_presses_get_started_says_hello(messenger: Messenger) -> None:
    found = messenger.read(post(batch(meta.postback_event(ANA, "Get Started", "GET_STARTED"))))
    assert [(one.text, one.choice) for one in found] == [("Hello", "")]


@pytest.mark.parametrize("kind", ["image", "audio", "video", "file", "sticker", "fallback"])
def test_media_alone_is_told_from_media_with_words(messenger: Messenger, kind: str) -> None:
    alone, with_words = messenger.read(
        post(batch(meta.media_event(ANA, kind), meta.media_event(ANA, kind, "my back hurts")))
    )
    assert (alone.text, alone.unreadable) == ("", "media")
    assert (with_words.text, with_words.unreadable) == ("my back hurts", "")


def test_what_is_no_message_is_left_out_and_the_rest_read(
    messenger: Messenger, caplog: pytest.LogCaptureFixture
) -> None:
    day = 24 * 3600
    payload = batch(
        *meta.other_events(ANA),
        meta.echo_event(ANA, "We are open from nine."),
        meta.echo_event(ANA, image=True),
        meta.event(ANA, message={"mid": meta.mid(), "is_deleted": True}),
        text_event(ANA, "yesterday", timestamp=time.time() - day - 60),
        {**text_event(ANA, "no PSID"), "sender": {"user_ref": "checkbox"}},
        meta.event(ANA, message={"text": "no id"}),
        {**text_event(ANA, "no time"), "timestamp": "soon"},
        {**text_event(ANA, "endless time"), "timestamp": 1e300},
        text_event(ANA, "just now", timestamp=time.time() - day + 60),
    )
    payload["entry"][0]["messaging"].insert(0, "odd")
    payload["entry"][0]["standby"] = [text_event(ANA, "another app's")]
    payload["entry"].insert(0, "odd")
    payload["entry"].insert(0, {"id": meta.PAGE, "changes": [{"field": "feed"}]})
    assert [one.text for one in messenger.read(post(payload))] == ["just now"]
    assert "older than 24 hours" in caplog.text
    assert "yesterday" not in caplog.text


def test_other_products_of_meta_are_not_answered(messenger: Messenger) -> None:
    payload = {**batch(text_event(ANA, "hours")), "object": "instagram"}
    assert messenger.read(post(payload)) == []


@pytest.mark.parametrize(
    "body", [b"", b"hours", b"\xff", b"[]", b"{}", b'{"entry": 1}', b"[" * 100_000]
)
def test_a_body_of_another_shape_is_unreadable(messenger: Messenger, body: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        messenger.read(post({}, body=body))


READER = Messenger(meta.PAGE_TOKEN, meta.APP_SECRET, meta.VERIFY_TOKEN, PUBLIC_URL, PUBLIC_URL, 1.0)


@settings(max_examples=300, deadline=None)
@given(
    event=st.sampled_from(
        [
            text_event(ANA, "hours"),
            meta.media_event(ANA),
            meta.quick_reply_event(ANA, "Hours", "c1"),
            meta.postback_event(ANA, "Hours", "c1"),
        ]
    ),
    change=changes,
)
def test_whatever_meta_writes_is_read_or_refused(event: Any, change: Any) -> None:
    try:
        found = READER.read(post(change(batch(event))))
    except UnreadableRequestError:
        return
    for one in found:
        assert one.message_id
        assert one.sender
        assert all(isinstance(value, str) for value in (one.message_id, one.sender, one.text))


# What goes out.

NO_ID = Fault(200, body=b'{"recipient_id": "1"}')
ELSEWHERE = Fault(307, {"Location": f"/{meta.VERSION}/me/messages"})


@pytest.mark.parametrize(
    ("text", "count", "shape"),
    [
        ("x" * 2000, 0, "text"),
        ("x" * 640, 3, "attachment"),
        ("x" * 641, 3, "quick_replies"),
        ("What would you like?", 4, "quick_replies"),
        ("x" * 2000, 13, "quick_replies"),
    ],
    ids=["text", "buttons", "text too long for buttons", "too many buttons", "quick replies"],
)
async def test_what_fits_the_limits_is_taken(
    messenger: Messenger, stand_in: MessengerStandIn, text: str, count: int, shape: str
) -> None:
    await messenger.send(ANA, Outgoing(text, choices(count)))
    [sent] = stand_in.sent_to(ANA)
    assert sent.text == text
    assert sent.choices == tuple((one.id, one.title) for one in choices(count))
    assert shape in sent.raw["message"]
    assert not stand_in.problems


async def test_the_limits_are_those_that_messenger_enforces(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    limits = messenger.limits
    longest = Choice("c" * limits.choice_id, "t" * limits.choice_title)
    await messenger.send(ANA, Outgoing("x" * limits.text_with_choices, (longest,)))
    await messenger.send(ANA, Outgoing("What?", (longest,)))
    assert not stand_in.problems
    for outgoing in (
        Outgoing("x" * (limits.text + 1)),
        Outgoing("x", choices(limits.choices + 1)),
        Outgoing("x", (Choice(longest.id + "c", "t"),)),
        Outgoing("x", (Choice("c", longest.title + "t"),)),
    ):
        with pytest.raises(PlatformError) as refused:
            await messenger.send(ANA, outgoing)
        assert refused.value.permanent
    assert len(stand_in.problems) == 4


async def test_a_picture_goes_before_its_words(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    image = "https://moonbeam.example/door.jpg"
    await messenger.send(ANA, Outgoing("", image=image, image_text="The blue door"))
    await messenger.send(BEN, Outgoing("Ring twice.", choices(1), image, "The blue door"))
    assert [(one.image, one.text) for one in stand_in.sent_to(ANA)] == [
        (image, ""),
        ("", "The blue door"),
    ]
    assert [(one.image, one.text) for one in stand_in.sent_to(BEN)] == [
        (image, ""),
        ("", "Ring twice."),
    ]


async def test_words_arrive_when_their_picture_cannot_be_fetched(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    stand_in.images = False
    await messenger.send(
        ANA, Outgoing("Ring twice.", choices(1), "https://moonbeam.example/door.jpg")
    )
    [sent] = stand_in.sent_to(ANA)
    assert sent.text == "Ring twice.\nhttps://moonbeam.example/door.jpg"
    assert sent.choices


async def test_where_a_picture_is_refused_a_blocked_patient_is_told_apart(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    stand_in.blocked.add(ANA)
    with pytest.raises(PlatformError, match="cannot be reached"):
        await messenger.send(ANA, Outgoing("", image="https://moonbeam.example/door.jpg"))
    assert stand_in.calls_made == 1


@pytest.mark.parametrize(
    "fault", [BROKEN, SILENT, NOT_JSON, NO_ID, ELSEWHERE], ids=lambda fault: str(fault.status)
)
async def test_a_fault_of_messengers_is_worth_another_try(
    messenger: Messenger, stand_in: MessengerStandIn, fault: Fault
) -> None:
    stand_in.fail(fault)
    with pytest.raises(PlatformError) as failed:
        await messenger.send(ANA, Outgoing("hello"))
    assert not failed.value.permanent
    assert stand_in.sent == []
    await messenger.send(ANA, Outgoing("hello"))
    assert len(stand_in.sent_to(ANA)) == 1


async def test_messenger_away_is_worth_another_try(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    stand_in.stop()
    try:
        with pytest.raises(PlatformError) as failed:
            await messenger.send(ANA, Outgoing("hello"))
    finally:
        stand_in.start()
    assert not failed.value.permanent
    assert meta.PAGE_TOKEN not in str(failed.value)


@pytest.mark.parametrize(
    ("fault", "wait"), [(Fault(429, {"Retry-After": "7"}), 7.0), (meta.TOO_MANY_AS_400, 60.0)]
)
async def test_too_many_calls_are_tried_again_after_the_time_asked_for(
    messenger: Messenger, stand_in: MessengerStandIn, fault: Fault, wait: float
) -> None:
    """Graph says it with 429, or with 400 and a code of its own."""
    stand_in.fail(fault)
    with pytest.raises(PlatformError) as failed:
        await messenger.send(ANA, Outgoing("hello"))
    assert (failed.value.permanent, failed.value.retry_after) == (False, wait)


async def test_who_cannot_be_written_to_is_not_written_to_again(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    stand_in.blocked.add(ANA)
    stand_in.window_closed.add(BEN)
    for recipient, reason in ((ANA, "cannot be reached"), (BEN, "older than 24 hours")):
        with pytest.raises(PlatformError, match=reason) as failed:
            await messenger.send(recipient, Outgoing("I have sciatica, my number is 5550134"))
        assert failed.value.permanent
        assert "5550134" not in str(failed.value)


async def test_a_token_that_ran_out_can_be_put_right(stand_in: MessengerStandIn) -> None:
    environment = {**stand_in.environment, "PUBLIC_URL": PUBLIC_URL}
    wrong = Messenger.from_settings(
        load_settings({**environment, "MESSENGER_PAGE_TOKEN": "EAAG" + "x" * 40})
    )
    assert wrong is not None
    with pytest.raises(PlatformError, match="190") as failed:
        await wrong.send(ANA, Outgoing("hello"))
    assert not failed.value.permanent
    await wrong.close()


# Settings and the check.


def test_messenger_is_off_without_secrets_and_half_of_them_are_a_mistake() -> None:
    assert Messenger.from_settings(load_settings({})) is None
    environment = {**meta.ENVIRONMENT, "PUBLIC_URL": PUBLIC_URL}
    with pytest.raises(SettingError, match="MESSENGER_APP_SECRET"):
        load_settings({**environment, "MESSENGER_APP_SECRET": ""})
    with pytest.raises(SettingError, match="MESSENGER_GRAPH_VERSION"):
        load_settings({**environment, "MESSENGER_GRAPH_VERSION": "25"})


async def test_the_check_says_what_is_wrong(
    messenger: Messenger, stand_in: MessengerStandIn
) -> None:
    [unknown] = await messenger.check()
    assert f"{PUBLIC_URL}/webhooks/messenger" in unknown
    stand_in.callback_url = "https://elsewhere.example/webhooks/messenger"
    stand_in.app_fields, stand_in.page_fields = ["messages"], []
    elsewhere, app_fields, page_fields = await messenger.check()
    assert "elsewhere.example" in elsewhere
    assert "messaging_postbacks" in app_fields
    assert "messages and messaging_postbacks" in page_fields
    stand_in.callback_url = f"{PUBLIC_URL}/webhooks/messenger"
    stand_in.app_fields = stand_in.page_fields = ["messages", "messaging_postbacks"]
    assert await messenger.check() == []
    stand_in.stop()
    [away] = await messenger.check()
    assert "cannot reach" in away


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("MESSENGER_PAGE_TOKEN", "EAAG" + "x" * 40, "refuses MESSENGER_PAGE_TOKEN"),
        ("MESSENGER_APP_SECRET", "0" * 32, "MESSENGER_APP_SECRET is not of the app"),
        ("MESSENGER_GRAPH_VERSION", "v2.1", "MESSENGER_GRAPH_VERSION"),
    ],
)
async def test_the_check_names_the_setting_that_is_wrong(
    stand_in: MessengerStandIn, setting: str, value: str, said: str
) -> None:
    environment = {**stand_in.environment, "PUBLIC_URL": PUBLIC_URL, setting: value}
    messenger = Messenger.from_settings(load_settings(environment))
    assert messenger is not None
    [problem] = await messenger.check()
    assert said in problem
    assert not any(secret in problem for secret in (meta.PAGE_TOKEN, meta.APP_SECRET, value))
    await messenger.close()


def test_the_stand_in_signs_as_metas_page_shows() -> None:
    """The page's own example of escaped Unicode: äöå is \\u00e4\\u00f6\\u00e5."""
    assert json.loads(as_body({"a": "äöå/"})) == {"a": "äöå/"}
    assert as_body({"a": "äöå/"}) == b'{"a":"\\u00e4\\u00f6\\u00e5\\/"}'


# On the running server.


class TestMessenger(ChannelContract):
    channel: ClassVar[str] = "messenger"

    def test_meta_can_verify_the_address(self, line: Line) -> None:
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": "1158201444",
            "hub.verify_token": meta.VERIFY_TOKEN,
        }
        answer = line.server.http.get("/webhooks/messenger", params=query)
        assert (answer.status_code, answer.text) == (200, "1158201444")
        wrong = {**query, "hub.verify_token": "guessed-by-somebody"}
        refused = line.server.http.get("/webhooks/messenger", params=wrong)
        assert refused.status_code == 403
        assert "1158201444" not in refused.text

    def test_a_batch_of_several_people_is_answered_to_each(self, line: Line) -> None:
        one, other = line.newcomer(), line.newcomer()
        before = {who: len(line.platform.sent_to(who)) for who in (one, other)}
        first = entry(
            text_event(one, "Where can I park?"), text_event(other, "Should I avoid gluten?")
        )
        second = entry(text_event(one, "How much is the first visit?"))
        line.deliver_call(meta.signed({"object": "page", "entry": [first, second]}))
        line.settle()
        to_one, to_other = (
            shown(line.platform.sent_to(who)[count:]) for who, count in before.items()
        )
        assert 0 <= to_one.find(PARKING) < to_one.find(PRICE)
        assert GLUTEN in to_other
        assert PARKING not in to_other

    def test_who_cannot_be_answered_any_more_is_left_alone(self, line: Line, sender: str) -> None:
        line.platform.window_closed.add(sender)  # type: ignore[attr-defined]
        before, refused = line.platform.calls_made, line.states().get("refused", 0)
        line.deliver(Written(sender, "Where can I park?", order=fresh_number()))
        line.settle()
        assert line.platform.calls_made == before + 1
        assert line.states()["refused"] == refused + 1

    def test_the_limit_of_calls_told_with_400_is_no_refusal(self, line: Line, sender: str) -> None:
        refused = line.states().get("refused", 0)
        line.platform.fail(meta.TOO_MANY_AS_400)
        line.deliver(Written(sender, "Where can I park?", order=fresh_number()))
        self.wait_for_a_failed_call(line)
        assert line.states().get("refused", 0) == refused
        line.server.change("UPDATE channel_senders SET due_at = 0 WHERE failures > 0")
        line.settle()
        assert PARKING in shown(line.platform.sent_to(sender))
