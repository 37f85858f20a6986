"""Work on requests: who does it, notes, status, what was told to whom; each step noted in the log."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assistant.contact import records
from assistant.contact.cipher import Cipher, UnreadableError
from assistant.contact.inbox import opened_request
from assistant.contact.request import Request
from assistant.delivery.outbox import Delivery
from assistant.privacy import PersonalData, Retention, is_over
from assistant.staff import log
from assistant.staff.accounts import STAFF
from assistant.storage.database import (
    connected,
    contact_requests,
    contact_status_history,
    empty_log,
    outbox,
    request_assignments,
    request_notes,
    staff_accounts,
    transaction,
)

LONGEST_NOTE = 2000  # characters
MOST_AT_ONCE = 50
_EXPORTED_AT_ONCE = 10_000

MOVES = {
    "new": ("in_progress", "handled"),
    "in_progress": ("handled", "new"),
    "handled": ("in_progress",),
    "withdrawn": (),
}
"""To which statuses the office may move a request, the likeliest first."""


class WorkError(ValueError):
    """Something cannot be done with a request; the message says why and what to do."""


class NoRequestError(WorkError):
    """There is no such request, or no such note of one's own."""


@dataclass(frozen=True)
class Line:
    """A request in the list, with who does it ("" for nobody)."""

    request: Request
    assigned_to: str


@dataclass(frozen=True)
class Note:
    """What somebody of the office noted; text None if no key can read it."""

    id: int
    name: str
    at: float
    text: str | None


@dataclass(frozen=True)
class Step:
    """A status and when it began, in seconds since 1970."""

    status: str
    at: float


@dataclass(frozen=True)
class Work:
    """All about one request."""

    request: Request
    assigned_to: str
    notes: list[Note]
    history: list[Step]
    deliveries: list[Delivery]


