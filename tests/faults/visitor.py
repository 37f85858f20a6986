"""Visitors of the web chat: what they say, and what they saw."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

QUESTION = "what is sciatica?"
OTHER_QUESTION = "does acupuncture hurt?"
RED_FLAG = "I cannot hold my urine and my groin is numb"
PATIENCE = 40.0
"""Seconds that a visitor's browser waits for an answer."""

_NUMBER = re.compile(r"R-[2-9A-Z]{4}-[2-9A-Z]{4}")
_BEGIN = "I want to book an appointment"
_SAYS = {
    "consent": "yes",
    "name": "Ana Lopez",
    "reach": "818 555 0134",
    "time": "Tuesday afternoon",
    "note": "Skip",
    "decision": "send",
}


@dataclass(frozen=True)
class Sight:
    """What a visitor saw of one message.

    Attributes:
        said: the visitor's words.
        message_id: what the browser named them.
        status: the HTTP status; 0 if the connection broke.
        messages: what was answered.
        error: the error of the contract, or the reason for no answer.
        seconds: how long it took.
        at: when it was said, on the clock that never jumps.
    """

    said: str
    message_id: str
    status: int
    messages: list[dict[str, Any]]
    error: str
    seconds: float
    at: float

    @property
    def words(self) -> str:
        """All that was answered, or the error's sentence."""
        return "\n".join(message["text"] for message in self.messages) or self.error

    @property
    def kind(self) -> str:
        """What it was: an "answer", an "apology", a polite refusal ("refused") or "nothing"."""
        if self.status == 200 and any(message["text"] for message in self.messages):
            told = {key for message in self.messages for key in message["metadata"]}
            return "answer" if told & {"topic", "asks", "urgency"} else "apology"
        return "refused" if self.status in (429, 503) and self.error else "nothing"

    @property
    def asks(self) -> str:
        """What the contact form asks for next."""
        return str(self.messages[-1]["metadata"].get("asks", "")) if self.messages else ""

    @property
    def topics(self) -> list[str]:
        """What was answered about."""
        return [str(message["metadata"].get("topic", "")) for message in self.messages]

    @property
    def is_advice(self) -> bool:
        """Whether it is the advice on a red flag."""
        return self.status == 200 and any("urgency" in m["metadata"] for m in self.messages)

    def __str__(self) -> str:
        first = " ".join(self.words.split())
        shown = first if len(first) <= 60 else f"{first[:57]}..."
        return f'{self.status or "no answer"} "{shown}" ({self.seconds:.1f} s)'


@dataclass
class Visitor:
    """One conversation over HTTP.

    Attributes:
        url: of the server.
        conversation_id: the server's name for it.
        sights: what was seen, in order.
        numbers: of the requests that were confirmed.
        in_order: whether each message was sent after the one before was answered.
        token: the session's.
        connection: kept open from message to message; None opens one for each.
    """

    url: str
    conversation_id: str = ""
    sights: list[Sight] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    in_order: bool = True
    token: str = ""
    connection: httpx.Client | None = None

    def open(self, url: str = "") -> Visitor:
        """Start a session; try until the server lets one in."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                response = httpx.post(f"{url or self.url}/webchat/session", timeout=PATIENCE)
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code == 201:
                session = response.json()
                self.token = session["token"]
                self.conversation_id = session["conversation_id"]
                return self
            assert time.monotonic() < deadline, f"no session: {response and response.text}"
            time.sleep(0.2)  # between tries; the deadline decides

    def say(self, text: str, message_id: str = "", url: str = "") -> Sight:
        """Send a message; return what came back, whatever it was."""
        message_id = message_id or uuid.uuid4().hex
        status, messages, error = 0, [], ""
        began = time.monotonic()
        try:
            response = (self.connection or httpx).post(
                f"{url or self.url}/webchat/messages",
                json={"text": text, "id": message_id},
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=PATIENCE,
            )
            status = response.status_code
            body = response.json()
            messages, error = body.get("messages", []), body.get("error", {}).get("message", "")
        except (httpx.TransportError, ValueError) as failure:
            error = type(failure).__name__
        seconds = time.monotonic() - began
        sight = Sight(text, message_id, status, messages, error, seconds, began)
        self.sights.append(sight)
        for number in _NUMBER.findall(sight.words):
            if number not in self.numbers:
                self.numbers.append(number)
        return sight

    def history(self) -> list[dict[str, Any]]:
        """Return the conversation as a reloaded page shows it."""
        response = httpx.get(
            f"{self.url}/webchat/messages",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=PATIENCE,
        )
        assert response.status_code == 200, response.text
        return list(response.json()["messages"])


@dataclass
class Booking:
    """A visitor who wants an appointment and does not give up.

    What was not answered is sent again under the same id, as the widget does; after an apology the
    visitor types it anew. Where the form was given up on purpose, as after an hour's pause, the
    visitor `may_begin_again`.
    """

    visitor: Visitor
    asks: str = ""
    begun_again: int = 0
    may_begin_again: bool = False
    _waiting: tuple[str, str] | None = None

    @property
    def number(self) -> str:
        """The number that was confirmed; "" before."""
        return self.visitor.numbers[-1] if self.visitor.numbers else ""

    def next_message(self) -> tuple[str, str]:
        """Return what is to be said next, and its id."""
        if self._waiting is None:
            text = _SAYS.get(self.asks, _BEGIN)
            if text == _BEGIN:
                self.begun_again += any(sight.said == _BEGIN for sight in self.visitor.sights)
            self._waiting = (text, uuid.uuid4().hex)
        return self._waiting

    def take(self, sight: Sight) -> None:
        """Take in what came back."""
        if sight.kind == "answer":
            self._waiting = None
            self.asks = sight.asks
        elif sight.kind == "apology":
            self._waiting = (sight.said, uuid.uuid4().hex)

    def step(self) -> Sight:
        """Say what is to be said next; return what came back."""
        sight = self.visitor.say(*self.next_message())
        self.take(sight)
        return sight

    def go_to(self, asked: str) -> None:
        """Answer until the form asks for something, or until it is sent (`asked` is "")."""
        deadline = time.monotonic() + 2 * PATIENCE
        while not (self.number if not asked else self.asks == asked):
            sight = self.step()
            if sight.kind != "answer":
                time.sleep(0.3)  # as a person does; the deadline decides
            assert time.monotonic() < deadline, f"the booking is stuck at {self.asks!r}: {sight}"
