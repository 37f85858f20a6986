"""How well labelled messages are answered, measured through the visitors' own path."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import random
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasa.core.tracker_store import InMemoryTrackerStore

from assistant.agent import ConversationAgent, load_agent, read_endpoints
from assistant.channels.conversation import converse
from assistant.channels.message_text import clean
from assistant.content.check import Problem
from assistant.content.examples import read_examples
from assistant.understanding.results import area_of, ranked_topics

OUT_OF_SCOPE = "out_of_scope"
_CRISIS, _RED_FLAG = "safety/crisis", "safety/red_flag"
_SECONDS = 60.0


class EvaluationFileError(ValueError):
    """The data cannot be read; the message says what is wrong with it."""


@dataclass(frozen=True)
class Row:
    """A labelled message; `labels` are the accepted topics, the best first."""

    name: str
    text: str
    labels: tuple[str, ...]

    @property
    def in_scope(self) -> bool:
        """Whether the assistant should answer it."""
        return self.labels[0] != OUT_OF_SCOPE


@dataclass(frozen=True)
class Outcome:
    """What a visitor got for a row: the topics that answered, and the three likeliest."""

    row: Row
    topics: tuple[str, ...]
    turned_away: bool
    likeliest: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether it was answered, and with an accepted topic."""
        return not self.turned_away and any(topic in self.row.labels for topic in self.topics)

    @property
    def in_top_three(self) -> bool:
        """Whether an accepted topic answered or was among the three likeliest."""
        return self.right or any(topic in self.row.labels for topic in self.likeliest)

    @property
    def well_refused(self) -> bool:
        """For a row out of scope: whether it was turned away or got another accepted topic."""
        return self.turned_away or self.right


