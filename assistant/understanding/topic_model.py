"""The classifier itself, without Rasa: a message in, topics with confidence out.

Two views of a message vote on its topic: its sentence vector (logistic regression, and the likeness
to the nearest example) and its words (a linear support vector machine). Apart from that, the
evidence that the message is about our field at all is weighed against the examples of what is not;
without such examples, a message that resembles nothing known is not ours. What was tried and
measured stands in docs/understanding.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from assistant.understanding.small_matrix import SmallMatrix

Floats = npt.NDArray[np.float32]

OUT_OF_SCOPE = "out_of_scope"
"""Area of the topics that stand for all we cannot answer."""

# Weights of the votes; measured, see docs/understanding.md.
_WORD_SHARE = 0.2  # of the words' vote, the rest is the vector's
_WORD_SHARPNESS = 4.0  # turns margins into probabilities
# The cosine to the nearest example tells more the more examples a topic has: its weight in the
# topic's score for each doubling beyond so many.
_LIKENESS_WEIGHT = 2.5
_LIKENESS_FROM = 8
_FIELD_LIKENESS_WEIGHT = 5.0  # of the difference in cosine between our field and the rest
_FIELD_SHARPNESS = 0.5  # turns the evidence into a probability
_FIELD_DOUBT = 3.2  # evidence at which "ours" and "not ours" are equally likely
_NEAREST = 3  # examples whose mean cosine counts for our field
_LEAST = 1e-9

# Training of the logistic regression; going on for longer changed no figure.
_ITERATIONS = 40
_TOLERANCE = 1e-5  # largest slope of the mean loss that counts as its minimum


class TopicScore(NamedTuple):
    """A topic and how sure we are that it is what the message asks (0 to 1)."""

    topic: str
    confidence: float


class TopicModel:
    """Scores all topics for a message.

    Args:
        topics: the topics' names, sorted.
        vector_weights: shape (dimensions + 1, topics); the last row is the intercept.
        word_weights: shape (word features + 1, topics); the last row is the intercept.
        words: the word features.
        idf: their weights by rarity.
        examples: the training examples' vectors, a row each, by topic.
        owners: for each example the index of its topic, ascending.
    """

    def __init__(
        self,
        topics: list[str],
        vector_weights: Floats,
        word_weights: Floats,
        words: list[str],
        idf: Floats,
        examples: SmallMatrix,
        owners: npt.NDArray[np.int32],
    ) -> None:
        self.topics = topics
        self._vector_weights = vector_weights
        self._word_weights = word_weights
        self._words = words
        self._idf = idf
        self._examples = examples
        self._owners = owners
        self._terms_of = _word_view().build_analyzer()
        self._number_of_word = {word: number for number, word in enumerate(words)}
        # Where each topic's examples begin, and where the last ones end.
        self._bounds = np.searchsorted(owners, np.arange(len(topics) + 1))
        doublings = np.log2(len(owners) / len(topics) / _LIKENESS_FROM)
        self._likeness_weight = _LIKENESS_WEIGHT * max(0.0, float(doublings))
        self._ours = np.array([topic.partition("/")[0] != OUT_OF_SCOPE for topic in topics])

    @classmethod
    def fit(
        cls,
        texts: list[str],
        labels: list[str],
        encode: Callable[[list[str]], Floats],
        strength: float,
    ) -> TopicModel:
        """Train on labelled texts. The words of a topic's name are one more example of it.

        Args:
            texts: the corrected texts.
            labels: the topic of each.
            encode: returns texts' sentence vectors, shape (texts, dimensions), each of length 1.
            strength: inverse regularisation of the logistic regression, as sklearn's `C`.

        Raises:
            ValueError: there are fewer than two topics.
        """
        topics = sorted(set(labels))
        if len(topics) < 2:
            raise ValueError(f"The classifier needs at least two topics, not {len(topics)}.")
        named = [*zip(labels, texts, strict=True), *((topic, _in_words(topic)) for topic in topics)]
        named.sort(key=lambda example: example[0])
        texts = [text for _, text in named]
        vectors = encode(texts)
        index = {topic: number for number, topic in enumerate(topics)}
        owners = np.array([index[topic] for topic, _ in named], dtype=np.int32)

        view = _word_view()
        by_words = LinearSVC(C=1.0, tol=1e-2, class_weight="balanced", random_state=0)
        # Both compute without Python's lock, so each has a core of its own.
        with ThreadPoolExecutor(1) as beside:
            fitted = beside.submit(by_words.fit, view.fit_transform(texts), owners)
            vector_weights = _logistic_regression(vectors, owners, strength)
            fitted.result()
        return cls(
            topics,
            vector_weights,
            _stacked(by_words.coef_, by_words.intercept_),
            list(view.get_feature_names_out()),
            view.idf_.astype(np.float32),
            SmallMatrix.of(vectors),
            owners,
        )

    def score(self, text: str, vector: Floats) -> list[TopicScore]:
        """Return all topics for a message, the surest first.

        The confidence of the first is the probability that the message is what that topic is of:
        our field, or outside it. Without out-of-scope examples it is how sure the vote is and how
        near the nearest example, in one. The others follow in proportion to their likelihood.

        Args:
            text: the corrected text.
            vector: its sentence vector, of length 1.
        """
        by_vector = _log_probabilities(
            vector @ self._vector_weights[:-1] + self._vector_weights[-1]
        )
        numbers, weights = self._seen_words(text)
        margins = weights @ self._word_weights[numbers] + self._word_weights[-1]
        by_words = _log_probabilities(_WORD_SHARPNESS * margins)
        votes = (1 - _WORD_SHARE) * by_vector + _WORD_SHARE * by_words
        cosines = self._examples.products(vector)
        nearest = np.maximum.reduceat(cosines, self._bounds[:-1])

        likelihood = np.exp(_log_probabilities(votes + self._likeness_weight * nearest))
        if self._ours.all():
            ours = _familiarity(votes, nearest, int(likelihood.argmax()))
        else:
            ours = self._probability_of_our_field(votes, nearest, cosines)
        confidence = np.empty(len(self.topics))
        for part, probability in ((self._ours, ours), (~self._ours, 1 - ours)):
            if part.any():
                best = max(float(likelihood[part].max()), _LEAST)
                confidence[part] = probability * likelihood[part] / best
        order = np.argsort(-confidence)
        names = [self.topics[number] for number in order]
        return list(map(TopicScore, names, confidence[order].tolist()))

    def _seen_words(self, text: str) -> tuple[list[int], Floats]:
        """Return the known words of a text and how much each counts: as the view of training does.

        For one text this takes a twentieth of the time of `TfidfVectorizer.transform`.
        """
        counts = Counter(
            self._number_of_word[term]
            for term in self._terms_of(text)
            if term in self._number_of_word
        )
        numbers = list(counts)
        weights = (1 + np.log(np.array(list(counts.values()), dtype=np.float32))) * self._idf[
            numbers
        ]
        return numbers, weights / max(float(np.linalg.norm(weights)), _LEAST)

    def _probability_of_our_field(self, votes: Floats, nearest: Floats, cosines: Floats) -> float:
        if not self._ours.any():
            return 0.0
        shares = np.exp(_log_probabilities(votes))
        inside, outside = shares[self._ours].sum(), shares[~self._ours].sum()
        evidence = np.log(inside + _LEAST) - np.log(outside + _LEAST)
        difference = nearest[self._ours].max() - nearest[~self._ours].max()
        difference += self._most_alike(self._ours, nearest, cosines)
        difference -= self._most_alike(~self._ours, nearest, cosines)
        evidence += _FIELD_LIKENESS_WEIGHT * difference
        return float(1 / (1 + np.exp(-_FIELD_SHARPNESS * (evidence - _FIELD_DOUBT))))

    def _most_alike(self, part: npt.NDArray[np.bool_], nearest: Floats, cosines: Floats) -> float:
        """Return the highest mean cosine that the nearest examples of one of these topics have."""
        highest = -1.0
        topics = np.flatnonzero(part)
        for topic in topics[np.argsort(-nearest[topics])]:
            if nearest[topic] <= highest:  # and so are those of all that follow
                break
            of_topic = np.sort(cosines[self._bounds[topic] : self._bounds[topic + 1]])[-_NEAREST:]
            missing = _NEAREST - len(of_topic)  # count as nothing like the message
            highest = max(highest, (float(of_topic.sum()) - missing) / _NEAREST)
        return highest

    def save(self, path: Path) -> None:
        """Write the model to a file that holds numbers and names only (no code)."""
        np.savez_compressed(
            path,
            topics=np.array(self.topics),
            vector_weights=self._vector_weights,
            word_weights=self._word_weights.astype(np.float16),
            words=np.array(self._words),
            idf=self._idf,
            examples=self._examples.numbers,
            example_scales=self._examples.scales,
            owners=self._owners,
        )

    @classmethod
    def load(cls, path: Path) -> TopicModel:
        """Read a model that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                [str(topic) for topic in stored["topics"]],
                stored["vector_weights"],
                stored["word_weights"].astype(np.float32),
                [str(word) for word in stored["words"]],
                stored["idf"],
                SmallMatrix(stored["examples"], stored["example_scales"]),
                stored["owners"],
            )


