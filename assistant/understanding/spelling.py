"""Typo tolerance: each word becomes the likeliest word for what was typed, given its neighbours.

The noisy-channel rule: how likely a word is between its neighbours, learned from the examples and
from how common it is in English, against how unlikely a typing error is. So "how log does it last"
becomes "how long", and a rare word that is right, as "tomography", stays. The weights were measured on
typing errors put into messages, see docs/understanding.md.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import OSA
from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.constants import SPACY_DOCS
from rasa.shared.nlu.constants import TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from assistant.understanding.code_version import TrainedByThisCode
from assistant.understanding.language import QUESTIONS
from assistant.understanding.spacy_documents import SpacyDocuments
from assistant.understanding.vocabulary import common_words, word_shares

CORRECTED = "corrected_text"
"""Message property that holds the text after correction (lower case)."""

CORRECTED_QUESTIONS = "corrected_questions"
"""Message property that holds the single questions of the text after correction."""

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?", re.IGNORECASE)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'"})  # noqa: RUF001
_START, _END = "<", ">"  # stand for the neighbours of the first and the last word

_SHORTEST = 2  # letters
_LONGEST = 24  # letters; longer is an address or noise
_TWO_ERRORS_FROM = 8  # letters from which two errors in a word are thought of
_MOST_CANDIDATES = 40

# Costs are natural logarithms of odds.
_ONE_ERROR = 6.0
_TWO_ERRORS = 13.0
_OTHER_FIRST_LETTER = 1.5  # on top: the first letter is rarely the wrong one
_RIGHT_AS_IT_IS = 2.5  # in favor of a word that exists
_NEIGHBOUR_DOUBT = 8.0  # sightings of a word that its neighbours must outweigh
_ENGLISH = 20_000  # words of general English that the examples are mixed with
_ENGLISH_GUESSES = 40_000  # the commonest words; a rarer one is hardly what was meant
_UNSEEN = 1e-3  # sightings of a word that nobody knows
_WRITTEN_OFTEN = 3  # examples' uses that make a word right, though no dictionary has it


class Speller:
    """Corrects words by their likelihood among their neighbours.

    Args:
        sightings: the examples' words and how often each occurs, with `<` and `>` for the
            beginnings and ends of texts.
        pairs: how often one word follows another, by `"one other"`.
    """

    def __init__(self, sightings: dict[str, int], pairs: dict[str, int]) -> None:
        self._sightings = sightings
        self._pairs = pairs
        self._english = {word: _ENGLISH * share for word, share in word_shares().items()}
        self._total = sum(sightings.values()) + _ENGLISH
        self._most_after: dict[str, int] = {}  # how often its commonest follower follows a word
        self._most_before: dict[str, float] = {}  # the largest share of a word among followers
        for pair, together in pairs.items():
            one, _, other = pair.partition(" ")
            self._most_after[one] = max(self._most_after.get(one, 0), together)
            share = self._follows(one, other)
            self._most_before[other] = max(self._most_before.get(other, 0.0), share)
        self._right = common_words() | self._english.keys() | sightings.keys()
        self._ours = frozenset(word for word in sightings if len(word) >= _SHORTEST)
        guesses = islice(self._english, _ENGLISH_GUESSES)
        self._all = self._ours.union(word for word in guesses if len(word) > _SHORTEST)
        commonest = {*self._ours, next(iter(self._english))}
        self._largest_share = max(map(self._share, commonest))
        self._letters = "".join(sorted(set().union(*self._all)))
        # Caches of this speller alone: one for the methods would keep it when a new model comes.
        self._corrected = lru_cache(maxsize=8192)(self._likeliest)
        self._meant = lru_cache(maxsize=8192)(self._candidates)
        self._of_length = lru_cache(maxsize=256)(self._words_of_length)

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Speller:
        """Make a speller that knows the words of some texts and which follow each other."""
        sightings: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        for text in texts:
            words = [_START, *_WORD.findall(_plain(text)), _END]
            sightings.update(words)
            pairs.update(f"{one} {other}" for one, other in pairwise(words))
        known = word_shares().keys() | {_START, _END}
        right = {w: n for w, n in sightings.items() if n >= _WRITTEN_OFTEN or w in known}
        return cls(right, dict(pairs))

    def correct(self, text: str) -> str:
        """Return the text in lower case with its misspelt words corrected."""
        plain = _plain(text)
        found = list(_WORD.finditer(plain))
        words = [_START, *(match.group() for match in found), _END]
        parts, end = [], 0
        for place, match in enumerate(found, start=1):
            # The word before is corrected already, the one after is as typed.
            words[place] = self._corrected(words[place - 1], words[place], words[place + 1])
            parts += [plain[end : match.start()], words[place]]
            end = match.end()
        return "".join([*parts, plain[end:]])

    def to_json(self) -> str:
        """Return all that was learned."""
        return json.dumps({"sightings": self._sightings, "pairs": self._pairs})

    @classmethod
    def from_json(cls, text: str) -> Speller:
        """Make the speller that `to_json` described."""
        return cls(**json.loads(text))

    def _likeliest(self, before: str, typed: str, after: str) -> str:
        if "'" in typed or not _SHORTEST <= len(typed) <= _LONGEST:
            return typed
        is_right = typed in self._right
        best, odds = typed, -math.inf
        if is_right:
            odds = _RIGHT_AS_IT_IS + self._fits(before, typed, after)
            if odds >= self._best_fit(before, after) - _ONE_ERROR:  # no other word has more
                return typed
        for word, errors in self._meant(typed, is_right):
            cost = _ONE_ERROR if errors == 1 else _TWO_ERRORS
            cost += _OTHER_FIRST_LETTER if word[0] != typed[0] else 0.0
            fits = self._fits(before, word, after) - cost
            if fits > odds:
                best, odds = word, fits
        return best

    def _candidates(self, typed: str, is_right: bool) -> tuple[tuple[str, int], ...]:
        """Return the words that may have been meant, each with the number of typing errors.

        For a word that exists only the examples' words come in question: visitors ask about our
        field, and a rarer word of general English is no better guess.
        """
        squeezed = re.sub(r"(.)\1{2,}", r"\1\1", typed)
        if is_right or len(squeezed) < _TWO_ERRORS_FROM:
            words = self._ours if is_right else self._all
            near = sorted(words.intersection(self._with_one_error(squeezed)))
            return tuple((word, 1) for word in near[:_MOST_CANDIDATES] if word != typed)
        hits = process.extract(
            squeezed,
            self._of_length(len(squeezed)),
            scorer=OSA.distance,
            score_cutoff=2,
            limit=_MOST_CANDIDATES,
        )
        return tuple((str(hit[0]), max(1, int(hit[1]))) for hit in hits if hit[0] != typed)

    def _with_one_error(self, word: str) -> Iterator[str]:
        """Yield all that a letter left out, added, wrong or swapped can make of a word, and itself."""
        for place in range(len(word) + 1):
            before, after = word[:place], word[place:]
            yield before + after[1:]
            yield before + after[1:2] + after[:1] + after[2:]
            for letter in self._letters:
                yield before + letter + after
                yield before + letter + after[1:]

    def _words_of_length(self, length: int) -> list[str]:
        """Return the words that two errors can make of a word of a length."""
        return sorted(word for word in self._all if abs(len(word) - length) <= 2)

    def _fits(self, before: str, word: str, after: str) -> float:
        """Return the log likelihood of a word between its neighbours."""
        return math.log(self._follows(before, word)) + math.log(self._follows(word, after))

    def _best_fit(self, before: str, after: str) -> float:
        """Return what no word between these neighbours can exceed."""
        most = self._most_after.get(before, 0) + _NEIGHBOUR_DOUBT * self._largest_share
        follows = most / (self._sightings.get(before, 0) + _NEIGHBOUR_DOUBT)
        return math.log(follows) + math.log(
            max(self._most_before.get(after, 0.0), self._share(after))
        )

    def _follows(self, one: str, other: str) -> float:
        together = self._pairs.get(f"{one} {other}", 0)
        share = together + _NEIGHBOUR_DOUBT * self._share(other)
        return share / (self._sightings.get(one, 0) + _NEIGHBOUR_DOUBT)

    def _share(self, word: str) -> float:
        """Return how common a word is, wherever it stands."""
        alone = self._sightings.get(word, 0) + self._english.get(word, 0.0) + _UNSEEN
        return alone / self._total


def _plain(text: str) -> str:
    return text.translate(_APOSTROPHES).lower()


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.MESSAGE_FEATURIZER, is_trainable=True)
class SpellingCorrection(TrainedByThisCode, GraphComponent):
    """Rasa component: learns the words of the examples and corrects each message towards them."""

    def __init__(self, model_storage: ModelStorage, resource: Resource, speller: Speller) -> None:
        self._model_storage = model_storage
        self._resource = resource
        self.speller = speller

    @classmethod
    def required_components(cls) -> list[type]:
        """Say which components must stand before this one."""
        return [SpacyDocuments]

    @classmethod
    def create(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> SpellingCorrection:
        """Create the untrained component."""
        return cls(model_storage, resource, Speller.learn([]))

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
            speller = Speller.from_json((folder / "words.json").read_text(encoding="utf-8"))
        return cls(model_storage, resource, speller)

    def train(self, training_data: TrainingData) -> Resource:
        """Learn the words of the examples and save them."""
        texts = [example.get(TEXT, "") for example in training_data.intent_examples]
        self.speller = Speller.learn(texts)
        with self._model_storage.write_to(self._resource) as folder:
            (folder / "words.json").write_text(self.speller.to_json(), encoding="utf-8")
        return self._resource

    def process_training_data(self, training_data: TrainingData) -> TrainingData:
        """Correct the examples as a visitor's message would be, so that both look alike."""
        for example in training_data.training_examples:
            self._correct(example)
        return training_data

    def process(self, messages: list[Message]) -> list[Message]:
        """Set the corrected text of each message."""
        for message in messages:
            self._correct(message)
            document = message.get(SPACY_DOCS[TEXT])
            if document is not None:
                questions = [span.text for span in document.spans.get(QUESTIONS, [])]
                message.set(CORRECTED_QUESTIONS, [self.speller.correct(q) for q in questions])
        return messages

    def _correct(self, message: Message) -> None:
        text = message.get(TEXT)
        if text:
            message.set(CORRECTED, self.speller.correct(text))
