"""Slack: only what Slack signed is read, everything a patient writes is, and nothing else is sent."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from sanic.request import Request

from assistant.channels.messaging.platform import (
    Choice,
    ForgedRequestError,
    Outgoing,
    PlatformError,
    UnreadableRequestError,
)
from assistant.channels.messaging.slack import Slack
from tests.changed_json import changes
from tests.channel_contract import ChannelContract
from tests.platforms.base import BROKEN, NOT_JSON, SILENT, Fault, WebhookCall
from tests.platforms.slack import (
    BOT_TOKEN,
    SIGNING_SECRET,
    SlackStandIn,
    event,
    no_messages,
    press,
    sign,
    signed,
)

Result = TypeVar("Result")
DM = "D024BE91L"


@pytest.fixture(scope="module")
def stand_in() -> Iterator[SlackStandIn]:
    platform = SlackStandIn()
    platform.start()
    yield platform
    platform.stop()


@pytest.fixture
def slack_api(stand_in: SlackStandIn) -> SlackStandIn:
    """Slack, with nothing sent yet."""
    stand_in.sent.clear()
    stand_in.problems.clear()
    stand_in.errors.clear()
    return stand_in


def slack_at(url: str, token: str = BOT_TOKEN, seconds: float = 5.0) -> Slack:
    return Slack(token, SIGNING_SECRET, "http://127.0.0.1:9/webhooks/slack", url, seconds)


@pytest.fixture
def slack(slack_api: SlackStandIn) -> Slack:
    return slack_at(slack_api.url)


def run(work: Awaitable[Result], slack: Slack) -> Result:
    """Do one thing with the platform, and close it."""

    async def closing() -> Result:
        try:
            return await work
        finally:
            await slack.close()

    return asyncio.run(closing())


def arriving(delivery: WebhookCall) -> Request:
    request = Request(b"/webhooks/slack", CIMultiDict(delivery.headers), "1.1", "POST", None, None)
    request.body = delivery.body
    return request


def read(slack: Slack, delivery: WebhookCall) -> list[Any]:
    request = arriving(delivery)
    slack.verify(request)
    return slack.read(request)


# Who may call.


def test_the_stand_in_signs_as_slack_documents() -> None:
    """The example of https://docs.slack.dev/authentication/verifying-requests-from-slack."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands"
        b"%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = sign(body, 1531420618, "8f742231b10e8888abcd99yyyzzz85a5")
    assert headers["X-Slack-Signature"] == (
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    )


BODY = event(DM, "What are your hours?")


