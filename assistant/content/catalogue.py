"""All answers as their editors wrote them: one topic, one place.

Reads `data/faq/*.yml` (questions with their examples and answers), `data/safety/answers.yml` and the `responses:` of
`domain.yml` (courtesies, fallback). Rasa reads the same files; nothing stands twice.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

UTTER = "utter_"
FILLED_IN = "${"
"""Rasa has every YAML reader of the process put a variable of the environment in such a place."""
NOT_FILLED_IN = (
    f"'{FILLED_IN}', which would be filled in from the server's settings, its secrets included. "
    f"Write it without the bracket."
)


@dataclass(frozen=True)
class Variation:
    """One wording of an answer, used when the office's facts that it needs are there."""

    text: str
    requires: tuple[str, ...] = ()
    image: str = ""
    replies: tuple[tuple[str, str], ...] = ()
    """Quick replies of its own: what a button shows and what it sends."""


@dataclass(frozen=True)
class Answer:
    """What is said on a topic, and what is known about the saying.

    `name` is the topic (`diet/gluten`, `greet`); `topic` is what is reported as answered, which
    differs for the steps of the fallback (`out_of_scope`). `asks` names what it asks the visitor for.
    """

    name: str
    topic: str
    title: str
    question: str
    variations: tuple[Variation, ...]
    sources: tuple[str, ...] = ()
    evidence: str = ""
    reviewed_on: dt.date | None = None
    follow_ups: tuple[str, ...] = ()
    step: str = ""
    asks: str = ""
    urgency: str = ""


@dataclass(frozen=True)
class Source:
    """A study, guideline or page that answers cite."""

    name: str
    label: str
    citation: str = ""
    url: str = ""
    kind: str = ""
    figures: tuple[str, ...] = ()


class ContentError(ValueError):
    """A content file cannot be used at all; the message names it and says why."""


class Catalogue:
    """All answers and sources by name."""

    def __init__(self, answers: dict[str, Answer], sources: dict[str, Source]) -> None:
        self.answers = answers
        self.sources = sources

    def topics(self) -> list[Answer]:
        """Return the answers that stand for a question of their own (area/question)."""
        return [answer for name, answer in self.answers.items() if "/" in name]

    def buttons(self, names: Iterable[str]) -> list[dict[str, str]]:
        """Return a button for each topic: its title, and its question in plain words to send."""
        found = [self.answers[name] for name in names if name in self.answers]
        return [{"title": a.title, "payload": a.question} for a in found if a.title and a.question]


def load_catalogue(project: Path) -> Catalogue:
    """Return all content of a project folder; read again only when a file changed.

    Raises:
        ContentError: a file is missing or is not YAML of the right form.
    """
    return _load(project, _stamp(project))


@lru_cache(maxsize=2)
def _load(project: Path, _unchanged: tuple[tuple[int, int, int], ...]) -> Catalogue:
    answers: dict[str, Answer] = {}
    for path in content_files(project):
        document = _read(path)
        responses = document.get("responses") or {}
        if not isinstance(responses, dict):
            raise ContentError(f"{path.name}: 'responses:' must hold names with answers.")
        for name, variations in responses.items():
            answer = _answer(path, str(name), variations)
            answers[answer.name] = answer
    return Catalogue(answers, _sources(project / "data" / "sources.yml"))


def content_files(project: Path) -> list[Path]:
    """Return the files that hold answers, in a fixed order."""
    topics = sorted((project / "data" / "faq").glob("*.yml"))
    return [*topics, project / "data" / "safety" / "answers.yml", project / "domain.yml"]


