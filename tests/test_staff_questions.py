"""What visitors asked that was not answered well: found, redacted, grouped, seen to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, BotUttered, Event, UserUttered
from sqlalchemy.engine import Engine

from assistant.staff.questions import (
    DISMISSED,
    TURNED_AWAY,
    UNHELPFUL,
    UNSURE,
    Group,
    OpenQuestions,
)
from assistant.storage.database import engine_for, settled_questions, transaction
from assistant.storage.feedback import keep_feedback
from assistant.storage.private_conversations import PRIVATE, ConsentingStore
from assistant.storage.transcripts import erase_transcript
from tests.conftest import PROJECT


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_for(database_url)
    yield engine
    engine.dispose()


def turn(
    text: str, topic: str = "", confidence: float = 0.9, step: str = "", message_id: str = ""
) -> list[Event]:
    """A message as it is understood, and its answer."""
    area = topic.partition("/")[0]
    parsed = {
        "intent": {"name": area, "confidence": confidence},
        "intent_ranking": [{"name": area, "confidence": confidence}],
        "response_selector": {
            "all_retrieval_intents": [area],
            area: {"ranking": [{"intent_response_key": topic, "confidence": confidence}]},
        },
    }
    metadata = {"topic": topic if not step else "out_of_scope", **({"step": step} if step else {})}
    return [
        UserUttered(text, parse_data=parsed, message_id=message_id or text),  # type: ignore[arg-type]
        BotUttered("...", metadata={"metadata": metadata}),
        ActionExecuted("action_listen"),
    ]


def keep(engine: Engine, conversations: dict[str, list[Event]]) -> None:
    """Store conversations as the assistant does."""
    store = ConsentingStore(Domain.empty(), host=str(engine.url.render_as_string(False)))
    store.engine = engine

    async def save() -> None:
        for name, events in conversations.items():
            tracker = await store.create_tracker(name)
            for event in events:
                tracker.update(event)
            await store.save(tracker)

    asyncio.run(save())


def texts(groups: list[Group]) -> set[str]:
    return {text for group in groups for text, _ in group.phrasings}


def test_only_what_was_not_answered_well_is_shown(engine: Engine) -> None:
    keep(
        engine,
        {
            "a": [
                *turn("where do I put my bike at your place", "office/parking_access", 0.3, "did_you_mean"),
                *turn("is wheat bad for nerves at all", "diet/gluten", 0.95),
                *turn("needles or pressure only, what is it", "treatment/session", 0.61),
                *turn("when will you send me the bill", "office/payment", 0.9, message_id="thumb-1"),
                *turn("my groin is numb today", "safety/cauda_equina", 0.61),
                *turn("hmm hello you", "greet", 0.6),
            ],
            f"{PRIVATE}b": turn("a private matter of mine", "diet/gluten", 0.2, "rephrase"),
        },
    )  # fmt: skip
    with transaction(engine) as connection:
        keep_feedback(connection, "a", "thumb-1", "office/payment", False, "unclear")
    groups = OpenQuestions(engine, PROJECT).groups()
    assert {(text, *group.reasons) for group in groups for text, _ in group.phrasings} == {
        ("where do I put my bike at your place", TURNED_AWAY),
        ("needles or pressure only, what is it", UNSURE),
        ("when will you send me the bill", UNHELPFUL),
    }
    (bike,) = [group for group in groups if TURNED_AWAY in group.reasons]
    assert bike.nearest == (("office/parking_access", pytest.approx(0.3)),)
    (thumb,) = [group for group in groups if UNHELPFUL in group.reasons]
    assert thumb.whys == {"unclear": 1}


def test_a_text_is_shown_without_personal_data(engine: Engine) -> None:
    keep(
        engine,
        {"a": turn("my name is Ann Miller, call 818-555-0142 about bikes", "x", 0.1, "rephrase")},
    )
    # As if an older version had stored it whole.
    with transaction(engine) as connection:
        connection.execute(
            sa.text("INSERT INTO events (sender_id, type_name, timestamp, data) VALUES ('b', 'user', 1, :d), ('b', 'bot', 1, :b)"),
            {
                "d": json.dumps({"text": "write to ann@example.com about bikes"}),
                "b": json.dumps({"metadata": {"metadata": {"step": "rephrase"}}}),
            },
        )  # fmt: skip
    shown = " ".join(texts(OpenQuestions(engine, PROJECT).groups()))
    assert "bikes" in shown
    assert not any(part in shown for part in ("Ann", "Miller", "555", "ann@"))


def test_answers_to_the_form_are_not_shown(engine: Engine) -> None:
    keep(engine, {"a": turn("[answer: name]", "x", 0.1, "rephrase")})
    assert OpenQuestions(engine, PROJECT).groups() == []


PHRASINGS = {
    "bitcoin": ["do you take crypto", "can i pay with bitcoin", "is bitcoin accepted here", "pay in bitcoin?"],
    "pets": ["can you treat my dog", "my dog has a bad hip can you needle him", "do you needle dogs", "do you see a dog as patient"],
    "cupping": ["do you do cupping", "is cupping offered", "cupping therapy available?", "price of a cupping session"],
}  # fmt: skip


def test_phrasings_of_one_question_are_one_line(engine: Engine) -> None:
    keep(
        engine,
        {
            f"visitor-{number}": turn(text, "out_of_scope/service", 0.8, "rephrase")
            for number, text in enumerate(t for group in PHRASINGS.values() for t in [*group, group[0]])
        },
    )  # fmt: skip
    groups = OpenQuestions(engine, PROJECT).groups()
    for name, phrasings in PHRASINGS.items():
        largest = max(len({t for t, _ in g.phrasings} & set(phrasings)) for g in groups)
        assert largest >= 3, (name, groups)
    for group in groups:  # and nothing is in one group that does not belong together
        names = {n for n, p in PHRASINGS.items() for t, _ in group.phrasings if t in p}
        assert len(names) == 1, group
    assert max(count for g in groups for _, count in g.phrasings) == 2
    assert groups == sorted(groups, key=lambda g: (-g.count, -g.newest))


def test_what_was_seen_to_does_not_come_back_and_its_words_are_not_kept(engine: Engine) -> None:
    keep(engine, {"a": turn("can you treat my dog", "out_of_scope/service", 0.8, "rephrase")})
    questions = OpenQuestions(engine, PROJECT)
    assert texts(questions.groups()) == {"can you treat my dog"}
    questions.settle(["can you treat my dog"], "ann", DISMISSED)
    questions.settle(["can you treat my dog"], "bob", "office/services")  # twice is no error
    keep(engine, {"b": turn("Can you treat my dog??", "out_of_scope/service", 0.8, "rephrase")})
    assert questions.groups() == []
    with engine.connect() as connection:
        (row,) = connection.execute(sa.select(settled_questions)).all()
    assert (row.account, row.outcome) == ("bob", "office/services")
    assert "dog" not in repr(tuple(row))


def test_what_a_visitor_takes_back_and_what_is_an_example_are_gone(engine: Engine) -> None:
    keep(
        engine,
        {
            "a": turn("can you treat my dog", "out_of_scope/service", 0.8, "rephrase"),
            "b": turn("Sciatica diet!", "diet/overview", 0.3, "rephrase"),
        },
    )
    questions = OpenQuestions(engine, PROJECT)
    assert texts(questions.groups()) == {"can you treat my dog"}
    with transaction(engine) as connection:
        erase_transcript(connection, "a")
    assert questions.groups() == []


def test_a_damaged_row_does_not_hide_the_others(engine: Engine) -> None:
    keep(engine, {"a": turn("can you treat my dog", "out_of_scope/service", 0.8, "rephrase")})
    with transaction(engine) as connection:
        connection.execute(
            sa.text("INSERT INTO events (sender_id, type_name, data) VALUES ('a', 'user', '{no json')")
        )  # fmt: skip
    assert texts(OpenQuestions(engine, PROJECT).groups()) == {"can you treat my dog"}


def test_of_very_many_messages_the_newest_are_grouped(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy month must not make the page take minutes."""
    monkeypatch.setattr("assistant.staff.questions._MOST_TEXTS", 5)
    messages = [turn(f"{word} parrots", "x", 0.1, "rephrase") for word in "abcdefghij"]
    keep(engine, {"a": [event for message in messages for event in message]})

    def encode(texts: list[str]) -> Any:
        return np.eye(1000, dtype=np.float32)[: len(texts)]

    shown = texts(OpenQuestions(engine, PROJECT, encode).groups())
    assert shown == {f"{word} parrots" for word in "fghij"}
