"""The office's facts as a form: a change touches its lines alone, and nothing wrong is stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from assistant.content.office import Office, load_office
from assistant.content.office_edit import (
    OfficeEditError,
    OfficeValuesError,
    changed_office_text,
    parsed_office_text,
    read_office_text,
)
from assistant.staff.office import FIELDS, OfficeForm, Shown, facts_of, form_values
from assistant.storage.database import engine_for
from tests.conftest import EXAMPLE_OFFICE, PROJECT

FILES = [PROJECT / "office.yml", EXAMPLE_OFFICE]


@pytest.fixture
def engine(database_url: str) -> sa.engine.Engine:
    return engine_for(database_url)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(EXAMPLE_OFFICE, tmp_path / "office.yml"))


@pytest.fixture
def form(tmp_path: Path, path: Path) -> OfficeForm:
    return OfficeForm(engine_for(f"sqlite:///{tmp_path / 'assistant.db'}"), path)


def changed(form: OfficeForm, **values: str) -> dict[str, str]:
    return {
        **form.show().values,
        **{name.replace("__", "."): text for name, text in values.items()},
    }


def test_the_form_has_every_fact() -> None:
    assert set(FIELDS) == set(Office.__fields__)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_form_that_is_sent_back_as_it_came_changes_no_byte(file: Path) -> None:
    before = read_office_text(file)
    facts, problems = facts_of(form_values(before.facts))
    assert problems == {}
    assert changed_office_text(before, facts).text == before.text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_the_lines_of_a_fact_change_and_comments_stay(end: str) -> None:
    text = (
        f"# The office.{end}name: Old Name   # as patients know it{end}{end}"
        f"# When{end}hours:   # by day{end}  monday: closed{end}{end}# The end{end}phone:{end}"
    )
    after = changed_office_text(
        parsed_office_text(text),
        {"name": 'New: "Name"', "hours": {"monday": "09:00-12:30"}, "languages": ["English", "No"]},
    ).text
    assert after == (
        f'# The office.{end}name: "New: \\"Name\\""  # as patients know it{end}{end}'
        f'# When{end}hours:   # by day{end}  monday: "09:00-12:30"{end}{end}# The end{end}phone:{end}'
        f'languages:{end}  - English{end}  - "No"{end}'
    )


WORDS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("#:'\"-[]{}&*!|>%@`\n\\"),
    max_size=40,
).filter(lambda text: "${" not in text)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=WORDS, services=st.lists(WORDS, max_size=3))
def test_whatever_is_typed_is_read_again_as_it_was_typed(words: str, services: list[str]) -> None:
    before = read_office_text(EXAMPLE_OFFICE)
    typed = {**form_values(before.facts), "parking": words, "services": "\n".join(services)}
    facts, problems = facts_of(typed)
    assert problems == {}
    try:
        after = changed_office_text(before, facts)
    except OfficeEditError:  # refused is fine, harmed is not
        event("refused")
        return
    again, _ = facts_of(form_values(after.facts))
    assert again == facts


def test_what_is_wrong_is_said_in_place_and_nothing_is_stored(form: OfficeForm, path: Path) -> None:
    before = path.read_bytes()
    shown = form.save(
        changed(
            form,
            phone="call us",
            email="nowhere",
            map_url="maps.example.com",
            hours__monday="9 to 5",
            visit_minutes="an hour",
            closures__0__date="Christmas",
            parking="${DATABASE_URL}",
        ),
        form.show().seen,
        "eddie",
    )
    assert shown is not None
    assert set(shown.problems) == {
        "phone", "email", "map_url", "hours", "visit_minutes", "closures", "parking",
    }  # fmt: skip
    assert shown.values["phone"] == "call us", "what was typed is lost"
    assert path.read_bytes() == before
    with pytest.raises(OfficeValuesError, match="secrets"):
        changed_office_text(read_office_text(path), {"parking": "see ${HOME}"})


def test_a_public_site_keeps_its_privacy_policy(tmp_path: Path, path: Path) -> None:
    form = OfficeForm(engine_for(f"sqlite:///{tmp_path / 'a.db'}"), path, needs_privacy=True)
    shown = form.save(changed(form, privacy_url=""), form.show().seen, "eddie")
    assert shown is not None
    assert list(shown.problems) == ["privacy_url"]


def test_a_change_is_shown_stored_and_taken_back(form: OfficeForm, path: Path) -> None:
    before = path.read_bytes()
    values = changed(
        form, parking="There are\r\ntwo lots.", prices__1__price="$88", text_messages_ok=""
    )
    shown = form.check(values)
    assert path.read_bytes() == before
    assert shown.lines is not None
    assert ("+", '  - {service: Follow-up, price: "$88"}') in shown.lines
    assert form.save(values, shown.seen, "eddie") is None
    office = load_office(path)
    assert (office.parking.strip(), office.prices[1].price) == ("There are\ntwo lots.", "$88")
    assert office.text_messages_ok is None
    (change,) = form.show().changes
    assert (change.name, change.is_last) == ("eddie", True)
    assert form.undo(change.number, "olga") == ""
    assert path.read_bytes() == before
    last, first = form.show().changes
    assert (last.name, last.is_last, first.is_last) == ("olga", True, False)
    assert "changed since" in form.undo(first.number, "olga")
    with pytest.raises(LookupError):
        form.undo(999, "olga")


def test_of_two_editors_the_second_sees_what_the_first_changed(
    form: OfficeForm, path: Path
) -> None:
    seen = form.show().seen
    mine, theirs = changed(form, parking="A lot."), changed(form, clothing_note="Anything.")
    assert form.save(theirs, seen, "olga") is None
    shown = form.save(mine, seen, "eddie")
    assert isinstance(shown, Shown)
    assert "changed since you opened" in shown.trouble
    assert ("-", "clothing_note: Anything.") in (shown.lines or [])
    assert load_office(path).clothing_note == "Anything."


@pytest.mark.parametrize("text", ["name: [", "{name: One}", "- a list\n", "just words\n"])
def test_a_file_that_cannot_be_read_is_left_alone(form: OfficeForm, path: Path, text: str) -> None:
    values = form.show().values
    path.write_text(text)
    shown = form.show()
    assert shown.trouble
    assert shown.values == {}
    refused = form.save(values, shown.seen, "eddie")
    assert refused is not None
    assert refused.trouble
    assert path.read_text() == text
