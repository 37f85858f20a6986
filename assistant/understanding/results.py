"""How an understood message looks to Rasa: the shapes its own classifiers and selectors give.

A topic is a plain intent (`greet`) or an area and a question (`diet/gluten`, Rasa's retrieval
intent and response key).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rasa.shared.constants import UTTER_PREFIX
from rasa.shared.nlu.constants import INTENT, INTENT_RANKING_KEY
from rasa.shared.nlu.training_data.message import Message

from assistant.understanding.topic_model import TopicScore

SEVERAL_QUESTIONS = "several_questions"
"""Intent of a message that holds more than one question."""

QUESTIONS_KEY = "questions"
"""Output property with the single questions of such a message: text, topic, confidence."""

RANKING_LENGTH = 10
_SELECTOR = "response_selector"


@lru_cache(maxsize=1000)  # asked of every topic for every message
def area_of(topic: str) -> str:
    """Return the intent of a topic: the part before the slash."""
    return topic.partition("/")[0]


def set_result(message: Message, ranking: list[TopicScore], areas: Iterable[str]) -> None:
    """Fill `intent`, `intent_ranking` and `response_selector` from a ranking of topics.

    Args:
        message: the message to fill.
        ranking: topics, the surest first; not empty.
        areas: all intents that have answers per question (Rasa's retrieval intents).
    """
    ranking = ranking[:RANKING_LENGTH]
    intents: dict[str, float] = {}
    for score in ranking:
        intents.setdefault(area_of(score.topic), score.confidence)
    intent_ranking = [{"name": name, "confidence": value} for name, value in intents.items()]
    message.set(INTENT, dict(intent_ranking[0]), add_to_output=True)
    message.set(INTENT_RANKING_KEY, intent_ranking, add_to_output=True)
    message.set(_SELECTOR, _selector(ranking, sorted(areas)), add_to_output=True)


def set_several(message: Message, questions: list[tuple[str, TopicScore]]) -> None:
    """Mark a message as holding several questions, each with the topic that answers it."""
    ranking = message.get(INTENT_RANKING_KEY, [])
    others = [item for item in ranking if item["name"] != SEVERAL_QUESTIONS]
    # At least as sure as the rest of the ranking, which Rasa's fallback takes for rivals.
    rivals = [score.confidence for _, score in questions] + [item["confidence"] for item in others]
    intent = {"name": SEVERAL_QUESTIONS, "confidence": max(rivals)}
    message.set(INTENT, intent, add_to_output=True)
    message.set(INTENT_RANKING_KEY, [intent, *others], add_to_output=True)
    message.set(
        QUESTIONS_KEY,
        [
            {"text": text, "topic": score.topic, "confidence": score.confidence}
            for text, score in questions
        ],
        add_to_output=True,
    )


def ranked_topics(parse_data: dict[str, Any]) -> list[TopicScore]:
    """Return the ranking of full topics from a message's parse data, the surest first."""
    selector = parse_data.get(_SELECTOR) or {}
    scores = [
        TopicScore(item["intent_response_key"], item["confidence"])
        for area, entry in selector.items()
        if isinstance(entry, dict) and area != "all_retrieval_intents"
        for item in entry.get("ranking", [])
    ]
    plain = [
        TopicScore(item["name"], item["confidence"])
        for item in parse_data.get(INTENT_RANKING_KEY) or []
        if item["name"] not in selector and item["name"] not in (SEVERAL_QUESTIONS, "nlu_fallback")
    ]
    return sorted(scores + plain, key=lambda score: -score.confidence)


def _selector(ranking: list[TopicScore], areas: list[str]) -> dict[str, Any]:
    selector: dict[str, Any] = {"all_retrieval_intents": areas}
    for score in ranking:
        area = area_of(score.topic)
        if area not in areas:
            continue
        item = {"confidence": score.confidence, "intent_response_key": score.topic}
        if area in selector:
            selector[area]["ranking"].append(item)
            continue
        selector[area] = {
            "response": {
                "responses": [],
                "confidence": score.confidence,
                "intent_response_key": score.topic,
                "utter_action": f"{UTTER_PREFIX}{score.topic}",
            },
            "ranking": [item],
        }
    return selector
