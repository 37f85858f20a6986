"""The office's own facts: read, refused with the line, and put into words."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from assistant.content.office import Office, OfficeFileError, load_office
from tests.conftest import EXAMPLE_OFFICE, PROJECT

LOS_ANGELES = ZoneInfo("America/Los_Angeles")


def office_from(tmp_path: Path, text: str) -> Office:
    path = tmp_path / "office.yml"
    path.write_text(text, encoding="utf-8")
    return load_office(path)


@pytest.fixture(scope="module")
def office() -> Office:
    return load_office(EXAMPLE_OFFICE)


def test_the_shipped_file_states_only_what_the_offices_page_states() -> None:
    office = load_office(PROJECT / "office.yml")
    filled = {name for name, value in office.dict().items() if value not in ("", None, [], {})}
    assert filled == {"kind", "city", "state", "timezone"}


def test_the_example_fills_every_field(office: Office) -> None:
    assert office.missing() == []
    facts = office.facts(dt.datetime(2026, 12, 20, tzinfo=LOS_ANGELES))
    assert all(facts.values()), [name for name, value in facts.items() if not value]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("city: Encino\nfone: 1", 2, "not a field I know"),
        ('hours:\n  monday: "9-17"', 1, "not a time range"),
        ('hours:\n  mondy: "09:00-17:00"', 1, "not a day"),
        ('hours:\n  monday: "17:00-09:00"', 1, "ends before it begins"),
        ("hours: all day", 1, "needs days"),
        ("name: x\nmap_url: www.example.com", 2, "not a web address"),
        ("name: x\nmap_url: javascript:alert(1)", 2, "not a web address"),
        ("phone: call us", 1, "not a phone number"),
        ("phone: '12'", 1, "phone number"),
        ("email: nobody", 1, "not an e-mail address"),
        ("timezone: Mars/Olympus", 1, "not a time zone"),
        ("closures:\n  - {date: tomorrow}", 2, "date"),
        ("visit_minutes: -5", 1, "visit_minutes"),
        ("name: [unclosed", 1, "YAML"),
        ("- a list", 1, "name: value"),
    ],
)
def test_a_wrong_line_is_named_with_what_to_do(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    with pytest.raises(OfficeFileError) as caught:
        office_from(tmp_path, text)
    assert f"office.yml:{line}" in str(caught.value)
    assert words in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OfficeFileError) as caught:
        office_from(tmp_path, "fone: 1\nemail: x\nmap_url: y\n")
    assert len(str(caught.value).splitlines()) == 3


def test_an_empty_file_is_an_office_without_facts(tmp_path: Path) -> None:
    assert office_from(tmp_path, "").hours_text() == ""


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-11-23 10:00", "open now, until 12:30 pm"),
        ("2026-11-23 12:30", "closed now. It opens today at 2 pm"),
        ("2026-11-23 08:59", "opens today at 9 am"),
        ("2026-11-23 18:00", "opens tomorrow at 9 am"),
        ("2026-11-27 16:00", "opens Monday at 9 am"),
        ("2026-12-25 10:00", "closed today (Christmas Day). It opens Monday at 9 am"),
        ("2026-12-24 19:00", "It opens Monday at 9 am"),
    ],
)
def test_open_now_is_told_in_the_offices_time_zone(office: Office, moment: str, words: str) -> None:
    local = dt.datetime.fromisoformat(moment).replace(tzinfo=LOS_ANGELES)
    elsewhere = local.astimezone(ZoneInfo("Asia/Tokyo"))
    assert words in office.open_now_text(elsewhere)
    assert office.is_open(elsewhere) == ("open now" in words)


def test_days_of_equal_hours_stand_together(office: Office) -> None:
    assert office.hours_text().splitlines() == [
        "Monday to Thursday: 9 am to 12:30 pm and 2 pm to 6 pm",
        "Friday: 9 am to 3 pm",
        "Saturday to Sunday: closed",
    ]


def test_an_office_that_never_opens_does_not_promise_to(tmp_path: Path) -> None:
    office = office_from(tmp_path, "hours:\n  monday: closed\n")
    text = office.open_now_text(dt.datetime(2026, 11, 23, tzinfo=LOS_ANGELES))
    assert text == "The office is closed now."
