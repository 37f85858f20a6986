"""Rasa component: a red flag goes before whatever else a message was understood as."""

from __future__ import annotations

from typing import Any

from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.classifiers.classifier import IntentClassifier
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.nlu.constants import TEXT
from rasa.shared.nlu.training_data.message import Message

from assistant.safety.detector import CLARIFY, SAFETY_AREA, RedFlag, RedFlagDetector, load_detector
from assistant.settings import project_folder
from assistant.understanding.follow_ups import answered_topics
from assistant.understanding.results import area_of, ranked_topics, set_result
from assistant.understanding.topic_classifier import TopicClassifier
from assistant.understanding.topic_model import TopicScore

# The classifier alone is a second net; measured, see docs/safety.md.
_SURE_CONFIDENCE = 0.6  # of all red flags together
_OTHER_AT_MOST = 0.5  # of that: the likeliest ordinary topic
_SHORT = 8  # words; so short a message may be the second half of the one before


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.INTENT_CLASSIFIER, is_trainable=False)
class RedFlags(GraphComponent, IntentClassifier):
    """Sets the topic to the advice for the most urgent red flag of a message, if it has one."""

    @classmethod
    def required_components(cls) -> list[type]:
        """Say which components must stand before this one."""
        return [TopicClassifier]

    def __init__(self, detector: RedFlagDetector) -> None:
        self._detector = detector

    @classmethod
    def create(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> RedFlags:
        """Create the component with the rules of the project."""
        return cls(load_detector(project_folder()))

    def process(
        self, messages: list[Message], tracker: DialogueStateTracker | None = None
    ) -> list[Message]:
        """Look for red flags in each message, and across it and the one before."""
        for message in messages:
            ranking = ranked_topics(message.data)
            areas = {
                *(message.get("response_selector") or {}).get("all_retrieval_intents", []),
                SAFETY_AREA,
            }
            text = message.get(TEXT) or ""
            flag = self._flag(text, tracker)
            if flag is not None:
                others = [score for score in ranking if score.topic != flag.topic]
                set_result(message, [TopicScore(flag.topic, 1.0), *others], areas)
            elif _is_sure(ranking) and not self._detector.plays_down(text):
                set_result(message, _safety_first(ranking), areas)
            elif self._is_to_clarify(text, tracker):
                set_result(message, [TopicScore(CLARIFY, 1.0), *ranking], areas)
            elif ranking and area_of(ranking[0].topic) == SAFETY_AREA:
                others = [score for score in ranking if area_of(score.topic) != SAFETY_AREA]
                set_result(message, others or ranking, areas)
        return messages

    def _flag(self, text: str, tracker: DialogueStateTracker | None) -> RedFlag | None:
        flag = self._detector.scan(text)
        before = tracker.latest_message.text if tracker and tracker.latest_message else None
        if flag or not before or len(text.split()) > _SHORT or self._detector.scan(before):
            return flag
        return self._detector.scan(f"{before}. {text}")

    def _is_to_clarify(self, text: str, tracker: DialogueStateTracker | None) -> bool:
        return self._detector.is_unclear(text) and answered_topics(tracker)[:1] != [CLARIFY]


def _is_sure(ranking: list[TopicScore]) -> bool:
    """Whether the classifier alone may alarm: all red flags together against the likeliest other topic."""
    alarm = sum(score.confidence for score in ranking if area_of(score.topic) == SAFETY_AREA)
    ordinary = max((s.confidence for s in ranking if area_of(s.topic) != SAFETY_AREA), default=0.0)
    return alarm >= _SURE_CONFIDENCE and ordinary <= _OTHER_AT_MOST * alarm


def _safety_first(ranking: list[TopicScore]) -> list[TopicScore]:
    """Return a ranking with the likeliest red flag first, and certain."""
    first = next(score for score in ranking if area_of(score.topic) == SAFETY_AREA)
    return [TopicScore(first.topic, 1.0), *(score for score in ranking if score != first)]
