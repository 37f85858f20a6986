"""How an answer would look to a visitor: in the widget, and on each messaging channel."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant.answers.book import AnswerBook
from assistant.channels.conversation import Message, as_messages
from assistant.channels.messaging.registry import PLATFORMS
from assistant.channels.messaging.rendering import render
from assistant.content.catalogue import Answer, Catalogue, Variation
from assistant.content.check import check_answer


@dataclass(frozen=True)
class Look:
    """One way in which an answer is seen.

    Attributes:
        where: the channel.
        parts: its messages: a text and the titles of the buttons below it.
    """

    where: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Preview:
    """An answer as it would be, and what is wrong with it.

    Attributes:
        bubbles: as the web chat's contract has them; empty if no wording fits the office's facts.
        looks: the same on the messaging channels.
        problems: what the content check says of it.
    """

    bubbles: tuple[Message, ...]
    looks: tuple[Look, ...]
    problems: tuple[str, ...]


def drafted(
    catalogue: Catalogue,
    name: str,
    texts: Sequence[str],
    details: Mapping[str, str | tuple[str, ...]],
) -> Answer:
    """Return an answer as a form holds it.

    Args:
        catalogue: the answers as they are; a topic that is not there is new.
        name: the topic.
        texts: its wordings.
        details: title, question, sources, evidence, review date and follow-up topics.
    """
    present = catalogue.answers.get(name) or Answer(name, name, "", "", ())
    variations = [
        dataclasses.replace(present.variations[place], text=text.strip())
        if place < len(present.variations)
        else Variation(text.strip())
        for place, text in enumerate(texts)
    ]
    changes: dict[str, Any] = {key: value for key, value in details.items() if key != "reviewed_on"}
    if "reviewed_on" in details:
        changes["reviewed_on"] = _date(str(details["reviewed_on"]))
    return dataclasses.replace(present, variations=tuple(variations), **changes)


def preview(catalogue: Catalogue, answer: Answer) -> Preview:
    """Return how an answer would look. Reads `office.yml`: call it in a thread."""
    others = {**catalogue.answers, answer.name: answer}
    book = AnswerBook(Catalogue(others, catalogue.sources))
    written = [v for v in answer.variations if v.text]
    bubbles = as_messages(book.response(answer.name) or {}) if written else []
    problems = [] if written else ["Write the answer."]
    problems += check_answer(answer, Catalogue(others, catalogue.sources))
    return Preview(tuple(bubbles), tuple(_looks(bubbles)), tuple(problems))


def _looks(bubbles: list[Message]) -> list[Look]:
    """Return the looks on the messaging channels."""
    found = []
    for platform in PLATFORMS:
        rendered = render(bubbles, platform.limits)
        parts = tuple((part.text, tuple(c.title for c in part.choices)) for part in rendered.parts)
        found.append(Look(platform.title, parts))
    return found


def _date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError:
        return None