def changed(**headers: str) -> WebhookCall:
    """Return a signed call with other headers; "" leaves one out."""
    call = signed(BODY)
    kept = {**call.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return replace(call, headers={name: value for name, value in kept.items() if value})


FORGED = {
    "unsigned": (changed(X_Slack_Signature=""), 401),
    "without its time": (changed(X_Slack_Request_Timestamp=""), 401),
    "signed with another secret": (signed(BODY, secret="x" * 32), 403),
    "older than five minutes": (signed(BODY, int(time.time()) - 301), 403),
    "from an hour in the future": (signed(BODY, int(time.time()) + 4000), 403),
    "with a time that is no number": (changed(X_Slack_Request_Timestamp="now"), 403),
    "with a time beyond all numbers": (changed(X_Slack_Request_Timestamp="9" * 400), 403),
    "with a signature beyond ASCII": (changed(X_Slack_Signature="v0=\u00fc"), 403),
    "of another scheme": (
        changed(X_Slack_Signature=signed(BODY).headers["X-Slack-Signature"].replace("v0", "v1")),
        403,
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_slack_did_not_sign_is_refused(slack: Slack, name: str) -> None:
    delivery, status = FORGED[name]
    with pytest.raises(ForgedRequestError) as refusal:
        slack.verify(arriving(delivery))
    assert refusal.value.status == status


@pytest.mark.parametrize("body", [b'{"type": "event_callback"}', b"\xff\xfe", b""])
def test_a_body_that_was_changed_on_its_way_is_refused(slack: Slack, body: bytes) -> None:
    with pytest.raises(ForgedRequestError):
        slack.verify(arriving(replace(signed(BODY), body=body)))


def test_a_form_is_verified_as_it_came(slack: Slack) -> None:
    delivery = signed(press(DM, "k3x9", "Hours"))
    slack.verify(arriving(delivery))
    with pytest.raises(ForgedRequestError):  # the same form, written otherwise
        slack.verify(arriving(replace(delivery, body=delivery.body.replace(b"+", b"%20"))))


# What is read.


def test_a_direct_message_is_read(slack: Slack) -> None:
    body = event(DM, "What are your hours?", event_id="Ev0PV52K25", ts="1525215129.000001")
    (message,) = read(slack, signed(body))
    assert (message.message_id, message.sender, message.text) == (
        "Ev0PV52K25",
        DM,
        "What are your hours?",
    )
    assert message.order == 1525215129.000001
    assert not message.choice
    assert not message.unreadable


def test_what_slack_makes_of_addresses_is_undone(slack: Slack) -> None:
    """Else nobody could leave an e-mail address; https://docs.slack.dev/messaging/formatting-message-text."""
    typed = {
        "<mailto:jane@example.com|jane@example.com>": "jane@example.com",
        "call <tel:+12025550123|+1 202-555-0123> please": "call +1 202-555-0123 please",
        "see <https://example.com/a?b=1&amp;c=2>": "see https://example.com/a?b=1&c=2",
        "see <http://example.com|example.com>": "see http://example.com",
        "is <https://example.com/x|this page> right": "is this page https://example.com/x right",
        "2 &lt; 3 &amp;&amp; 4 &gt; 3": "2 < 3 && 4 > 3",
        "&amp;lt;b&amp;gt;": "&lt;b&gt;",
        "hello <@U0LAN0Z89>": "hello ",
        "ask <@U0LAN0Z89|maria> in <#C0G9QF9GZ|general>": "ask @maria in #general",
    }
    for sent, meant in typed.items():
        (message,) = read(slack, signed(event(DM, sent)))
        assert message.text == meant, sent


def test_a_picture_alone_is_told_from_one_with_words(slack: Slack) -> None:
    files = [{"id": "F0AB", "mimetype": "image/png"}]
    (alone,) = read(slack, signed(event(DM, "", subtype="file_share", files=files)))
    assert alone.unreadable == "media"
    (told,) = read(slack, signed(event(DM, "my back", subtype="file_share", files=files)))
    assert (told.text, told.unreadable) == ("my back", "")


@pytest.mark.parametrize("name", no_messages(DM))
def test_what_is_no_message_of_a_patient_is_left_out(slack: Slack, name: str) -> None:
    assert read(slack, signed(no_messages(DM)[name])) == []


def test_a_press_brings_the_id_of_its_button(slack: Slack) -> None:
    body = press(DM, "k3x9", "Hours", trigger_id="398738663015.47445629121.803a")
    (message,) = read(slack, signed(body))
    assert (message.sender, message.choice, message.text) == (DM, "k3x9", "Hours")
    (replayed,) = read(slack, signed(body))
    (second,) = read(slack, signed(press(DM, "k3x9", "Hours")))
    assert replayed.message_id == message.message_id != second.message_id


UNREADABLE = {
    "no JSON": b"{",
    "a list": b"[]",
    "no type": b"{}",
    "deeper than anybody nests": b"[" * 100_000,
    "a message without a channel": json.dumps(event(DM, "x", channel=None)).encode(),
    "a message without a time": json.dumps(event(DM, "x", ts=None)).encode(),
    "a time that is none": json.dumps(event(DM, "x", ts="NaN")).encode(),
    "text that is none": json.dumps(event(DM, "x", text=["x"])).encode(),
    "no event": b'{"type": "event_callback", "event_id": "Ev1"}',
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_signed_body_of_another_shape_is_refused_as_such(slack: Slack, name: str) -> None:
    body = UNREADABLE[name]
    with pytest.raises(UnreadableRequestError):
        read(
            slack,
            WebhookCall(
                "/webhooks/slack", {"Content-Type": "application/json", **sign(body)}, body
            ),
        )


def test_slack_gets_its_challenge_back(slack: Slack) -> None:
    body = {"type": "url_verification", "token": "Jhj5d", "challenge": "3eZbrw1aBm2rZgRN"}
    answer = slack.acknowledge(arriving(signed(body)))
    assert json.loads(answer.body) == {"challenge": "3eZbrw1aBm2rZgRN"}
    assert slack.acknowledge(arriving(signed(event(DM, "Hello")))).body == b""


# What is sent. The stand-in refuses what breaks Slack's limits.


def test_text_buttons_and_picture_arrive(slack: Slack, slack_api: SlackStandIn) -> None:
    outgoing = Outgoing(
        "Bend & hold <10> seconds.",
        (Choice("k3x9", "Another & more"), Choice("p2q7", "Hours")),
        "https://chat.example.com/webchat/stretch.png",
        "A person bends forward",
    )
    run(slack.send(DM, outgoing), slack)
    (sent,) = slack_api.sent
    assert slack_api.problems == []
    assert (sent.recipient, sent.text) == (DM, "Bend & hold <10> seconds.")
    assert sent.choices == (("k3x9", "Another & more"), ("p2q7", "Hours"))
    assert sent.raw["blocks"][1]["alt_text"] == "A person bends forward"


def test_the_largest_message_fits(slack: Slack, slack_api: SlackStandIn) -> None:
    limits = slack.limits
    choices = tuple(
        Choice(f"{place:02}" + "k" * (limits.choice_id - 2), "W" * limits.choice_title)
        for place in range(limits.choices)
    )
    text = ("& " * limits.text)[: limits.text_with_choices]  # each & takes five characters
    run(slack.send(DM, Outgoing(text, choices)), slack)
    (sent,) = slack_api.sent
    assert slack_api.problems == []
    assert "".join(sent.text.split()) == "".join(text.split())
    assert len(sent.choices) == limits.choices


def test_a_long_word_without_spaces_is_not_lost(slack: Slack, slack_api: SlackStandIn) -> None:
    run(slack.send(DM, Outgoing("<" * 3000)), slack)
    assert slack_api.problems == []
    assert slack_api.sent[0].text.replace("\n", "") == "<" * 3000


def test_nobody_can_be_mentioned_by_an_answer(slack: Slack, slack_api: SlackStandIn) -> None:
    run(slack.send(DM, Outgoing("<!channel> <@U1> <https://evil.example|the office>")), slack)
    assert slack_api.problems == []
    assert "&lt;!channel&gt;" in slack_api.sent[0].raw["blocks"][0]["text"]["text"]


def test_a_picture_that_slack_cannot_fetch_costs_no_words(
    slack: Slack, slack_api: SlackStandIn
) -> None:
    slack_api.unfetched = {"https://chat.example.com/gone.png"}
    picture = Outgoing("Bend slowly.", (), "https://chat.example.com/gone.png", "A person bends")
    run(slack.send(DM, picture), slack)
    (sent,) = slack_api.sent
    assert sent.text == "Bend slowly.\nA person bends: https://chat.example.com/gone.png"


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        ("channel_not_found", True),
        ("is_archived", True),
        ("account_inactive", True),
        ("messages_tab_disabled", True),
        ("invalid_auth", False),
        ("missing_scope", False),
        ("fatal_error", False),
        ("something_new", False),
    ],
)
def test_errors_of_slack_end_a_message_or_not(
    slack: Slack, slack_api: SlackStandIn, error: str, permanent: bool
) -> None:
    slack_api.errors = [error]
    with pytest.raises(PlatformError, match=error) as failure:
        run(slack.send(DM, Outgoing("Hello")), slack)
    assert failure.value.permanent is permanent
    assert "Hello" not in str(failure.value)


def test_slack_is_not_asked_before_it_wants(slack: Slack, slack_api: SlackStandIn) -> None:
    """429 and Retry-After: https://docs.slack.dev/apis/web-api/rate-limits."""
    slack_api.fail(Fault(429, {"Retry-After": "7"}, b'{"ok": false, "error": "ratelimited"}'))
    with pytest.raises(PlatformError) as failure:
        run(slack.send(DM, Outgoing("Hello")), slack)
    assert (failure.value.retry_after, failure.value.permanent) == (7, False)


ELSEWHERE = Fault(307, {"Location": "/auth.test"})


@pytest.mark.parametrize("fault", [BROKEN, NOT_JSON, SILENT, ELSEWHERE])
def test_a_failing_slack_is_tried_again(slack_api: SlackStandIn, fault: Fault) -> None:
    slack = slack_at(slack_api.url, seconds=0.5)
    slack_api.fail(fault)
    with pytest.raises(PlatformError) as failure:
        run(slack.send(DM, Outgoing("Hello")), slack)
    assert not failure.value.permanent
    assert BOT_TOKEN not in str(failure.value)


# `assistant channels check`.


def test_a_wrong_token_and_a_missing_scope_are_named(slack_api: SlackStandIn) -> None:
    slack = slack_at(slack_api.url, token="xoxb-another-one")
    assert "SLACK_BOT_TOKEN (invalid_auth)" in run(slack.check(), slack)[0]
    slack = slack_at(slack_api.url)
    slack_api.scopes = "chat:write,users:read"
    (problem,) = run(slack.check(), slack)
    assert "im:history" in problem
    assert "chat:write" not in problem


# Whatever Slack signs.


@given(change=changes, kind=st.sampled_from(["message", "press"]))
@settings(max_examples=300, deadline=None)
def test_no_signed_body_breaks_the_reader(change: Any, kind: str) -> None:
    slack = slack_at("http://127.0.0.1:9")
    payload = event(DM, "Hello") if kind == "message" else press(DM, "k3x9", "Hours")
    body = change(payload)
    call = signed(body) if isinstance(body, dict) and isinstance(body.get("type"), str) else None
    if call is None:
        content = json.dumps(body).encode()
        call = WebhookCall("/", {"Content-Type": "application/json", **sign(content)}, content)
    try:
        found = read(slack, call)
    except UnreadableRequestError:
        return
    for message in found:
        assert message.message_id
        assert message.sender
        assert math.isfinite(message.order)


# Everything that must hold on any channel, on the running server.


class TestSlack(ChannelContract):
    channel: ClassVar[str] = "slack"
