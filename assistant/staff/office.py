"""The office's facts as a form: checked in place, with what is missing, what changes, and a way back."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sanic.request import Request
from sanic.response import HTTPResponse
from sqlalchemy.engine import Engine

from assistant.content.office import DAYS
from assistant.content.office_edit import (
    Facts,
    OfficeEditError,
    OfficeText,
    OfficeValuesError,
    changed_office_text,
    parsed_office_text,
    read_office_text,
    write_office_text,
)
from assistant.settings import Settings, office_file
from assistant.staff import log
from assistant.staff.guard import EDITOR, Guard
from assistant.staff.pages import NotThereError, page, see
from assistant.staff.visit import Visit
from assistant.storage.database import (
    StorageError,
    connected,
    in_thread,
    office_changes,
    transaction,
)

LONGEST = 2000  # characters of one field
_MOST_ROWS = 60
_BLANK_ROWS = 2
_SHOWN_CHANGES = 10

LINE, TEXT, CHOICE, NUMBER, LIST, WEEK, ROWS = (
    "line", "text", "choice", "number", "list", "week", "rows",
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One fact in the form.

    Attributes:
        name: as in `office.yml`.
        label, help: in words.
        kind: how it is typed: a line, a text, yes or no, a number, a list with a line for each, the
            hours of the week, or rows of columns.
        columns: of rows: name and label.
    """

    name: str
    label: str
    help: str = ""
    kind: str = LINE
    columns: tuple[tuple[str, str], ...] = ()


GROUPS: tuple[tuple[str, tuple[Field, ...]], ...] = (
    (
        "Who and where",
        (
            Field("name", "Name of the office", "As patients know it."),
            Field("kind", "What it is"),
            Field("city", "City"),
            Field("state", "State"),
            Field("address", "Address", "Street, city, state, ZIP."),
            Field("map_url", "Map", "A web address, beginning with https://."),
            Field("landmarks", "Landmarks", "A sentence.", TEXT),
            Field("timezone", "Time zone", "As America/Los_Angeles."),
        ),
    ),
    (
        "When",
        (
            Field(
                "hours",
                "Hours",
                "24-hour times, as 09:00-12:30, 14:00-18:00; or closed. A day without anything "
                "counts as closed, once any day is filled in.",
                WEEK,
            ),
            Field(
                "closures",
                "Days on which it is closed",
                "Besides the week's hours.",
                ROWS,
                (("date", "Date, as 2026-12-25"), ("reason", "Reason")),
            ),
        ),
    ),
    (
        "How to reach it",
        (
            Field("phone", "Phone", "As (818) 555-0100."),
            Field("text_messages_ok", "Takes text messages", "", CHOICE),
            Field("email", "E-mail"),
            Field("contact_url", "Contact page", "A web address, beginning with https://."),
            Field("reply_time", "How soon it answers", "A sentence.", TEXT),
        ),
    ),
    (
        "Appointments",
        (
            Field("booking_url", "Online booking", "A web address, beginning with https://."),
            Field("booking_rules", "Rules", "A sentence or two.", TEXT),
            Field("cancellation_policy", "Cancelling", "A sentence or two.", TEXT),
            Field("walk_in", "Without an appointment", "A sentence: may people come?", TEXT),
            Field("next_available_note", "How soon there is room", "A sentence.", TEXT),
        ),
    ),
    (
        "Prices and insurance",
        (
            Field("prices", "Prices", "", ROWS, (("service", "Service"), ("price", "Price"))),
            Field("payment_methods", "Ways to pay", "One in each line.", LIST),
            Field("insurers", "Insurers that the office bills", "One in each line.", LIST),
            Field("superbill", "Superbill", "A sentence: does the office write one?", TEXT),
            Field("verification", "How coverage is checked", "A sentence.", TEXT),
            Field("medicare_note", "Medicare", "A sentence.", TEXT),
            Field("workers_compensation", "Workers' compensation", "A sentence.", TEXT),
            Field("auto_injury", "Auto injuries", "A sentence.", TEXT),
        ),
    ),
    (
        "The visit",
        (
            Field("first_visit", "First visit", "A sentence or two: forms, what to bring.", TEXT),
            Field("visit_minutes", "Minutes of a visit", "", NUMBER),
            Field("clothing_note", "Clothes", "A sentence.", TEXT),
            Field("parking", "Parking", "A sentence.", TEXT),
            Field("access", "Access", "A sentence on steps, elevator, wheelchairs, transit.", TEXT),
        ),
    ),
    (
        "People and services",
        (
            Field(
                "practitioners",
                "Practitioners",
                "",
                ROWS,
                (
                    ("name", "Name"),
                    ("credential", "Credential"),
                    ("license_number", "License number"),
                    ("languages", "Languages, with commas"),
                ),
            ),
            Field("services", "Services", "One in each line.", LIST),
            Field("telehealth", "Video visits", "A sentence.", TEXT),
            Field("conditions", "What else it treats", "One in each line.", LIST),
            Field("languages", "Languages", "One in each line.", LIST),
            Field("reviews_url", "Reviews", "A web address, beginning with https://."),
        ),
    ),
    (
        "Rules and privacy",
        (
            Field("minors_policy", "Minors", "A sentence.", TEXT),
            Field("referral", "Referral", "A sentence: is one needed?", TEXT),
            Field("records_request", "Records", "A sentence on how patients get theirs.", TEXT),
            Field(
                "privacy_url",
                "Privacy policy",
                "A web address. A public site needs it before the chat is on it.",
            ),
            Field("privacy_contact", "Privacy questions", "Who answers them."),
        ),
    ),
)