def read_rows(path: Path) -> list[Row]:
    """Read tab-separated rows with the columns `id`, `text`, `label`; others are ignored.

    Raises:
        EvaluationFileError: the file is missing, has no such columns, or no rows.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationFileError(f"{path} cannot be read: {error}") from None
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = {"id", "text", "label"} - set(reader.fieldnames or ())
    if missing:
        raise EvaluationFileError(
            f"{path} has no column {', '.join(sorted(missing))}. The first line must name the "
            f"columns id, text and label, separated by tabs."
        )
    rows = [
        Row(line["id"], line["text"], tuple(line["label"].split("|")))
        for line in reader
        if line["text"] and line["label"]
    ]
    if not rows:
        raise EvaluationFileError(f"{path} holds no rows.")
    return rows


def with_typing_errors(rows: list[Row], seed: int) -> list[Row]:
    """Return the rows with one random typing error in each: a letter left out, added, wrong or swapped.

    Args:
        rows: the labelled messages; one with fewer than three letters stays as it is.
        seed: the same seed makes the same errors.
    """
    chance = random.Random(seed)  # noqa: S311 - for measuring, no secret
    return [dataclasses.replace(row, text=_mistyped(row.text, chance)) for row in rows]


def _mistyped(text: str, chance: random.Random) -> str:
    letters = [place for place, letter in enumerate(text) if letter.isalpha() and letter.isascii()]
    if len(letters) < 3:
        return text
    place, other = chance.choice(letters), chance.choice(string.ascii_lowercase)
    before, letter, after = text[:place], text[place], text[place + 1 :]
    return before + chance.choice(
        [after, other + letter + after, other + after, after[:1] + letter + after[1:]]
    )


def evaluate(
    project: Path,
    model: Path,
    rows: list[Row],
    report: Callable[[int, int], None],
    typos: int | None = None,
) -> dict[str, Any]:
    """Answer every row as a visitor's first message and return the figures.

    A row that stands word for word in the training data measures nothing and is left out.

    Args:
        project: the project folder.
        model: the model to measure.
        rows: the labelled messages.
        report: takes how many rows are done, of how many.
        typos: the seed of a typing error in each row that is measured; None for none.
    """
    known = {_plain(text) for texts in read_examples(project).values() for text in texts}
    scored = [row for row in rows if _plain(row.text) not in known]
    asked = scored if typos is None else with_typing_errors(scored, typos)
    outcomes = asyncio.run(_outcomes(project, model, asked, report))
    return {**figures(outcomes), "rows": len(rows), "left_out": len(rows) - len(scored)}


async def _outcomes(
    project: Path, model: Path, rows: list[Row], report: Callable[[int, int], None]
) -> list[Outcome]:
    agent = agent_on_trial(project, model)
    store = agent.tracker_store
    topic_of_button = {
        answer.question: answer.name
        for answer in agent.nlg.catalogue().answers.values()
        if answer.question
    }
    outcomes = []
    for number, row in enumerate(rows):
        conversation = f"evaluation-{number}"
        messages = await converse(agent.handle_message, conversation, clean(row.text), _SECONDS)
        tracker = await store.retrieve(conversation)
        parsed = tracker.latest_message.parse_data if tracker and tracker.latest_message else {}
        outcomes.append(_outcome(row, messages, parsed, topic_of_button))
        store.store.pop(conversation, None)
        report(number + 1, len(rows))
    return outcomes


def _outcome(
    row: Row,
    messages: list[dict[str, Any]],
    parsed: dict[str, Any],
    topic_of_button: dict[str, str],
) -> Outcome:
    metadata = [message["metadata"] for message in messages]
    topics = list(dict.fromkeys(m["topic"] for m in metadata if "topic" in m))
    for item in metadata:
        if "urgency" in item:
            topics.append(_CRISIS if item["urgency"] == "crisis" else _RED_FLAG)
    stepped = any("step" in item for item in metadata)
    offered = [
        topic_of_button[button["payload"]]
        for message in messages
        if message["metadata"].get("step") == "did_you_mean"
        for button in message["buttons"]
        if button["payload"] in topic_of_button
    ]
    ranking = [_reported(score.topic) for score in ranked_topics(parsed)]
    return Outcome(
        row=row,
        topics=tuple(topics),
        turned_away=stepped or all(topic == OUT_OF_SCOPE for topic in topics),
        likeliest=(*offered, *list(dict.fromkeys(ranking))[:3]),
    )


def agent_on_trial(project: Path, model: Path) -> ConversationAgent:
    """Return an agent that stores nothing.

    Args:
        project: the project folder.
        model: the model that understands.

    Raises:
        ModelError: it cannot be loaded.
    """
    store = InMemoryTrackerStore(None)
    return load_agent(model, read_endpoints(project), tracker_store=store)


def unreached_buttons(agent: ConversationAgent) -> list[Problem]:
    """Return a problem for each topic whose own question is understood as another topic."""
    answers = [a for a in agent.nlg.catalogue().answers.values() if a.title and a.question]
    loop = asyncio.new_event_loop()
    problems = []
    for answer in answers:
        parsed = loop.run_until_complete(agent.parse_message(answer.question))
        intent = parsed["intent"].get("full_retrieval_intent_name") or parsed["intent"]["name"]
        if intent != answer.name:
            message = (
                f"{answer.name}: its question '{answer.question}' is understood as {intent}, so a "
                f"button for it leads astray; reword the question or add it to the examples."
            )
            problems.append(Problem("data/faq", 1, message))
    loop.close()
    return problems


def figures(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the figures of some outcomes, of each area, the confusions, and every miss."""
    areas: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        areas[area_of(outcome.row.labels[0])].append(outcome)
    misses = [o for o in outcomes if not (o.right if o.row.in_scope else o.well_refused)]
    confusions = Counter((o.row.labels[0], _given(o)) for o in misses)
    return {
        **_shares(outcomes),
        "areas": {area: _shares(part) for area, part in sorted(areas.items())},
        "confusions": [
            {"expected": expected, "given": given, "count": count}
            for (expected, given), count in confusions.most_common()
        ],
        "misses": [
            {
                "id": o.row.name,
                "text": o.row.text,
                "expected": list(o.row.labels),
                "given": _given(o),
                "likeliest": list(o.likeliest),
            }
            for o in misses
        ],
    }


def _shares(outcomes: list[Outcome]) -> dict[str, Any]:
    inside = [o for o in outcomes if o.row.in_scope]
    outside = [o for o in outcomes if not o.row.in_scope]
    away = [o for o in outcomes if o.turned_away]
    return {
        "in_scope": len(inside),
        "in_scope_accuracy": _share(o.right for o in inside),
        "in_scope_top3": _share(o.in_top_three for o in inside),
        "out_of_scope": len(outside),
        "out_of_scope_recall": _share(o.well_refused for o in outside),
        "out_of_scope_precision": _share(not o.row.in_scope for o in away),
    }


def _share(hits: Iterable[bool]) -> float | None:
    found = list(hits)
    return round(sum(found) / len(found), 4) if found else None


def _given(outcome: Outcome) -> str:
    return OUT_OF_SCOPE if outcome.turned_away else "+".join(outcome.topics)


def _reported(topic: str) -> str:
    return OUT_OF_SCOPE if area_of(topic) == OUT_OF_SCOPE else topic


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