class RequestWork:
    """Reads requests with what the office did, and does it.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it. Those that
    change something raise `NoRequestError` if the request is not there (any more).

    Args:
        engine: the database, with our tables.
        cipher: reads and encrypts personal fields.
        retention: older requests are not shown, even if they are not purged yet.
        targets: names of those who are told about requests now.
        clock: returns seconds since 1970.
    """

    def __init__(
        self,
        engine: Engine,
        cipher: Cipher,
        retention: Retention,
        targets: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._cipher = cipher
        self._retention = retention
        self._targets = frozenset(targets)
        self._clock = clock

    # Reading

    def count(self) -> dict[str, int]:
        """Return how many requests there are by status, those without any left out."""
        query = (
            sa.select(contact_requests.c.status, sa.func.count())
            .where(self._is_kept())
            .group_by(contact_requests.c.status)
        )
        with connected(self._engine) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def lines(
        self, status: str = "", assigned_to: str = "", number: str = "", start: int = 0
    ) -> list[Line]:
        """Return a page of the list: what waits longest first, of the rest the newest first.

        Args:
            status: only those with it; "" for all.
            assigned_to: only those of this account; "" for all.
            number: only those whose number holds these letters and digits; "" for all.
            start: how many to skip. One more than `MOST_AT_ONCE` comes if there are more.
        """
        return self._lines(status, assigned_to, number, start, MOST_AT_ONCE + 1)

    def export(
        self, by: str, status: str = "", assigned_to: str = "", number: str = ""
    ) -> list[Line]:
        """Return the whole list; noted in the log. See `lines`."""
        found = self._lines(status, assigned_to, number, 0, _EXPORTED_AT_ONCE)
        with transaction(self._engine) as connection:
            log.note(connection, by, "exported requests", str(len(found)))
        return found

    def work(self, number: str, by: str = "") -> Work | None:
        """Return all about a request, or None if there is none; noted in the log.

        Args:
            number: its public reference.
            by: who reads it.
        """
        with transaction(self._engine) as connection:
            row = self._row(connection, number)
            if row is None:
                return None
            log.note(connection, by, "read a request", number)
            assigned_to = connection.execute(
                sa.select(request_assignments.c.name).where(request_assignments.c.number == number)
            ).scalar()
            notes, history, deliveries = (
                connection.execute(
                    sa.select(table).where(table.c.number == number).order_by(order)
                ).all()
                for table, order in (
                    (request_notes, request_notes.c.id),
                    (contact_status_history, contact_status_history.c.id),
                    (outbox, outbox.c.created_at),
                )
            )
        return Work(
            request=opened_request(row, self._cipher),
            assigned_to=assigned_to or "",
            notes=[Note(note.id, note.name, note.at, self._text(note.sealed)) for note in notes],
            history=[Step(step.status, step.at) for step in history],
            deliveries=[Delivery(**delivery._mapping) for delivery in deliveries],
        )

    def colleagues(self) -> list[str]:
        """Return the accounts that answer requests, by name."""
        with connected(self._engine) as connection:
            return _staff_names(connection)

    def may_send_again(self, delivery: Delivery) -> bool:
        """Whether a message can go to its target once more: it is still in the settings."""
        return delivery.target in self._targets

    # Doing

    def move(self, number: str, status: str, by: str) -> None:
        """Change the status.

        Raises:
            WorkError: it cannot become that from what it is now.
        """
        with transaction(self._engine) as connection:
            row = self._held(connection, number)
            if row.status == status:
                return  # somebody pressed the same button a moment ago
            if status not in MOVES.get(row.status, ()):
                raise WorkError("Somebody changed this request meanwhile. Look at what it is now.")
            self._move(connection, row, status, by)

    def take(self, number: str, by: str) -> None:
        """Take a request oneself; a new one is in progress then."""
        with transaction(self._engine) as connection:
            row = self._held(connection, number)
            self._assign(connection, number, by, by)
            if row.status == "new":
                self._move(connection, row, "in_progress", by)

    def assign(self, number: str, name: str, by: str) -> None:
        """Give a request to an account, or to nobody ("").

        Raises:
            WorkError: the account does not answer requests.
        """
        with transaction(self._engine) as connection:
            self._held(connection, number)
            if name and name not in _staff_names(connection):
                raise WorkError(f"{name} does not answer requests. Choose somebody else.")
            self._assign(connection, number, name, by)

    def add_note(self, number: str, text: str, by: str) -> None:
        """Add a note, encrypted like the request.

        Raises:
            WorkError: it is empty or too long.
        """
        text = text.strip()
        if not text or len(text) > LONGEST_NOTE:
            raise WorkError(f"A note has 1 to {LONGEST_NOTE} characters; this one has {len(text)}.")
        with transaction(self._engine) as connection:
            self._held(connection, number)
            connection.execute(
                sa.insert(request_notes).values(
                    number=number,
                    name=by,
                    sealed=self._cipher.seal({"note": text}),
                    at=self._clock(),
                )
            )
            log.note(connection, by, "added a note", number)

    def delete_note(self, number: str, note_id: int, by: str) -> None:
        """Delete a note of one's own.

        Raises:
            NoRequestError: there is no such note, or somebody else wrote it.
        """
        with transaction(self._engine) as connection:
            gone = connection.execute(
                sa.delete(request_notes)
                .where(request_notes.c.id == note_id)
                .where(request_notes.c.number == number)
                .where(request_notes.c.name == by)
            ).rowcount
            if not gone:
                raise NoRequestError("There is no such note of yours.")
            log.note(connection, by, "deleted a note", number)

    def send_again(self, number: str, message_id: str, by: str) -> None:
        """Let the server tell a target once more, at once.

        What was delivered goes out under a new id: receivers ignore an id that they had.

        Raises:
            WorkError: its target is no longer told about requests.
        """
        with transaction(self._engine) as connection:
            row = connection.execute(
                sa.select(outbox)
                .where(outbox.c.number == number)
                .where(outbox.c.message_id == message_id)
                .with_for_update()
            ).first()
            if row is None:
                raise NoRequestError("There is no such message.")
            if row.target not in self._targets:
                raise WorkError(
                    "This address is not in the settings any more, so it is told nothing. "
                    "See OFFICE_EMAILS and WEBHOOK_URLS."
                )
            fresh = uuid.uuid4().hex if row.state == "delivered" else row.message_id
            connection.execute(
                sa.update(outbox)
                .where(outbox.c.message_id == message_id)
                # Not 0: the target may have heard of it, and hears of a withdrawal then.
                .values(
                    message_id=fresh, state="pending", attempts=1, next_attempt_at=self._clock()
                )
            )
            log.note(connection, by, "sent a message again", number)

    def delete(self, number: str, by: str, everything: bool = False) -> None:
        """Delete a request with all that belongs to it.

        Args:
            number: its public reference.
            by: who wants it.
            everything: also all else that is stored about the visitor. Then the number and its times
                stay as proof, and those who were told are told to delete their copies.
        """
        if everything:
            data = PersonalData(self._engine, self._cipher)
            found = data.find(number=number)
            if not found:
                raise NoRequestError("There is no such request.")
            data.erase(found)
        with transaction(self._engine) as connection:
            if not everything:
                self._held(connection, number)
                connection.execute(
                    sa.delete(contact_requests).where(contact_requests.c.number == number)
                )
                records.leave_receipt(connection, "erase", requests=1)
            what = "deleted all about a visitor" if everything else "deleted a request"
            log.note(connection, by, what, number)
        empty_log(self._engine)

    # Inside

    def _is_kept(self) -> Any:
        return sa.not_(is_over(self._retention, self._clock()))

    def _lines(
        self, status: str, assigned_to: str, number: str, start: int, most: int
    ) -> list[Line]:
        query = (
            sa.select(contact_requests, request_assignments.c.name.label("assigned_to"))
            .select_from(contact_requests.outerjoin(request_assignments))
            .where(self._is_kept())
            .offset(start)
            .limit(most)
        )
        if status:
            query = query.where(contact_requests.c.status == status)
        if assigned_to:
            query = query.where(request_assignments.c.name == assigned_to)
        letters = re.sub(r"[^0-9A-Z]", "", number.upper())
        if number:
            bare = sa.func.replace(contact_requests.c.number, "-", "")
            query = query.where(bare.contains(letters) if letters else sa.false())
        waits = status in ("new", "in_progress")
        moment = contact_requests.c.created_at
        query = query.order_by(moment if waits else moment.desc(), contact_requests.c.number)
        with connected(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Line(opened_request(row, self._cipher), row.assigned_to or "") for row in rows]

    def _row(self, connection: Connection, number: str, hold: bool = False) -> Any:
        query = (
            sa.select(contact_requests)
            .where(contact_requests.c.number == number)
            .where(self._is_kept())
        )
        return connection.execute(query.with_for_update() if hold else query).first()

    def _held(self, connection: Connection, number: str) -> Any:
        row = self._row(connection, number, hold=True)
        if row is None:
            raise NoRequestError("There is no such request; it may have been deleted.")
        return row

    def _move(self, connection: Connection, row: Any, status: str, by: str) -> None:
        records.set_status(connection, row.number, status)
        log.note(connection, by, f"set a request to {status.replace('_', ' ')}", row.number)

    def _assign(self, connection: Connection, number: str, name: str, by: str) -> None:
        connection.execute(
            sa.delete(request_assignments).where(request_assignments.c.number == number)
        )
        if name:
            connection.execute(
                sa.insert(request_assignments).values(number=number, name=name, at=self._clock())
            )
        log.note(connection, by, f"gave a request to {name or 'nobody'}", number)

    def _text(self, sealed: str) -> str | None:
        try:
            return self._cipher.open(sealed)["note"]
        except UnreadableError:
            return None


def _staff_names(connection: Connection) -> list[str]:
    rows = connection.execute(
        sa.select(staff_accounts.c.name, staff_accounts.c.roles).order_by(staff_accounts.c.name)
    )
    return [row.name for row in rows if STAFF in row.roles.split()]