FIELDS = {one.name: one for _, fields in GROUPS for one in fields}

_SAID = {
    "saved": "It is saved, and live within seconds.",
    "undone": "It is taken back, and live within seconds.",
}


@dataclass(frozen=True)
class Change:
    """A change of the file that was made here.

    Attributes:
        number: its own.
        at: seconds since 1970.
        name: who made it.
        lines: what differed.
        is_last: whether the file is still as it left it, so that it can be taken back.
    """

    number: int
    at: float
    name: str
    lines: list[tuple[str, str]]
    is_last: bool


@dataclass(frozen=True)
class Shown:
    """What the page shows.

    Attributes:
        values: of the form, by the names of its inputs.
        rows: how many rows there are of each fact that has rows.
        seen: digest of the file that the form was made from.
        missing: labels of what is empty in the file.
        problems: what is wrong, by fact.
        lines: what would change; None before that was asked.
        trouble: why the file cannot be changed here; "" if it can.
        changes: the last ones.
    """

    values: Mapping[str, str]
    rows: Mapping[str, int]
    seen: str
    missing: list[Field]
    problems: Mapping[str, str] = field(default_factory=dict)
    lines: list[tuple[str, str]] | None = None
    trouble: str = ""
    changes: list[Change] = field(default_factory=list)


