"""The content lint: everything that is wrong with the content files, in plain words, with the line.

The rules on wording follow California's and the FTC's rules for health advertising (Business and
Professions Code 651, 4955, 4999.9; 16 CCR 1399.455; FTC Act section 5) and the plain-language
guides of the NHS and MedlinePlus; docs/editors.md explains each to editors.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode

from assistant.content.catalogue import (
    FILLED_IN,
    NOT_FILLED_IN,
    UTTER,
    Answer,
    Catalogue,
    ContentError,
    content_files,
    load_catalogue,
)
from assistant.content.examples import Example, example_files, located_examples
from assistant.content.office import Office, OfficeFileError, load_office
from assistant.safety.detector import CLARIFY

FEWEST_EXAMPLES = 12
LONGEST_ANSWER = 640  # characters; the most that a phone shows without scrolling far
LONGEST_BUBBLE = 300  # characters
LONGEST_SENTENCE = 20  # words
LONGEST_TITLE = 25  # characters, so that a button stays on one line
HIGHEST_GRADE = 8.0  # Flesch-Kincaid
REVIEW_DAYS = 365
OVERDUE = "more than a year ago"
"""Stands in the problem of an answer that is due for review: no reason to keep all else back."""
_ALIKE = 0.93  # share of characters from which two examples are nearly the same
_COPIED = 0.9  # the same for an example and a row of evaluation data
_EVERYBODY_SAYS = 4  # words
EVIDENCE = {
    "established", "guideline", "some", "limited", "theory", "none", "office", "general", "law",
}  # fmt: skip

_CLAIMS = re.compile(
    r"\b(cures?|cured|curing|pain[- ]?free|instant(?:ly)?|guarantee[ds]?|guaranteed|miracle\w*|"
    r"(?:the )?best (?:treatment|therapy|option|choice|way)|works best|works the best|"
    r"heals? (?:faster|quicker|sooner)|(?:faster|quicker|speedy|speeds?(?: up)?) (?:healing|recovery)|"
    r"falls? into place|easily|100 ?%|risk[- ]free|no side effects|proven to|permanent relief|"
    r"(?:will|always) (?:fix|relieve|heal|remove)s? )",
    re.IGNORECASE,
)
_DENIALS = re.compile(
    r"\b(not a|not the|no one|nobody|no treatment|cannot|can't|can not|do not|does not|don't|doesn't|"
    r"did not|have not|has not|never|nor|not|no good evidence|no trial|no study)\b",
    re.IGNORECASE,
)
_LICENSED = re.compile(
    r"\b(?:I|we) (?:recommend|prescribe|diagnose|advise|treat)\b|\bour (?:acupuncturists?|doctors?|"
    r"clinicians?|experts?|specialists?)\b|\bDr\.? [A-Z]|\bL\.?Ac\b|\bas (?:your|a) (?:doctor|clinician|"
    r"acupuncturist)\b|\bmy patients?\b|\bin my (?:clinical|medical|professional)\b",
    re.IGNORECASE,
)
_DOSE = re.compile(
    r"\b\d[\d.,]*\s?(?:mg|mcg|µg|ug|milligrams?|micrograms?|grams?|g|iu|ml|units?|tablets?|pills?|"
    r"capsules?|drops?)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w-])\d+(?:[.,]\d+)*(?![\w-])")
_EVERYWHERE = {"911", "988", "1", "2"}  # emergency numbers; "1 or 2" of something counts nothing
_ADDRESS = re.compile(r"https?://\S+|\b1-\d{3}-\d{3}-\d{4}\b|\(\d{3}\) \d{3}-\d{4}")
_PLACE = re.compile(r"\{([a-z_]+)\}")
_SENTENCE = re.compile(r"(?<=[.!?:])\s+|\n+")
# Words that a text on this field cannot do without; the reading grade counts them as simple ones.
_GLOSSARY = re.compile(
    r"\b(acupunctur\w*|sciatica?|piriformis|gluteus|glute\w*|hamstrings?|celiac|magnesium|calcium|"
    r"california|encino|emergency|emergencies|stenosis|inflammation|anti-inflammatory|mediterranean|"
    r"supplements?|vitamins?|multivitamins?|pharmacist|medicines?|medication\w*|therap\w+|physical|"
    r"chiropract\w+|injections?|surgery|surgeon|pacemaker|circulation|pregnan\w+|exercises?|"
    r"insurance|insurer|medicare|appointments?|information|assistant|automated|office|studies|"
    r"evidence|numbness|weakness)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, order=True)
class Problem:
    """Something wrong in a content file."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return it as editors and their tools read it: file, line, what and what to do."""
        return f"{self.file}:{self.line}: {self.message}"


