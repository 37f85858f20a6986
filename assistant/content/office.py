"""The practice's own facts (`office.yml`): read, validated, and put into words.

Every field may be empty; then the assistant says that it does not have it. Nothing is inferred.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic import BaseModel, Extra, Field, ValidationError, validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

_RANGE = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")
_LOOK_AHEAD = 28  # days; a practice that is closed for longer says so in a closure's reason


class OfficeFileError(ValueError):
    """`office.yml` is wrong; the message names file, line and what to do, one line a problem."""


@dataclass(frozen=True)
class OpenRange:
    """A stretch of one day in which the office is open."""

    start: dt.time
    end: dt.time


class _Strict(BaseModel):
    class Config:
        extra = Extra.forbid


class Closure(_Strict):
    """A day on which the office is closed although the week's hours say otherwise."""

    date: dt.date
    reason: str = ""


class Price(_Strict):
    """One line of the price list, as it is shown."""

    service: str
    price: str


class Practitioner(_Strict):
    """Somebody who treats patients; shown as written."""

    name: str
    credential: str = ""
    license_number: str = ""
    languages: list[str] = Field(default_factory=list)


class Office(_Strict):
    """All facts. Empty means: the assistant does not have it."""

    name: str = ""
    kind: str = "acupuncture and pain management office"
    city: str = ""
    state: str = ""
    address: str = ""
    map_url: str = ""
    landmarks: str = ""
    timezone: str = "America/Los_Angeles"
    hours: dict[str, list[OpenRange]] = Field(default_factory=dict)
    closures: list[Closure] = Field(default_factory=list)
    phone: str = ""
    text_messages_ok: bool | None = None
    email: str = ""
    contact_url: str = ""
    reply_time: str = ""
    booking_url: str = ""
    booking_rules: str = ""
    cancellation_policy: str = ""
    walk_in: str = ""
    next_available_note: str = ""
    prices: list[Price] = Field(default_factory=list)
    payment_methods: list[str] = Field(default_factory=list)
    insurers: list[str] = Field(default_factory=list)
    superbill: str = ""
    verification: str = ""
    medicare_note: str = ""
    workers_compensation: str = ""
    auto_injury: str = ""
    first_visit: str = ""
    visit_minutes: int | None = Field(None, gt=0, le=480)
    clothing_note: str = ""
    parking: str = ""
    access: str = ""
    practitioners: list[Practitioner] = Field(default_factory=list)
    services: list[str] = Field(default_factory=list)
    telehealth: str = ""
    conditions: list[str] = Field(default_factory=list)
    languages: list[str] = Field(default_factory=list)
    reviews_url: str = ""
    minors_policy: str = ""
    referral: str = ""
    records_request: str = ""
    privacy_url: str = ""
    privacy_contact: str = ""

    class Config:
        arbitrary_types_allowed = True

    @validator("*", pre=True)
    def _none_is_empty(cls, value: Any, field: Any) -> Any:  # noqa: N805 - pydantic's form
        """A key with nothing behind it is an empty field."""
        return field.get_default() if value is None else value

    @validator("map_url", "contact_url", "booking_url", "reviews_url", "privacy_url")
    def _address(cls, value: str) -> str:  # noqa: N805
        if value and not re.match(r"^https://[^\s/]+\.[^\s/]+(/\S*)?$", value):
            raise ValueError("is not a web address; write it whole, beginning with https://")
        return value

    @validator("phone")
    def _phone(cls, value: str) -> str:  # noqa: N805
        if not value:
            return value
        try:
            number = phonenumbers.parse(value, "US")
        except phonenumbers.NumberParseException as error:
            raise ValueError(
                f"is not a phone number ({error}); write it as (818) 555-0100"
            ) from None
        if not phonenumbers.is_possible_number(number):
            raise ValueError(
                "has too few or too many digits for a phone number; write it as (818) 555-0100"
            )
        return value

    @validator("email")
    def _email(cls, value: str) -> str:  # noqa: N805
        if value:
            try:
                validate_email(value, check_deliverability=False, test_environment=True)
            except EmailNotValidError as error:
                raise ValueError(f"is not an e-mail address: {error}") from None
        return value

    @validator("timezone")
    def _timezone(cls, value: str) -> str:  # noqa: N805
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"'{value}' is not a time zone; write it as America/Los_Angeles"
            ) from None
        return value

    @validator("hours", pre=True)
    def _hours(cls, value: Any) -> dict[str, list[OpenRange]]:  # noqa: N805
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError('needs days, each on a line of its own, as monday: "09:00-17:00"')
        return {_day(day): _ranges(day, ranges) for day, ranges in value.items()}

    # What is said of the facts. Each returns "" when the fact is not there.

    def is_open(self, moment: dt.datetime) -> bool:
        """Whether the office is open at a moment (an aware datetime, of any zone)."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        now = local.time().replace(tzinfo=None)
        return any(part.start <= now < part.end for part in self._open_on(local.date()))

    def hours_text(self) -> str:
        """Return the week, one day a line, days of equal hours together."""
        if not self.hours:
            return ""
        words = [self._day_text(day) for day in DAYS]
        lines: list[str] = []
        first = 0
        for position in range(1, len(DAYS) + 1):
            if position < len(DAYS) and words[position] == words[first]:
                continue
            name = DAYS[first].capitalize()
            if position - 1 > first:
                name += f" to {DAYS[position - 1].capitalize()}"
            lines.append(f"{name}: {words[first]}")
            first = position
        return "\n".join(lines)

    def open_now_text(self, moment: dt.datetime) -> str:
        """Say whether the office is open, and when it closes or next opens."""
        if not self.hours:
            return ""
        local = moment.astimezone(ZoneInfo(self.timezone))
        now = local.time().replace(tzinfo=None)
        for part in self._open_on(local.date()):
            if part.start <= now < part.end:
                return f"The office is open now, until {_clock(part.end)}."
        closed = next((c for c in self.closures if c.date == local.date()), None)
        reason = f" today ({closed.reason})" if closed and closed.reason else ""
        start = f"The office is closed{reason or ' now'}."
        for days in range(_LOOK_AHEAD):
            day = local.date() + dt.timedelta(days=days)
            for part in self._open_on(day):
                if days == 0 and part.start <= now:
                    continue
                return f"{start} It opens {_day_name(day, days)} at {_clock(part.start)}."
        return start

    def next_closures_text(self, moment: dt.datetime) -> str:
        """Name the closures of the coming weeks."""
        today = moment.astimezone(ZoneInfo(self.timezone)).date()
        near = [
            c for c in sorted(self.closures, key=lambda c: c.date)
            if today <= c.date <= today + dt.timedelta(days=_LOOK_AHEAD)
        ]  # fmt: skip
        days = [
            f"{c.date:%A, %B} {c.date.day}" + (f" ({c.reason})" if c.reason else "") for c in near
        ]
        return f"Closed on {_listed(days)}." if days else ""

    def contact_lines(self) -> str:
        """Return every way to reach the office that is known, one a line."""
        texts = " (calls and text messages)" if self.text_messages_ok else ""
        lines = [
            f"Book online: {self.booking_url}" if self.booking_url else "",
            f"Phone: {self.phone}{texts}" if self.phone else "",
            f"E-mail: {self.email}" if self.email else "",
            f"Contact page: {self.contact_url}" if self.contact_url else "",
        ]
        return "\n".join(line for line in lines if line)

    def facts(self, moment: dt.datetime) -> dict[str, str]:
        """Return every fact in words, by the name that answers use in braces; empty if unknown."""
        words: dict[str, str] = {}
        for name, value in self.dict(
            exclude={"hours", "closures", "prices", "practitioners"}
        ).items():
            if isinstance(value, bool):
                words[name] = "yes" if value else ""
            elif isinstance(value, list):
                words[name] = _listed([str(item) for item in value])
            else:
                words[name] = "" if value is None else str(value).strip()
        words["hours_text"] = self.hours_text()
        words["open_now_text"] = self.open_now_text(moment)
        words["next_closures_text"] = self.next_closures_text(moment)
        words["contact_lines"] = self.contact_lines()
        words["prices_text"] = "\n".join(f"{p.service}: {p.price}" for p in self.prices)
        words["practitioners_text"] = "\n".join(_practitioner_text(p) for p in self.practitioners)
        return words

    def missing(self) -> list[str]:
        """Return the names of the fields that are still empty."""
        return [name for name, value in self.dict().items() if value in ("", None, [], {})]

    def _open_on(self, day: dt.date) -> list[OpenRange]:
        if any(closure.date == day for closure in self.closures):
            return []
        return self.hours.get(DAYS[day.weekday()], [])

    def _day_text(self, day: str) -> str:
        ranges = self.hours.get(day, [])
        if not ranges:
            return "closed"
        return " and ".join(f"{_clock(part.start)} to {_clock(part.end)}" for part in ranges)


def load_office(path: Path) -> Office:
    """Read and validate the office's facts.

    Raises:
        OfficeFileError: the file is missing, is not YAML, or holds a wrong value; all problems at
            once, each with its line and what to do.
    """
    return _load(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=4)
def _load(path: Path, _modified: int) -> Office:
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise OfficeFileError(
            f"{path.name} is missing. Copy it from the repository; every field in it may be empty."
        ) from None
    except (MarkedYAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise OfficeFileError(
            f"{path.name}{line}: this is not readable as YAML ({getattr(error, 'problem', error)}). "
            f"Check the indentation and the quotes on this line and the one above."
        ) from None
    if not isinstance(document, dict):
        raise OfficeFileError(f"{path.name}:1: expected lines of the form 'name: value'.")
    try:
        return Office(**document)
    except ValidationError as error:
        problems = [_problem(path, document, entry) for entry in error.errors()]
        raise OfficeFileError("\n".join(sorted(set(problems)))) from None


def office_problems(facts: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with facts, by their names, and what to do; empty if nothing is.

    Args:
        facts: as the file holds them.
    """
    try:
        Office(**facts)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for entry in error.errors():
            known = entry["type"] != "value_error.extra"
            words = entry["msg"] if known else "is not a fact that the assistant knows"
            problems.setdefault(str(entry["loc"][0]), words)
        return problems
    return {}