class OfficeForm:
    """Reads and writes `office.yml` for the form.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it.

    Args:
        engine: the database, which keeps the changes.
        path: the file.
        needs_privacy: whether the privacy policy may not be empty.
    """

    def __init__(self, engine: Engine, path: Path, needs_privacy: bool = False) -> None:
        self._engine = engine
        self._path = path
        self._needs_privacy = needs_privacy
        self._lock = threading.Lock()

    def show(self) -> Shown:
        """Return the form as the file has it."""
        try:
            now = read_office_text(self._path)
        except OfficeEditError as error:
            return Shown({}, {}, "", [], trouble=str(error))
        values = form_values(now.facts)
        return Shown(
            values, _rows(values), now.digest, _missing(now.facts), changes=self._changes(now)
        )

    def check(self, values: Mapping[str, str]) -> Shown:
        """Return the form as it was filled in, with what is wrong, or what would change."""
        shown, _, _ = self._checked(values)
        return shown

    def save(self, values: Mapping[str, str], seen: str, by: str) -> Shown | None:
        """Store what was filled in.

        Args:
            values: of the form, by the names of its inputs.
            seen: digest of the file when the form was made.
            by: who does it.

        Returns:
            None if it is stored; else the form, with why not.
        """
        with self._lock:
            shown, before, after = self._checked(values)
            if before is None or after is None or shown.problems or shown.trouble:
                return shown
            if before.digest != seen:
                return Shown(
                    **{
                        **vars(shown),
                        "trouble": "The file was changed since you opened this page. Below is what "
                        "your values would change in it now: look at it, then save again.",
                    }
                )
            if before.text == after.text:
                return Shown(**{**vars(shown), "trouble": "Nothing is different from the file."})
            try:
                self._write(before, after, by, "changed the facts of the office")
            except OfficeEditError as error:
                return Shown(**{**vars(shown), "trouble": str(error)})
            return None

    def undo(self, number: int, by: str) -> str:
        """Take the last change back; that is a change too.

        Returns:
            Why it cannot be done; "" if it was.

        Raises:
            LookupError: there is no such change.
        """
        with self._lock:
            with connected(self._engine) as connection:
                row = connection.execute(
                    sa.select(office_changes).where(office_changes.c.id == number)
                ).first()
            if row is None:
                raise LookupError(number)
            try:
                now = read_office_text(self._path)
                if now.text != row.after:
                    return "The file was changed since. Take back what came later first."
                before = changed_office_text(parsed_office_text(row.before), {})
                self._write(now, before, by, "took back a change of the facts")
            except OfficeEditError as error:
                return str(error)
        return ""

    def _checked(
        self, values: Mapping[str, str]
    ) -> tuple[Shown, OfficeText | None, OfficeText | None]:
        """Return the form, the file, and the file as it would be if nothing is wrong."""
        try:
            now = read_office_text(self._path)
        except OfficeEditError as error:
            return Shown(values, _rows(values), "", [], trouble=str(error)), None, None
        problems = {
            name: f"has more than {LONGEST} characters; shorten it"
            for name, text in values.items()
            if len(text) > LONGEST
        }
        facts, unread = facts_of(values)
        problems = {**{name.partition(".")[0]: why for name, why in problems.items()}, **unread}
        if self._needs_privacy and not facts.get("privacy_url"):
            problems["privacy_url"] = "is needed on a public site: without it no start is allowed"
        after, trouble = None, ""
        try:
            after = changed_office_text(now, facts)
        except OfficeValuesError as error:
            problems = {**error.problems, **problems}
        except OfficeEditError as error:
            trouble = str(error)
        shown = Shown(
            values,
            _rows(values),
            now.digest,
            _missing(now.facts),
            problems,
            now.difference(after) if after and not problems else None,
            trouble,
            self._changes(now),
        )
        return shown, now, after

    def _write(self, before: OfficeText, after: OfficeText, by: str, what: str) -> None:
        is_written = False
        try:
            with transaction(self._engine) as connection:
                connection.execute(
                    sa.insert(office_changes).values(
                        at=time.time(), name=by, before=before.text, after=after.text
                    )
                )
                log.note(connection, by, what, self._path.name)
                write_office_text(self._path, before, after)
                is_written = True
        except StorageError:
            if is_written:  # and not kept, so it could not be taken back
                write_office_text(self._path, after, before)
            raise

    def _changes(self, now: OfficeText) -> list[Change]:
        query = sa.select(office_changes).order_by(office_changes.c.id.desc()).limit(_SHOWN_CHANGES)
        with connected(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            Change(
                row.id,
                row.at,
                row.name,
                OfficeText(row.before, {}).difference(OfficeText(row.after, {})),
                place == 0 and row.after == now.text,
            )
            for place, row in enumerate(rows)
        ]


