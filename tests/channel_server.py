"""One server with all messaging channels on, and the stand-ins of their platforms around it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from tests.conftest import EXAMPLE_OFFICE, Server, start_server, stop_server
from tests.platforms.base import PUBLIC_URL, Sent, StandIn, WebhookCall, Written, fresh_number
from tests.platforms.messenger import MessengerStandIn
from tests.platforms.slack import SlackStandIn
from tests.platforms.telegram import TelegramStandIn
from tests.platforms.twilio import TwilioStandIn

STAND_INS: tuple[type[StandIn], ...] = (
    TwilioStandIn,
    MessengerStandIn,
    TelegramStandIn,
    SlackStandIn,
)
"""A new platform's stand-in belongs here."""

CALL_SECONDS = 3.0
"""How long the server waits for a platform: less than a silent stand-in takes."""

LONG_ANSWER = " ".join(f"Room number {n} has screen number {n}." for n in range(1, 251))
"""What the office says of visits by video: longer than any platform's message."""

LONG_QUESTION = "Do you offer video visits?"


@dataclass
class Channels:
    """The server and its platforms, by channel."""

    server: Server
    stand_ins: dict[str, StandIn]

    def line(self, name: str) -> Line:
        return Line(self.server, self.stand_ins[name])


@dataclass
class Line:
    """The way between the patients of one platform and the server."""

    server: Server
    platform: StandIn

    def post(self, call: WebhookCall) -> httpx.Response:
        """Make a call of the server's webhook, and return its answer."""
        return self.server.http.request(
            call.method, call.path, content=call.body, headers=call.headers
        )

    def deliver(self, *written: Written) -> None:
        """Tell the server of messages as the platform does."""
        for call in self.platform.calls(*written):
            self.deliver_call(call)

    def deliver_call(self, call: WebhookCall) -> None:
        response = self.post(call)
        assert self.platform.is_acknowledged(response.status_code, response.content), (
            response.status_code,
            response.text,
        )

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until no message waits for an answer any more."""
        deadline = time.monotonic() + seconds
        while self.pending():
            assert time.monotonic() < deadline, f"{self.pending()} messages are not answered"
            time.sleep(0.02)  # between looks; the deadline decides, not this

    def pending(self) -> int:
        (row,) = self.server.rows("SELECT count(*) FROM channel_messages WHERE state = 'pending'")
        return int(row[0])

    def states(self) -> dict[str, int]:
        """Return how many messages ended in which way."""
        rows = self.server.rows("SELECT state, count(*) FROM channel_messages GROUP BY state")
        return {row[0]: row[1] for row in rows}

    def say(self, sender: str, text: str) -> list[Sent]:
        """Write something, and return the messages that answer it."""
        return self.answers_to(Written(sender, text, order=fresh_number()))

    def answers_to(self, written: Written) -> list[Sent]:
        before = len(self.platform.sent_to(written.sender))
        self.deliver(written)
        self.settle()
        return self.platform.sent_to(written.sender)[before:]

    def choose(self, sender: str, title: str) -> list[Sent]:
        """Choose what was offered last: by its button, or else by its number."""
        for message in reversed(self.platform.sent_to(sender)):
            for choice, shown in message.choices:
                if shown == title:
                    return self.answers_to(
                        Written(sender, title, choice=choice, order=fresh_number())
                    )
            numbered = re.search(rf"^(\d+)\. {re.escape(title)}$", message.text, re.MULTILINE)
            if numbered:
                return self.say(sender, numbered.group(1))
        raise AssertionError(f"{title!r} was not offered")

    def newcomer(self) -> str:
        """Return somebody who has heard the first words of the channel already."""
        sender = self.platform.new_sender()
        self.say(sender, "hello")
        return sender


def shown(messages: list[Sent]) -> str:
    """Return what somebody reads, buttons included."""
    lines = []
    for message in messages:
        lines += [message.text, *(f"[{title}]" for _, title in message.choices)]
    return "\n".join(lines)


def without(call: WebhookCall, header: str) -> WebhookCall:
    return replace(call, headers={k: v for k, v in call.headers.items() if k != header})


def start_channels(folder: Path, **environment: str) -> Channels:
    """Start the stand-ins and a server that knows them all."""
    office = folder / "office.yml"
    text = EXAMPLE_OFFICE.read_text(encoding="utf-8")
    office.write_text(
        re.sub(r"(?m)^telehealth: .*$", f"telehealth: {LONG_ANSWER}", text), encoding="utf-8"
    )
    stand_ins = [stand_in for kind in STAND_INS for stand_in in kind.make()]
    settings: dict[str, str] = {}
    for stand_in in stand_ins:
        stand_in.start()
        settings.update(stand_in.environment)
    server = start_server(
        folder,
        **{
            **settings,
            "PUBLIC_URL": PUBLIC_URL,
            "OFFICE_FILE": str(office),
            "CHANNEL_CALL_SECONDS": str(CALL_SECONDS),
            **environment,
        },
    )
    return Channels(server, {stand_in.channel or stand_in.name: stand_in for stand_in in stand_ins})


def stop_channels(channels: Channels) -> None:
    stop_server(channels.server)
    for stand_in in channels.stand_ins.values():
        stand_in.stop()