def _problem(path: Path, document: Any, entry: Any) -> str:
    location = list(entry["loc"])
    line = _line_of(document, location)
    name = ".".join(str(part) for part in location)
    if entry["type"] == "value_error.extra":
        known = ", ".join(sorted(Office.__fields__))
        return (
            f"{path.name}:{line}: '{name}' is not a field I know. Known fields: {known}. "
            f"Correct the spelling or delete the line."
        )
    return f"{path.name}:{line}: {name} {entry['msg']}."


def _line_of(document: Any, location: list[Any]) -> int:
    line = 1
    for part in location:
        position = getattr(document, "lc", None)
        try:
            place = position.data[part]  # type: ignore[union-attr]
            line = place[0] + 1
            document = document[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return int(line)


def _day(day: Any) -> str:
    name = str(day).strip().lower()
    if name not in DAYS:
        raise ValueError(f"'{day}' is not a day; use {', '.join(DAYS)}")
    return name


def _ranges(day: Any, value: Any) -> list[OpenRange]:
    text = str(value or "").strip().lower()
    if text in ("", "closed"):
        return []
    ranges = []
    for part in text.split(","):
        match = _RANGE.match(part.strip().replace(" ", ""))
        if match is None:
            raise ValueError(
                f"of {day}: '{part.strip()}' is not a time range; write 24-hour times in quotes, "
                f'as "09:00-12:30, 14:00-18:00", or closed'
            )
        one, two, three, four = (int(group) for group in match.groups())
        start, end = dt.time(one, two), dt.time(three, four)
        if start >= end:
            raise ValueError(f"of {day}: '{part.strip()}' ends before it begins")
        ranges.append(OpenRange(start, end))
    return ranges


def _clock(time: dt.time) -> str:
    minutes = f":{time.minute:02d}" if time.minute else ""
    return f"{time.hour % 12 or 12}{minutes} {'am' if time.hour < 12 else 'pm'}"


def _day_name(day: dt.date, days_ahead: int) -> str:
    if days_ahead == 0:
        return "today"
    if days_ahead == 1:
        return "tomorrow"
    name = day.strftime("%A")
    return name if days_ahead < 7 else f"{name}, {day:%B} {day.day}"


def _listed(items: list[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def _practitioner_text(person: Practitioner) -> str:
    text = ", ".join(part for part in (person.name, person.credential) if part)
    if person.license_number:
        text += f" (license {person.license_number})"
    if person.languages:
        text += f", speaks {_listed(person.languages)}"
    return text