def check_project(project: Path, today: dt.date | None = None) -> list[Problem]:
    """Return every problem of the content files, in the order of files and lines.

    Args:
        project: the project folder.
        today: the day for which review dates are checked; today by default.
    """
    today = today or dt.date.today()
    problems = list(_unreadable(project))
    if problems:
        return problems
    try:
        catalogue = load_catalogue(project)
    except ContentError as error:
        return [Problem("data", 1, str(error))]
    examples = [example for path in example_files(project) for example in located_examples(path)]
    lines = _answer_lines(project)
    problems += _office_problems(project)
    problems += _example_problems(project, catalogue, examples)
    problems += _follow_up_problems(project, catalogue)
    seen_titles: dict[str, str] = {}
    for answer in catalogue.answers.values():
        file, line = lines.get(answer.name, ("domain.yml", 1))
        for message in _answer_problems(answer, catalogue, today):
            problems.append(Problem(file, line, f"{answer.name}: {message}"))
        other = seen_titles.setdefault(answer.title.lower(), answer.name)
        if answer.title and other != answer.name:
            message = f"{answer.name}: {other} has the title '{answer.title}' too; change one."
            problems.append(Problem(file, line, message))
    return sorted(set(problems))


def check_answer(answer: Answer, catalogue: Catalogue, today: dt.date | None = None) -> list[str]:
    """Return what is wrong with one answer, as it is being written; takes milliseconds.

    Args:
        answer: the answer; it need not be in the catalogue.
        catalogue: the other answers, and the sources.
        today: the day for which its review date is checked; today by default.
    """
    return list(dict.fromkeys(_answer_problems(answer, catalogue, today or dt.date.today())))


def median_grade(project: Path) -> float:
    """Return the median reading grade of the answers to questions."""
    catalogue = load_catalogue(project)
    grades = [reading_grade(v.text) for a in catalogue.topics() for v in a.variations]
    return float(np.median(grades))


def reading_grade(text: str) -> float:
    """Return the Flesch-Kincaid grade of a text, the words of our field counted as simple ones."""
    import textstat

    plain = _GLOSSARY.sub("word", _PLACE.sub("thing", _ADDRESS.sub("page", text)))
    return float(textstat.flesch_kincaid_grade(plain))


def _unreadable(project: Path) -> Iterator[Problem]:
    files = [*example_files(project), project / "domain.yml", project / "data" / "sources.yml"]
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
            if FILLED_IN in text:
                number = text[: text.index(FILLED_IN)].count("\n") + 1
                yield Problem(_name(project, path), number, f"holds {NOT_FILLED_IN}")
                continue
            YAML(typ="safe", pure=False).load(text)
        except OSError as error:
            yield Problem(_name(project, path), 1, f"cannot be read ({error.strerror}).")
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            yield Problem(
                _name(project, path),
                line,
                f"not readable as YAML: {error.problem}. Check indentation, colons and quotes on "
                f"this line and the one above.",
            )


def _answer_lines(project: Path) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for path in content_files(project):
        root = YAML(typ="safe", pure=False).compose(path)
        for key, value in root.value if isinstance(root, MappingNode) else []:
            if key.value == "responses" and isinstance(value, MappingNode):
                for name, _ in value.value:
                    topic = str(name.value)[len(UTTER) :]
                    found[topic] = (_name(project, path), name.start_mark.line + 1)
    return found


def _office_problems(project: Path) -> Iterator[Problem]:
    try:
        load_office(project / "office.yml")
    except OfficeFileError as error:
        for text in str(error).splitlines():
            match = re.match(r"office\.yml:(\d+): (.*)", text)
            line, message = (int(match[1]), match[2]) if match else (1, text)
            yield Problem("office.yml", line, message)


