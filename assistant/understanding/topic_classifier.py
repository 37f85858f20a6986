"""Rasa component: which topic a message asks about, and how sure that is."""

from __future__ import annotations

from functools import partial
from typing import Any

from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.classifiers.classifier import IntentClassifier
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import InvalidConfigException
from rasa.shared.nlu.constants import TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from assistant.content.catalogue import load_catalogue
from assistant.settings import project_folder
from assistant.understanding.code_version import TrainedByThisCode
from assistant.understanding.encoder_file import EncoderFileError
from assistant.understanding.follow_ups import FollowUps, answered_topics, read_table
from assistant.understanding.results import RANKING_LENGTH, area_of, set_result, set_several
from assistant.understanding.sentence_encoder import Vectors, shared_encoder
from assistant.understanding.spelling import CORRECTED, CORRECTED_QUESTIONS, SpellingCorrection
from assistant.understanding.topic_model import TopicModel, TopicScore
from assistant.understanding.vector_cache import VectorCache

_MODEL_FILE = "topics.npz"
_VECTOR_CACHE = ".rasa/sentence_vectors.npz"
_MOST_QUESTIONS = 3  # answered in one turn; more would be a wall of text on a phone
_MOST_PARTS = 20  # that are looked at
_VECTORS = "sentence_vectors"  # message property: by text, of the whole and of each part


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.INTENT_CLASSIFIER, is_trainable=True)
class TopicClassifier(TrainedByThisCode, GraphComponent, IntentClassifier):
    """Classifies the full topic, so that the confidence is that of the answer.

    Fills `intent`, `intent_ranking` and `response_selector` as Rasa's own components do, and for a
    message with several questions the intent `several_questions` with the topic of each.
    """

    @classmethod
    def required_components(cls) -> list[type]:
        """Say which components must stand before this one."""
        return [SpellingCorrection]

    @staticmethod
    def get_default_config() -> dict[str, Any]:
        """Return the settings and their defaults."""
        return {
            # The sentence encoder: an ONNX file, or package:file.
            "encoder": None,
            "encoder_sha256": None,
            "encoder_threads": 1,
            # Inverse regularisation of the logistic regression.
            "strength": 20.0,
            # A part of a message counts as a question of its own from this confidence on.
            "part_threshold": 0.58,
            # What short messages mean after an answer.
            "follow_ups": "data/follow_ups.yml",
            # Intents that are never one of several questions (courtesies, conversation control).
            "never_a_part": [],
        }

    def __init__(
        self,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        model: TopicModel | None = None,
    ) -> None:
        self._config = {**self.get_default_config(), **config}
        self._model_storage = model_storage
        self._resource = resource
        self._model = model
        topics = model.topics if model else []
        self._areas = sorted({area_of(topic) for topic in topics if "/" in topic})
        project = project_folder()
        table = read_table(project / self._config["follow_ups"])
        self._follow_ups = FollowUps(table, load_catalogue(project))
        try:
            self._encoder = shared_encoder(
                self._config["encoder"] or "",
                self._config["encoder_sha256"] or "",
                int(self._config["encoder_threads"]),
            )
        except EncoderFileError as error:
            raise InvalidConfigException(str(error)) from error

    @classmethod
    def create(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> TopicClassifier:
        """Create the untrained component."""
        return cls(config, model_storage, resource)

    @classmethod
    def load(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
        **kwargs: Any,
    ) -> TopicClassifier:
        """Load the component as `train` saved it."""
        with model_storage.read_from(resource) as folder:
            model = TopicModel.load(folder / _MODEL_FILE)
        return cls(config, model_storage, resource, model)

    def train(self, training_data: TrainingData) -> Resource:
        """Train on the examples and save the result."""
        examples = [
            example
            for example in training_data.intent_examples
            if example.get(TEXT) and example.get_full_intent()
        ]
        texts = [example.get(CORRECTED) for example in examples]
        labels = [example.get_full_intent() for example in examples]
        cache = VectorCache(project_folder() / _VECTOR_CACHE, self._config["encoder_sha256"] or "")
        encode = partial(cache.encode, encode=self._encoder.encode)
        model = TopicModel.fit(texts, labels, encode, float(self._config["strength"]))
        with self._model_storage.write_to(self._resource) as folder:
            model.save(folder / _MODEL_FILE)
        return self._resource

    def prepare(self, messages: list[Message]) -> None:
        """Compute what does not depend on the conversation: the sentence vectors of each message."""
        for message in messages:
            if self._model is not None and message.get(CORRECTED):
                texts = [message.get(CORRECTED), *_parts_of(message)]
                message.set(_VECTORS, dict(zip(texts, self._encoder.encode(texts), strict=True)))

    def process(
        self, messages: list[Message], tracker: DialogueStateTracker | None = None
    ) -> list[Message]:
        """Classify each message, given the conversation before it."""
        self.prepare([message for message in messages if message.get(_VECTORS) is None])
        for message in messages:
            if self._model is not None and message.get(CORRECTED):
                self._classify(self._model, message, answered_topics(tracker))
        return messages

    def _classify(self, model: TopicModel, message: Message, answered: list[str]) -> None:
        text, vectors = message.get(CORRECTED), message.get(_VECTORS)
        set_result(message, self._score(model, text, vectors[text], answered), self._areas)
        questions = self._distinct(model, _parts_of(message), vectors, answered)
        if len(questions) > 1:
            set_several(message, questions)

    def _score(
        self, model: TopicModel, text: str, vector: Vectors, answered: list[str]
    ) -> list[TopicScore]:
        """Return the likeliest topics for a text after the topics answered so far."""
        scores = model.score(text, vector)
        if not answered or self._follow_ups.stands_alone(text, scores):
            return self._follow_ups.first_message(scores)[:RANKING_LENGTH]
        behind = f"{self._follow_ups.question_of(answered[0])} {text}"
        scores_behind = model.score(behind, self._encoder.encode([behind])[0])
        return self._follow_ups.in_context(text, scores, scores_behind, answered)[:RANKING_LENGTH]

    def _distinct(
        self, model: TopicModel, parts: list[str], vectors: dict[str, Vectors], answered: list[str]
    ) -> list[tuple[str, TopicScore]]:
        """Return the parts that are sure questions, one per topic, in their order.

        A part may follow the one before it ("do you do massage? does insurance cover it").
        """
        found: dict[str, tuple[str, TopicScore]] = {}
        for part in parts:
            before = [*reversed(found), *answered]
            best = self._score(model, part, vectors[part], before)[0]
            if best.confidence < float(self._config["part_threshold"]):
                continue
            if area_of(best.topic) not in self._config["never_a_part"]:
                found.setdefault(best.topic, (part, best))
        return list(found.values())[:_MOST_QUESTIONS]


def _parts_of(message: Message) -> list[str]:
    """Return the single questions of a message, each once; none if it is one itself."""
    parts: list[str] = message.get(CORRECTED_QUESTIONS) or []
    # Each part takes a hundredth of a second; "no! no! ..." would have two hundred of them.
    return list(dict.fromkeys(parts))[:_MOST_PARTS] if len(parts) > 1 else []
