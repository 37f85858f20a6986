"""Typo tolerance: unknown words become the nearest word of our own vocabulary.

A word is known when the training examples hold it or when the sentence encoder has a piece for the
whole of it (some 20,000 common English words); only other words are touched, so a correct but
rare word is at worst replaced by a very near one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import OSA
from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.constants import SPACY_DOCS
from rasa.nlu.utils.spacy_utils import SpacyNLP
from rasa.shared.nlu.constants import TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from assistant.understanding.language import QUESTIONS
from assistant.understanding.vocabulary import common_words

CORRECTED = "corrected_text"
"""Message property that holds the text after correction (lower case)."""

CORRECTED_QUESTIONS = "corrected_questions"
"""Message property that holds the single questions of the text after correction."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?", re.IGNORECASE)
_SHORTEST = 4  # letters; a three-letter word has too many neighbours
_LONGEST = 24  # letters; longer is an address or noise
_TWICE_FROM = 8  # letters from which two edits are allowed
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'"})  # noqa: RUF001


class Speller:
    """Corrects single words towards a vocabulary.

    Args:
        counts: how often the training examples use each word; the commoner of two equally near
            words wins.
        common: further words that are right as they are but are never a correction.
    """

    def __init__(self, counts: dict[str, int], common: frozenset[str]) -> None:
        self.counts = counts
        self._known = common | counts.keys()
        self._targets = sorted(word for word in counts if len(word) >= _SHORTEST)

    def correct(self, text: str) -> str:
        """Return the text in lower case with its unknown words corrected."""
        plain = text.translate(_APOSTROPHES).lower()
        return _WORD.sub(lambda match: self._corrected(match.group()), plain)

    @lru_cache(maxsize=4096)  # noqa: B019 - one speller lives as long as the process
    def _corrected(self, word: str) -> str:
        if word in self._known or not _SHORTEST <= len(word) <= _LONGEST or "'" in word:
            return word
        squeezed = re.sub(r"(.)\1{2,}", r"\1\1", word)
        allowed = 2 if len(squeezed) >= _TWICE_FROM else 1
        near = process.extract(
            squeezed,
            self._targets,
            scorer=OSA.distance,
            score_cutoff=allowed,
            limit=5,
        )
        if not near:
            return word
        # The first letter is rarely the wrong one; then the fewest edits; then the commonest word.
        best = min(near, key=lambda hit: (hit[1], hit[0][0] != word[0], -self.counts[hit[0]]))
        return str(best[0])


def learn_words(texts: list[str]) -> dict[str, int]:
    """Count the words of the training examples, leaving out those seen once (they may be typos)."""
    counts = Counter(
        word
        for text in texts
        for word in _WORD.findall(text.translate(_APOSTROPHES).lower())
        if len(word) > 1
    )
    common = common_words()
    return {word: n for word, n in counts.items() if n > 2 or (word in common and n > 0)}


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.MESSAGE_FEATURIZER, is_trainable=True)
class SpellingCorrection(GraphComponent):
    """Rasa component: learns the words of the examples and corrects each message towards them."""

    def __init__(self, model_storage: ModelStorage, resource: Resource, speller: Speller) -> None:
        self._model_storage = model_storage
        self._resource = resource
        self.speller = speller

    @classmethod
    def required_components(cls) -> list[type]:
        """Say which components must stand before this one."""
        return [SpacyNLP]

    @classmethod
    def create(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> SpellingCorrection:
        """Create the untrained component."""
        return cls(model_storage, resource, Speller({}, common_words()))

    @classmethod
    def load(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
        **kwargs: Any,
    ) -> SpellingCorrection:
        """Load the component as `train` saved it."""
        with model_storage.read_from(resource) as folder:
            counts = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        return cls(model_storage, resource, Speller(counts, common_words()))

    def train(self, training_data: TrainingData) -> Resource:
        """Learn the words of the examples and save them."""
        texts = [example.get(TEXT, "") for example in training_data.intent_examples]
        counts = learn_words(texts)
        self.speller = Speller(counts, common_words())
        with self._model_storage.write_to(self._resource) as folder:
            (folder / "words.json").write_text(json.dumps(counts), encoding="utf-8")
        return self._resource

    def process_training_data(self, training_data: TrainingData) -> TrainingData:
        """Correct the examples as a visitor's message would be, so that both look alike."""
        self.process(training_data.training_examples)
        return training_data

    def process(self, messages: list[Message]) -> list[Message]:
        """Set the corrected text of each message."""
        for message in messages:
            text = message.get(TEXT)
            if text:
                message.set(CORRECTED, self.speller.correct(text))
            document = message.get(SPACY_DOCS[TEXT])
            if document is not None:
                questions = [span.text for span in document.spans.get(QUESTIONS, [])]
                message.set(CORRECTED_QUESTIONS, [self.speller.correct(q) for q in questions])
        return messages