def _in_words(topic: str) -> str:
    """Return a topic's name as words: `stretches/how_often` as "stretches how often"."""
    return " ".join(re.findall(r"[^\W_]+", topic.lower()))


def _word_view() -> TfidfVectorizer:
    """Return the view on a text's words and pairs of words."""
    return TfidfVectorizer(
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w[\w']*\b",  # noqa: S106 - a pattern, no secret
        ngram_range=(1, 2),
        dtype=np.float32,
    )


def _logistic_regression(vectors: Floats, owners: npt.NDArray[np.int32], strength: float) -> Floats:
    """Train a multinomial logistic regression in which all topics have the same weight.

    The same as sklearn's `LogisticRegression(C=strength, class_weight="balanced")`, three times as
    fast: the large products are in single precision.

    Args:
        vectors: shape (examples, dimensions).
        owners: for each example the index of its topic; every topic has one.
        strength: inverse regularisation.

    Returns:
        The weights, shape (dimensions + 1, topics); the last row is the intercept.
    """
    counts = np.bincount(owners)
    count, topics = len(owners), len(counts)
    inputs = np.hstack([vectors, np.ones((count, 1))]).astype(np.float32)
    transposed = np.ascontiguousarray(inputs.T)
    share = (1 / (topics * counts))[owners].astype(np.float32)  # of an example in the loss
    shape = inputs.shape[1], topics
    penalty = np.full((shape[0], 1), 1 / (strength * count), dtype=np.float32)
    penalty[-1] = 0  # the intercept is free
    rows = np.arange(count)

    def loss_and_slope(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights = flat.reshape(shape).astype(np.float32)
        scores = inputs @ weights
        scores -= scores.max(axis=1, keepdims=True)
        right = scores[rows, owners]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1, keepdims=True)
        loss = share @ (np.log(total[:, 0]) - right) + (penalty * weights**2).sum() / 2
        scores /= total
        scores[rows, owners] -= 1
        scores *= share[:, np.newaxis]
        slope = transposed @ scores + penalty * weights
        return float(loss), slope.ravel().astype(np.float64)

    found = minimize(
        loss_and_slope,
        np.zeros(shape[0] * topics),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "gtol": _TOLERANCE, "ftol": 1e-7},
    )
    return np.asarray(found.x.reshape(shape), dtype=np.float32)


def _familiarity(votes: Floats, nearest: Floats, best: int) -> float:
    """Return how sure the vote is of the best topic and how near its nearest example, in one.

    The root of the probability keeps two topics that are alike from making a message strange.
    """
    probability = float(np.exp(_log_probabilities(votes)[best]))
    return float(np.sqrt(probability) * max(float(nearest[best]), 0.0))


def _stacked(coefficients: Floats, intercept: Floats) -> Floats:
    """Return weights and intercept in one array of shape (features + 1, classes)."""
    if len(intercept) == 1:  # sklearn keeps one row for two classes
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    return np.vstack([coefficients.T, intercept]).astype(np.float32)


def _log_probabilities(scores: Floats) -> Floats:
    shifted = scores - scores.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), dtype=np.float32)
