"""Requests as files: a table for spreadsheets, an appointment for calendars."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable

from assistant.contact.request import Draft
from assistant.contact.words import shown_phone
from assistant.staff.pages import local_time
from assistant.staff.request_work import Line

_HEAD = (
    "number", "received", "status", "assigned to", "name", "phone", "e-mail", "preferred time", "note",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(lines: Iterable[Line]) -> str:
    """Return requests as comma-separated values, times in the office's time zone.

    What visitors wrote may begin like a formula; such a cell gets an apostrophe in front, so that no
    spreadsheet runs it (OWASP, CSV injection).
    """
    rows = [_HEAD]
    for line in lines:
        wishes = line.request.wishes or Draft(name="(no key can read it)")
        receipt = line.request.receipt
        rows.append(
            (
                receipt.number,
                f"{local_time(receipt.created_at):%Y-%m-%d %H:%M}",
                receipt.status.replace("_", " "),
                line.assigned_to,
                wishes.name,
                shown_phone(wishes.phone),
                wishes.email,
                wishes.preferred_time,
                wishes.note,
            )
        )
    return table_csv(rows)


def table_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as comma-separated values that no spreadsheet takes for formulas."""
    file = io.StringIO()
    csv.writer(file).writerows([_harmless(str(cell)) for cell in row] for row in rows)
    return file.getvalue()


def as_calendar(
    number: str, wishes: Draft, start: dt.datetime, minutes: int, place: str = ""
) -> str:
    """Return an appointment as iCalendar (RFC 5545).

    Args:
        number: of the request.
        wishes: what the visitor wrote.
        start: an aware time.
        minutes: how long it takes.
        place: where; "" if not known.
    """
    details = {
        "Name": wishes.name,
        "Phone": shown_phone(wishes.phone),
        "E-mail": wishes.email,
        "Preferred time": wishes.preferred_time,
        "Note": wishes.note,
    }
    description = "\n".join(f"{label}: {value}" for label, value in details.items() if value)
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//assistant//staff pages//EN",
        "METHOD:PUBLISH",
        "BEGIN:VEVENT",
        f"UID:{number.lower()}@assistant",
        f"DTSTAMP:{_utc(dt.datetime.now(dt.timezone.utc))}",
        f"DTSTART:{_utc(start)}",
        f"DTEND:{_utc(start + dt.timedelta(minutes=minutes))}",
        f"SUMMARY:{_escaped(f'{wishes.name} ({number})')}",
        f"DESCRIPTION:{_escaped(description)}",
        *([f"LOCATION:{_escaped(place)}"] if place else []),
        "END:VEVENT",
        "END:VCALENDAR",
    ]
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def _escaped(text: str) -> str:
    for character in ("\\", ";", ","):
        text = text.replace(character, f"\\{character}")
    return "\\n".join(text.splitlines())


def _folded(line: str) -> str:
    """Break a line after 75 octets, between characters."""
    parts, part = [], ""
    for character in line:
        if len((part + character).encode()) > 74:
            parts.append(part)
            part = ""
        part += character
    return "\r\n ".join([*parts, part])