def add_office(guard: Guard, engine: Engine, settings: Settings) -> None:
    """Add the page with the office's facts."""
    form = OfficeForm(engine, office_file(), needs_privacy=settings.production)

    def shown_page(visit: Visit, shown: Shown, said: str = "") -> HTTPResponse:
        failed = bool(shown.problems or shown.trouble)
        return page(
            "office.html",
            visit,
            status=400 if failed and shown.values else 200,
            shown=shown,
            groups=GROUPS,
            days=DAYS,
            fields=FIELDS,
            longest=LONGEST,
            said=said,
        )

    @guard.get("/office", EDITOR, menu="Office")
    async def show(request: Request, visit: Visit) -> HTTPResponse:
        said = _SAID.get(request.args.get("done", ""), "")
        return shown_page(visit, await in_thread(form.show), said)

    @guard.post("/office", EDITOR)
    async def take(request: Request, visit: Visit) -> HTTPResponse:
        given = {name: str(values[0]) for name, values in (request.form or {}).items() if values}
        values = {name: text for name, text in given.items() if name.partition(".")[0] in FIELDS}
        if given.get("do") != "save":
            return shown_page(visit, await in_thread(form.check, values))
        refused = await in_thread(form.save, values, given.get("seen", ""), visit.name)
        return shown_page(visit, refused) if refused else see("/office", done="saved")

    @guard.post("/office/undo", EDITOR)
    async def undo(request: Request, visit: Visit) -> HTTPResponse:
        number = str((request.form or {}).get("change") or "")
        try:
            trouble = await in_thread(form.undo, int(number), visit.name)
        except (LookupError, ValueError):
            raise NotThereError("There is no such change.") from None
        if trouble:
            shown = await in_thread(form.show)
            return shown_page(visit, Shown(**{**vars(shown), "trouble": trouble}))
        return see("/office", done="undone")


def form_values(facts: Facts) -> dict[str, str]:
    """Return facts as the inputs of the form show them, by the inputs' names."""
    values: dict[str, str] = {}
    for name, one in FIELDS.items():
        value = facts.get(name)
        if one.kind == WEEK:
            hours = {str(day).lower(): text for day, text in (value or {}).items()}
            for day in DAYS:
                values[f"{name}.{day}"] = str(hours.get(day) or "")
        elif one.kind == ROWS:
            for place, row in enumerate(value or []):
                for column, _ in one.columns:
                    part = row.get(column) if isinstance(row, dict) else ""
                    words = ", ".join(map(str, part)) if isinstance(part, list) else part
                    values[f"{name}.{place}.{column}"] = "" if words is None else str(words)
        elif one.kind == LIST:
            values[name] = "\n".join(map(str, value or []))
        elif isinstance(value, bool):
            values[name] = "yes" if value else "no"
        else:
            values[name] = "" if value is None else str(value).strip()
    return values


def facts_of(values: Mapping[str, str]) -> tuple[Facts, dict[str, str]]:
    """Return the facts that the inputs hold, and what cannot be read of them, by fact."""
    facts: Facts = {}
    problems: dict[str, str] = {}

    def text(name: str) -> str:
        return "\n".join(line.rstrip() for line in values.get(name, "").strip().splitlines())

    for name, one in FIELDS.items():
        if one.kind == WEEK:
            facts[name] = {day: text(f"{name}.{day}") for day in DAYS if text(f"{name}.{day}")}
        elif one.kind == ROWS:
            facts[name] = []
            for place in range(_MOST_ROWS):
                row: dict[str, Any] = {
                    column: text(f"{name}.{place}.{column}") for column, _ in one.columns
                }
                if any(row.values()):
                    if "languages" in row:
                        row["languages"] = _parts(row["languages"], ",")
                    facts[name].append(row)
        elif one.kind == LIST:
            facts[name] = _parts(text(name), "\n")
        elif one.kind == CHOICE:
            facts[name] = {"yes": True, "no": False}.get(text(name))
        elif one.kind == NUMBER and text(name):
            if text(name).isascii() and text(name).isdigit():
                facts[name] = int(text(name)[:9])
            else:
                facts[name], problems[name] = None, "is not a whole number"
        else:
            words = text(name)
            facts[name] = (words if one.kind == TEXT else " ".join(words.split())) or None
    return facts, problems


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _rows(values: Mapping[str, str]) -> dict[str, int]:
    """Return how many rows to show: those that are filled in, and some more."""
    rows = {name: 0 for name, one in FIELDS.items() if one.kind == ROWS}
    for key, text in values.items():
        name, _, rest = key.partition(".")
        place = rest.partition(".")[0]
        if name in rows and text.strip() and place.isdigit() and int(place) < _MOST_ROWS:
            rows[name] = max(rows[name], int(place) + 1)
    return {name: min(count + _BLANK_ROWS, _MOST_ROWS) for name, count in rows.items()}


def _missing(facts: Facts) -> list[Field]:
    return [one for name, one in FIELDS.items() if facts.get(name) in (None, "", [], {})]