def _example_problems(
    project: Path, catalogue: Catalogue, examples: list[Example]
) -> Iterator[Problem]:
    by_topic: dict[str, list[Example]] = {}
    for example in examples:
        by_topic.setdefault(example.topic, []).append(example)
        if "[" in example.text or "{" in example.text:
            yield _at(project, example, f"'{example.text}' holds a bracket, which Rasa reads as an "
                      f"entity; write it without.")  # fmt: skip
    for topic, items in by_topic.items():
        if len(items) < FEWEST_EXAMPLES:
            yield _at(project, items[0], f"{topic} has {len(items)} examples; write at least "
                      f"{FEWEST_EXAMPLES}, each in other words.")  # fmt: skip
        if "/" in topic and topic not in catalogue.answers:
            yield _at(project, items[0], f"{topic} has no answer; add '{UTTER}{topic}:' under "
                      f"'responses:' in the same file.")  # fmt: skip
    lines = _answer_lines(project)
    for answer in catalogue.topics():
        if answer.name not in by_topic and answer.name != CLARIFY:  # found by rules alone
            file, line = lines[answer.name]
            yield Problem(file, line, f"{answer.name} has an answer but no examples; add it under "
                          f"'nlu:' with at least {FEWEST_EXAMPLES}.")  # fmt: skip
    yield from _alike(project, examples)


def _alike(project: Path, examples: list[Example]) -> Iterator[Problem]:
    plain = [_plain(example.text) for example in examples]
    seen: dict[str, Example] = {}
    for text, example in zip(plain, examples, strict=True):
        other = seen.setdefault(text, example)
        if other is not example:
            where = "twice" if other.topic == example.topic else f"under {other.topic} too"
            yield _at(project, example, f"'{example.text}' stands {where} "
                      f"({_name(project, other.file)}:{other.line}); delete one.")  # fmt: skip
    for start in range(0, len(plain), 500):
        scores = process.cdist(
            plain[start : start + 500], plain, scorer=Indel.normalized_similarity,
            score_cutoff=_ALIKE, dtype=np.float32,
        )  # fmt: skip
        for row, column in zip(*np.nonzero(scores), strict=True):
            one, two = examples[start + row], examples[column]
            if (
                start + row < column
                and one.topic != two.topic
                and plain[start + row] != plain[column]
            ):
                yield _at(project, two, f"'{two.text}' ({two.topic}) is nearly '{one.text}' "
                          f"({one.topic}, {_name(project, one.file)}:{one.line}); the assistant "
                          f"cannot tell them apart. Keep it under one topic.")  # fmt: skip


def _follow_up_problems(project: Path, catalogue: Catalogue) -> Iterator[Problem]:
    path = project / "data" / "follow_ups.yml"
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for topic in re.findall(r"[a-z]+/[a-z_]+", text.partition("#")[0]):
            if topic not in catalogue.answers:
                yield Problem(_name(project, path), number, f"there is no topic {topic}.")


def _answer_problems(answer: Answer, catalogue: Catalogue, today: dt.date) -> Iterator[str]:
    for topic in answer.follow_ups:
        if topic not in catalogue.answers:
            yield f"its follow-up {topic} is not a topic; correct the name or take it out."
        elif not catalogue.answers[topic].question:
            yield f"its follow-up {topic} has no title and question, so it gives no button."
        elif topic == answer.name:
            yield "it names itself as a follow-up; take that out."
    for source in answer.sources:
        if source not in catalogue.sources:
            yield f"its source {source} is not in data/sources.yml; add it there or correct the name."
    if _is_question(answer):
        yield from _metadata_problems(answer, today)
    fields = set(Office.__fields__) | _COMPUTED
    figures = {
        f for s in answer.sources if s in catalogue.sources for f in catalogue.sources[s].figures
    }
    for variation in answer.variations:
        for name in [*variation.requires, *_PLACE.findall(variation.text)]:
            if name not in fields:
                yield f"'{name}' is not a fact of office.yml; correct the name."
        yield from _text_problems(variation.text, figures)
        for title, _ in variation.replies:
            if len(title) > LONGEST_TITLE:
                yield (
                    f"its button '{title}' has {len(title)} characters; at most {LONGEST_TITLE} "
                    f"fit a button."
                )


_COMPUTED = {
    "hours_text", "open_now_text", "next_closures_text", "contact_lines", "prices_text",
    "practitioners_text", "last_sources", "contact_name", "contact_reach", "contact_time",
    "contact_note", "request_number", "request_numbers", "request_days",
}  # fmt: skip


def _is_question(answer: Answer) -> bool:
    return "/" in answer.name and not answer.name.startswith(
        ("out_of_scope/", "follow_up/", "safety/")
    )