def _stamp(project: Path) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when a file of the content does."""
    files = [*content_files(project), project / "data" / "sources.yml"]
    states = (path.stat() for path in files if path.exists())
    return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)


class LiveCatalogue:
    """A catalogue that follows its files, so that an edited answer is served without a restart.

    Args:
        project: the folder that holds `data/` and `domain.yml`.
        check_every: seconds between looks at the files.
    """

    def __init__(self, project: Path, check_every: float = 1.0) -> None:
        self._project = project
        self._check_every = check_every
        self._lock = threading.Lock()
        self._stamp = _stamp(project)
        self._catalogue = load_catalogue(project)
        self._checked = time.monotonic()

    def current(self) -> Catalogue:
        """Return the content as the files hold it now; the last good one if they are broken."""
        now = time.monotonic()  # a clock that is set back must not stop the looking
        with self._lock:
            if now - self._checked < self._check_every:
                return self._catalogue
            self._checked = now
            try:
                stamp = _stamp(self._project)
            except OSError as error:  # no descriptor is left, or the folder is away for a moment
                _log_error(ContentError(str(error)))
                return self._catalogue
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._catalogue = load_catalogue(self._project)
                except ContentError as error:
                    _log_error(error)
            return self._catalogue


def _log_error(error: ContentError) -> None:
    import logging

    logging.getLogger(__name__).error("Keeping the answers as they were: %s", error)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ContentError(f"{path} cannot be read: {error.strerror}.") from error
    if FILLED_IN in text:
        raise ContentError(f"{path.name} holds {NOT_FILLED_IN}")
    try:
        document = YAML(typ="safe", pure=False).load(text)
    except Exception as error:  # ruamel's parser errors share no base class across versions
        raise ContentError(f"{path.name} is not readable as YAML: {error}") from error
    if not isinstance(document, dict):
        raise ContentError(f"{path.name} holds no content; expected 'nlu:' and 'responses:'.")
    return document


def _answer(path: Path, response: str, variations: Any) -> Answer:
    if not response.startswith(UTTER) or not isinstance(variations, list) or not variations:
        raise ContentError(f"{path.name}: '{response}' must be utter_<topic> with a list of texts.")
    name = response[len(UTTER) :]
    first = variations[0].get("metadata") or {}
    return Answer(
        name=name,
        topic=str(first.get("topic", _reported(name))),
        title=str(first.get("title", "")),
        question=str(first.get("question", "")),
        variations=tuple(_variation(path, response, item) for item in variations),
        sources=tuple(first.get("sources") or ()),
        evidence=str(first.get("evidence", "")),
        reviewed_on=_date(path, response, first.get("reviewed_on")),
        follow_ups=tuple(first.get("follow_ups") or ()),
        step=str(first.get("step", "")),
        asks=str(first.get("asks", "")),
        urgency=str(first.get("urgency", "")),
    )


def _reported(name: str) -> str:
    # The kinds of out-of-scope messages have words of their own, but are one topic.
    return "out_of_scope" if name.startswith("out_of_scope/") else name


def _variation(path: Path, response: str, item: Any) -> Variation:
    if not isinstance(item, dict) or not str(item.get("text") or "").strip():
        raise ContentError(f"{path.name}: '{response}' has a variation without text.")
    metadata = item.get("metadata") or {}
    return Variation(
        text=str(item["text"]).strip(),
        requires=tuple(metadata.get("requires") or ()),
        image=str(item.get("image") or ""),
        replies=tuple(
            (str(button["title"]), str(button["payload"])) for button in item.get("buttons") or ()
        ),
    )


def _date(path: Path, response: str, value: Any) -> dt.date | None:
    if not value:
        return None
    try:
        return dt.date.fromisoformat(str(value))
    except ValueError:
        raise ContentError(
            f'{path.name}: reviewed_on of {response} is not a date; write it as "2026-01-31".'
        ) from None


def _sources(path: Path) -> dict[str, Source]:
    if not path.exists():
        return {}
    entries = _read(path).get("sources") or {}
    return {
        str(name): Source(
            name=str(name),
            label=str(entry.get("label", "")),
            citation=str(entry.get("citation", "")),
            url=str(entry.get("url") or ""),
            kind=str(entry.get("kind", "")),
            figures=tuple(str(figure) for figure in entry.get("figures") or ()),
        )
        for name, entry in entries.items()
    }
