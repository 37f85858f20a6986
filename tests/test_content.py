"""The shipped content passes its own check; and each rule of the check is proven by breaking it."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.content.catalogue import load_catalogue
from assistant.content.check import check_project, median_grade
from tests.conftest import PROJECT

TODAY = dt.date(2026, 12, 1)
FAQ = "data/faq/diet.yml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of two areas of the content, to be broken; all of it would take long to check."""
    for name in ("data", "domain.yml", "office.yml"):
        source = PROJECT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    for path in (tmp_path / "data" / "faq").glob("*.yml"):
        if path.stem not in ("diet", "office"):
            path.unlink()
    (tmp_path / "data" / "nlu.yml").write_text('version: "3.1"\nnlu: []\n', encoding="utf-8")
    return tmp_path


def test_the_shipped_content_has_no_problem() -> None:
    assert [str(problem) for problem in check_project(PROJECT)] == []


def test_the_content_is_read_again_only_when_a_file_changed(project: Path) -> None:
    first = load_catalogue(project)
    assert load_catalogue(project) is first
    path = project / "data" / "sources.yml"
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    assert load_catalogue(project) is not first


def test_the_answers_are_easy_to_read() -> None:
    assert median_grade(PROJECT) <= 6.5


def test_there_are_all_topics_and_each_has_buttons_that_lead_somewhere() -> None:
    catalogue = load_catalogue(PROJECT)
    questions = [answer for answer in catalogue.topics() if answer.question]
    assert len(questions) >= 116
    for answer in questions:
        assert catalogue.buttons(answer.follow_ups), answer.name


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} does not stand in {path.name}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def answer_text(project: Path, new: str) -> None:
    """Put a text in place of the answer on gluten."""
    path = project / FAQ
    text = path.read_text(encoding="utf-8")
    start = text.index("  utter_diet/gluten:\n    - text: |-\n") + len(
        "  utter_diet/gluten:\n    - text: |-\n"
    )
    end = text.index("      metadata:", start)
    path.write_text(text[:start] + f"        {new}\n" + text[end:], encoding="utf-8")


def drop_metadata(project: Path, name: str) -> None:
    path = project / FAQ
    text = path.read_text(encoding="utf-8")
    start = text.index("  utter_diet/gluten:")
    changed = re.sub(rf"^ +{name}:.*\n", "", text[start:], count=1, flags=re.MULTILINE)
    path.write_text(text[:start] + changed, encoding="utf-8")


def wording(text: str) -> Callable[[Path], None]:
    return lambda project: answer_text(project, text)


def without(name: str) -> Callable[[Path], None]:
    return lambda project: drop_metadata(project, name)


def changed(file: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda project: change(project / file, old, new)


@pytest.mark.parametrize(
    ("breaking", "file", "words"),
    [
        (changed(FAQ, "  utter_diet/gluten:", "  utter_diet/glutin:"), FAQ, "diet/gluten has no answer"),
        (changed(FAQ, "  utter_diet/gluten:", "  utter_diet/glutin:"), FAQ, "answer but no examples"),
        (changed(FAQ, "  - intent: diet/gluten\n    examples: |\n", "  - intent: diet/few\n    examples: |\n      - one\n      - two\n\n  - intent: diet/gluten\n    examples: |\n"), FAQ, "has 2 examples"),
        (changed(FAQ, "  - intent: diet/gluten\n    examples: |\n", "  - intent: diet/gluten\n    examples: |\n      - how much water should i be drinking every single day then\n\n  - intent: diet/hydration\n    examples: |\n      - how much water shoud i be drinking every single day then?\n\n  - intent: diet/gluten\n    examples: |\n"), FAQ, "cannot tell them apart"),
        (changed(FAQ, "  - intent: diet/gluten\n    examples: |\n", "  - intent: diet/gluten\n    examples: |\n      - is {this} fine\n"), FAQ, "holds a bracket"),
        (wording("Bread is fine, ${CONTACT_KEYS}."), FAQ, "filled in from the server's settings"),
        (wording("Bread is fine. " * 60), FAQ, "shorten it to 640"),
        (wording("Bread is fine for most of us. " * 11), FAQ, "shorten it to 300"),
        (wording("You can eat bread and rice and corn and beans and nuts and fish and eggs and milk and fruit and more."), FAQ, "make two sentences"),
        (wording("Physiological pathophysiology necessitates comprehensive interdisciplinary evaluation."), FAQ, "reads at grade"),
        (wording("This diet will cure sciatica."), FAQ, "promises or praises"),
        (wording("It is not hard, and it cures sciatica."), FAQ, "promises or praises"),
        (wording("You will be pain free."), FAQ, "promises or praises"),
        (wording("It gives instant relief."), FAQ, "promises or praises"),
        (wording("We guarantee it."), FAQ, "promises or praises"),
        (wording("It is the best treatment."), FAQ, "promises or praises"),
        (wording("Your nerve heals faster."), FAQ, "promises or praises"),
        (wording("The joint falls into place."), FAQ, "promises or praises"),
        (wording("It can easily be treated."), FAQ, "promises or praises"),
        (wording("I recommend less bread."), FAQ, "licensed person"),
        (wording("Our acupuncturist says so."), FAQ, "licensed person"),
        (wording("Ask Dr. Smith."), FAQ, "licensed person"),
        (wording("Take 400 mg a day."), FAQ, "is a dose"),
        (wording("It helped 83 in 100 people."), FAQ, "the figure 83"),
        (without("sources"), FAQ, "names no source"),
        (without("reviewed_on"), FAQ, "has no review date"),
        (without("title"), FAQ, "has no title"),
        (without("question"), FAQ, "has no question"),
        (without("evidence"), FAQ, "its evidence is"),
        (changed(FAQ, "follow_ups: [", "follow_ups: [diet/unknown, "), FAQ, "diet/unknown is not a topic"),
        (changed(FAQ, "sources: [", "sources: [nobody_1900, "), FAQ, "not in data/sources.yml"),
        (changed(FAQ, 'reviewed_on: "2026', 'reviewed_on: "2020'), FAQ, "more than a year ago"),
        (changed(FAQ, 'reviewed_on: "2026', 'reviewed_on: "2036'), FAQ, "in the future"),
        (changed(FAQ, "        title: ", "        title: A much too long title for any "), FAQ, "fit a button"),
        (changed("data/faq/office.yml", "{phone}", "{fone}"), "data/faq/office.yml", "not a fact of office.yml"),
        (changed("data/follow_ups.yml", "stretches/how_often", "stretches/never"), "data/follow_ups.yml", "no topic stretches/never"),
        (changed("office.yml", "email:", "email: nobody"), "office.yml", "not an e-mail"),
        (changed(FAQ, "nlu:\n", "nlu: [\n"), FAQ, "not readable as YAML"),
    ],
)  # fmt: skip
def test_each_rule_finds_what_breaks_it(
    project: Path, breaking: Callable[[Path], None], file: str, words: str
) -> None:
    breaking(project)
    found = [problem for problem in check_project(project, TODAY) if words in problem.message]
    assert found, f"nothing says {words!r}"
    assert found[0].file == file
    assert found[0].line > 0


@pytest.mark.parametrize(
    "text",
    ["No one can promise a cure.", "It is not a cure.", "No treatment can make you pain free."],
)
def test_a_plain_denial_may_use_the_word(project: Path, text: str) -> None:
    answer_text(project, text)
    assert not [p for p in check_project(project, TODAY) if "promises" in p.message]
