"""One fault put to the test: what is done, what visitors saw, and what must be true afterwards."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import sqlalchemy as sa

from tests.faults.place import Place
from tests.faults.proxy import FaultProxy
from tests.faults.visitor import OTHER_QUESTION, QUESTION, RED_FLAG, Booking, Sight, Visitor

RECOVERY_SECONDS = 30.0
"""Longest time from the end of a fault to the first ordinary answer."""


@dataclass(frozen=True)
class Fault:
    """A fault of the suite.

    Attributes:
        name: for `--only`.
        done: what is done, for the table.
        place: what it is done to: "small", "large", or "" if it brings its own.
        stage: does it.
    """

    name: str
    done: str
    place: str
    stage: Callable[[Trial], None]


FAULTS: list[Fault] = []
"""All faults, in the order in which they are staged."""


def fault(name: str, place: str, done: str) -> Callable[[Callable[[Trial], None]], None]:
    """Add a fault to the suite."""

    def add(stage: Callable[[Trial], None]) -> None:
        FAULTS.append(Fault(name, done, place, stage))

    return add


@dataclass
class Trial:
    """A fault at work."""

    fault: Fault
    place: Place
    seen: list[str] = field(default_factory=list)
    recovered: str = ""
    problems: list[str] = field(default_factory=list)
    visitors: list[Visitor] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)

    def must(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition holds; go on in any case."""
        if not condition and problem not in self.problems:
            self.problems.append(problem)

    def wire(self, name: str) -> FaultProxy:
        """Return the wire to a service of the installation."""
        wire = getattr(self.place, name)
        assert isinstance(wire, FaultProxy), f"this installation has no {name}"
        return wire

    def visitor(self) -> Visitor:
        """Return a new visitor, whose conversation is checked at the end."""
        visitor = Visitor(self.place.url).open()
        self.visitors.append(visitor)
        return visitor

    def booking(self, asked: str = "") -> Booking:
        """Return a new visitor on the way to an appointment.

        Args:
            asked: what the form asks for when the fault comes; "" is before it began.
        """
        booking = Booking(self.visitor())
        self.bookings.append(booking)
        if asked:
            booking.go_to(asked)
        return booking

    def note(self, what: str, sight: Sight, may_be_cut: bool = False) -> Sight:
        """Note for the table what a visitor saw; it must have been something.

        Args:
            what: what the visitor wanted.
            sight: what was seen.
            may_be_cut: whether the connection may break: then the message was not accepted.
        """
        line = f"{what}: {sight}"
        cut = may_be_cut and not sight.status
        self.must(cut or sight.kind != "nothing", f"no visible answer: {line}")
        alike = f"{what}: {sight.status} {sight.words[:40]}"
        if alike not in self._shown:
            self._shown.add(alike)
            self.seen.append(line)
        return sight

    @contextmanager
    def storage_fails(self) -> Iterator[None]:
        """Mark the time in which an answer may be given although it cannot be stored."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._unstorable.append((began, time.monotonic()))

    def endure(self, booking: Booking, until: Callable[[], bool] | float = 0.0) -> None:
        """Let visitors talk while the fault is there: at least one round, then until it is enough.

        Args:
            booking: a visitor who wants an appointment.
            until: says when it is enough, or how many seconds to go on.
        """
        began = time.monotonic()
        asking, hurt = self.visitor(), self.visitor()
        while True:
            self.note("a question", asking.say(QUESTION))
            self.red_flag(hurt)
            if not booking.number:
                self.note("the booking", booking.step())
            over = until() if callable(until) else time.monotonic() - began >= until
            if over:
                return

    def red_flag(self, visitor: Visitor) -> None:
        """Report an emergency; the advice must come."""
        sight = self.note("an emergency", visitor.say(RED_FLAG))
        self.must(sight.is_advice, f"no advice on a red flag: {sight}")

    def recover(self, within: float = RECOVERY_SECONDS) -> None:
        """Wait for ordinary answers; then finish the bookings and compare with the database."""
        pid = self.place.server.process.pid
        began = time.monotonic()
        visitor = self.visitor()
        while True:
            sight = visitor.say(QUESTION)
            if sight.kind == "answer" and "symptoms/what_is_sciatica" in sight.topics:
                break
            if time.monotonic() - began > within:
                self.problems.append(f"no ordinary answer within {within:g} s: {sight}")
                return
            time.sleep(0.2)  # between tries; the deadline decides
        took = time.monotonic() - began
        same = self.place.server.process.poll() is None and self.place.server.process.pid == pid
        self.must(same, "the process did not survive")
        again = visitor.say(OTHER_QUESTION)
        self.must(again.kind == "answer", f"a second question was not answered: {again}")
        for booking in self.bookings:
            booking.go_to("")
            lost = booking.begun_again and not booking.may_begin_again
            self.must(not lost, "a booking had to begin from the start")
        self.check()
        ready = self._until_ready(within)
        self.must(ready, f"/health/ready did not turn 200 within {within:g} s")
        if not self.recovered:
            self.recovered = f"by itself, the same process: an ordinary answer after {took:.1f} s"
        done = sum(len(visitor.numbers) for visitor in self.visitors)
        if done:
            self.recovered += f"; {done} requests confirmed, each stored once"
        if self._unstored:
            self.recovered += f"; {self._unstored} messages were answered without being stored"

    def check(self) -> None:
        """Compare what the visitors saw with what the database holds."""
        with self.place.engine.connect() as connection:
            for visitor in self.visitors:
                self._check_requests(connection, visitor)
                self._check_events(connection, visitor)

    def requests_of(self, visitor: Visitor) -> list[str]:
        """Return the numbers of a visitor's requests in the database."""
        query = sa.text("select number from contact_requests where conversation_id = :mine")
        with self.place.engine.connect() as connection:
            rows = connection.execute(query, {"mine": visitor.conversation_id})
            return [str(row[0]) for row in rows]

    def _check_requests(self, connection: sa.engine.Connection, visitor: Visitor) -> None:
        stored = self.requests_of(visitor)
        self.must(
            sorted(stored) == sorted(visitor.numbers),
            f"confirmed {visitor.numbers}, but stored {stored}",
        )
        for number in stored:
            rows = sa.text("select status from contact_status_history where number = :number")
            history = [row[0] for row in connection.execute(rows, {"number": number})]
            self.must(history == ["new"], f"the history of {number} is {history}")
            rows = sa.text("select target from outbox where number = :number")
            told = [row[0] for row in connection.execute(rows, {"number": number})]
            self.must(
                len(told) == len(set(told)) == self.place.targets,
                f"{number} is to be told to {told}",
            )

    def _check_events(self, connection: sa.engine.Connection, visitor: Visitor) -> None:
        query = sa.text("select type_name, data from events where sender_id = :mine order by id")
        rows = connection.execute(query, {"mine": visitor.conversation_id}).all()
        stored = [_message_id(data) for kind, data in rows if kind == "user"]
        times = Counter(stored)
        for message_id, count in times.items():
            self.must(count == 1, f"message {message_id} is stored {count} times")
        # Advice is also given when nothing can be stored, and then stands nowhere.
        sent = [s.message_id for s in visitor.sights if s.kind == "answer" and not s.is_advice]
        for sight in visitor.sights:
            if sight.message_id in sent and sight.message_id not in times:
                self._unstored += 1
                self.must(self._may_be_unstored(sight), f"answered, but not stored: {sight}")
        order = [message_id for message_id in stored if message_id in sent]
        unique = [message_id for message_id in dict.fromkeys(sent) if message_id in times]
        self.must(
            not visitor.in_order or order == unique, "the conversation is stored in another order"
        )

    def _may_be_unstored(self, sight: Sight) -> bool:
        return any(
            sight.at <= end and sight.at + sight.seconds >= began for began, end in self._unstorable
        )

    def _until_ready(self, within: float) -> bool:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.place.url}/health/ready", timeout=10).status_code == 200:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.2)  # between looks; the deadline decides
        return False

    def __post_init__(self) -> None:
        self._shown: set[str] = set()
        self._unstorable: list[tuple[float, float]] = []
        self._unstored = 0


def _message_id(data: str) -> str:
    try:
        return str(json.loads(data).get("message_id"))
    except ValueError:
        return ""  # a row that a fault has damaged