def _metadata_problems(answer: Answer, today: dt.date) -> Iterator[str]:
    if not answer.title:
        yield "it has no title; add metadata 'title:', what a button for it shows."
    elif len(answer.title) > LONGEST_TITLE:
        yield f"its title has {len(answer.title)} characters; at most {LONGEST_TITLE} fit a button."
    if not answer.question:
        yield "it has no question; add metadata 'question:', the plain sentence a button sends."
    if not answer.sources:
        yield "it names no source; add metadata 'sources:' with names from data/sources.yml."
    if answer.evidence not in EVIDENCE:
        yield f"its evidence is '{answer.evidence}'; use one of {', '.join(sorted(EVIDENCE))}."
    if answer.reviewed_on is None:
        yield "it has no review date; add metadata 'reviewed_on: \"2026-01-31\"'."
    elif answer.reviewed_on > today:
        yield f"its review date {answer.reviewed_on} lies in the future."
    elif (today - answer.reviewed_on).days > REVIEW_DAYS:
        yield (
            f"it was reviewed on {answer.reviewed_on}, {OVERDUE}; review it again and put in the "
            f"new date."
        )


def _text_problems(text: str, figures: set[str]) -> Iterator[str]:
    if len(text) > LONGEST_ANSWER:
        yield f"the answer has {len(text)} characters; shorten it to {LONGEST_ANSWER}."
    for bubble in text.split("\n\n"):
        if len(bubble) > LONGEST_BUBBLE:
            yield (
                f"the part that begins '{bubble[:40]}' has {len(bubble)} characters; shorten it to "
                f"{LONGEST_BUBBLE} or part it with an empty line."
            )
    grade = reading_grade(text)
    if grade > HIGHEST_GRADE:
        yield f"it reads at grade {grade:.1f}; use shorter words and sentences, down to {HIGHEST_GRADE:g}."
    yield from _licensed_problems(text)
    for sentence in _sentences(text):
        words = len(sentence.split())
        if words > LONGEST_SENTENCE:
            yield f"'{sentence[:50]}...' has {words} words; make two sentences of it."
        yield from _wording_problems(sentence)
        for number in _NUMBER.findall(_ADDRESS.sub("", _PLACE.sub("", sentence))):
            if number not in figures and number not in _EVERYWHERE:
                yield (
                    f"the figure {number} in '{sentence[:50]}' is not among the figures of its "
                    f"sources; check it, and add it in data/sources.yml if the source holds it."
                )


def _wording_problems(sentence: str) -> Iterator[str]:
    for claim in _CLAIMS.finditer(sentence):
        # A denial must stand before the word and in the same part of the sentence.
        before = re.split(r"[,;:]|\b(?:but|and|yet)\b", sentence[: claim.start()])[-1]
        if not _DENIALS.search(before):
            yield (
                f"'{claim.group().strip()}' in '{sentence[:60]}' promises or praises; health "
                f"advertising law forbids it. Say what studies show, or deny it plainly."
            )
    for dose in _DOSE.finditer(sentence):
        yield f"'{dose.group()}' is a dose; the assistant never gives one. Point to a pharmacist."


def _licensed_problems(text: str) -> Iterator[str]:
    for licensed in _LICENSED.finditer(text):
        yield (
            f"'{licensed.group()}' sounds as if a licensed person spoke, which the law forbids an "
            f"automated assistant. Say 'the office' or 'your doctor'."
        )


def _sentences(text: str) -> list[str]:
    flat = _ADDRESS.sub(lambda match: match.group().replace(".", "․"), text)  # noqa: RUF001
    return [part.strip() for part in _SENTENCE.split(flat) if part.strip()]


def _at(project: Path, example: Example, message: str) -> Problem:
    return Problem(_name(project, example.file), example.line, message)


def _name(project: Path, path: Path) -> str:
    return path.relative_to(project).as_posix()


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def repeated_rows(project: Path, data: Path) -> list[Problem]:
    """Return a problem for each example that stands in evaluation data, or nearly does.

    What everybody says (four words or fewer) is no copy; the evaluation leaves such rows out.

    Args:
        project: the project folder.
        data: tab-separated rows with a column `text`.
    """
    lines = data.read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("text")
    rows = [_plain(line.split("\t")[column]) for line in lines[1:]]
    rows = [row for row in rows if len(row.split()) > _EVERYBODY_SAYS]
    examples = [e for path in example_files(project) for e in located_examples(path)]
    plain = [_plain(example.text) for example in examples]
    scores = process.cdist(
        plain, rows, scorer=Indel.normalized_similarity, score_cutoff=_COPIED, dtype=np.float32
    )
    return [
        _at(project, examples[index], f"'{examples[index].text}' stands in {data.name}, or nearly; "
            f"take it out, it would measure nothing.")
        for index in sorted({int(row) for row in np.nonzero(scores)[0]})
    ]  # fmt: skip
