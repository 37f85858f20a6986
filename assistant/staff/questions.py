"""What visitors asked that was not answered well: turned away, barely understood, or marked unhelpful.

It is read from the stored conversations each time, so what a visitor takes back, and what is past its
time, is gone from here as well. Private conversations are never stored, and what is stored was
redacted before. Nothing is copied: of a question that an editor has seen to, a digest is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from cachetools import LRUCache
from ruamel.yaml import YAML
from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]
from sqlalchemy.engine import Connection, Engine

from assistant.channels.message_text import clean
from assistant.content.examples import read_examples
from assistant.redaction import redact
from assistant.safety.detector import SAFETY_AREA
from assistant.staff.editing import OUT_OF_SCOPE
from assistant.storage.database import connected, events, feedback, settled_questions, transaction
from assistant.storage.private_conversations import is_private
from assistant.understanding.results import area_of, ranked_topics
from assistant.understanding.sentence_encoder import shared_encoder

logger = logging.getLogger(__name__)

TURNED_AWAY, UNSURE, UNHELPFUL = "turned away", "unsure", "unhelpful"
"""Why a question is shown."""

DISMISSED = "dismissed"
"""Outcome of a question that needs nothing."""

UNSURE_BELOW = 0.7
"""Confidence below which an answer counts as unsure; from 0.58 on one is given at all."""

# Mean cosine from which two groups of phrasings are one. Tried with four to six phrasings each of ten
# questions that are no topic: of the pairs put together 98 in 100 belong together, and of those that
# belong together 78 in 100 are found. Within our topics neighbours are put together too (which stretch,
# how often); there an editor chooses among the phrasings.
_LIKE = 0.38
_SAMPLE_EVERY = 30  # examples, for what all messages have in common
_MOST_EVENTS = 20_000  # the newest; some 3,000 messages
_MOST_TEXTS = 600  # different ones, the newest; each takes some milliseconds to encode
_NEAREST = 3
_KEPT_DAYS = 400.0  # of digests; what they are of is long gone by then
_FORM_ANSWER = re.compile(r"\[answer: \w+\]")

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """One message of a visitor's, redacted.

    Attributes:
        text: its words.
        at: seconds since 1970.
        reason: why it is shown (`TURNED_AWAY`, `UNSURE`, `UNHELPFUL`).
        topics: the likeliest topics with their confidence, from 0 to 1.
        answered: the topic that answered; "" if it was turned away.
        why: what the visitor said was wrong with the answer; "" without.
    """

    text: str
    at: float
    reason: str
    topics: tuple[tuple[str, float], ...]
    answered: str = ""
    why: str = ""


@dataclass(frozen=True)
class Group:
    """Phrasings of what is probably one question.

    Attributes:
        name: stays the same while the phrasings do.
        phrasings: the different ones with how often each was asked, the most typical first.
        count: how often all of them were asked.
        newest: when last, in seconds since 1970.
        reasons: why they are shown, with how often.
        nearest: the likeliest topics, with mean confidence; none that turns away or gives advice.
        whys: what visitors said was wrong with the answers, with how often.
    """

    name: str
    phrasings: tuple[tuple[str, int], ...]
    count: int
    newest: float
    reasons: dict[str, int]
    nearest: tuple[tuple[str, float], ...]
    whys: dict[str, int]


class OpenQuestions:
    """Finds the questions that wait for an editor.

    Args:
        engine: the database.
        project: the project folder, for what is an example already.
        encode: returns sentence vectors; the assistant's own encoder by default.
    """

    def __init__(
        self, engine: Engine, project: Path, encode: Callable[[list[str]], Vectors] | None = None
    ) -> None:
        self._engine = engine
        self._project = project
        self._encode = encode or (lambda texts: encoder_of(project)(texts))
        self._vectors: LRUCache[str, Vectors] = LRUCache(4 * _MOST_TEXTS)
        self._common: Vectors | None = None

    def groups(self) -> list[Group]:
        """Return the groups, the most asked first. Takes up to seconds: call it in a thread.

        Raises:
            StorageError: the database cannot be read.
        """
        with connected(self._engine) as connection:
            asked = _asked(connection)
            settled = set(connection.execute(sa.select(settled_questions.c.digest)).scalars())
        examples = [text for texts in read_examples(self._project).values() for text in texts]
        known = {_plain(text) for text in examples}
        waiting = [
            item for item in asked
            if _plain(item.text) not in known and _digest(item.text) not in settled
        ]  # fmt: skip
        if waiting and self._common is None:
            self._common = self._encode(examples[::_SAMPLE_EVERY]).mean(axis=0)
        return self._grouped(waiting)

    def settle(self, texts: Iterable[str], account: str, outcome: str) -> None:
        """Note that phrasings have been seen to, so that they are not shown again.

        Args:
            texts: the phrasings.
            account: who has seen to them.
            outcome: the topic they were added to, or `DISMISSED`.

        Raises:
            StorageError: nothing is noted.
        """
        now = time.time()
        digests = {_digest(text) for text in texts}
        rows = [
            {"digest": digest, "at": now, "account": account, "outcome": outcome}
            for digest in sorted(digests)
        ]
        with transaction(self._engine) as connection:
            connection.execute(
                sa.delete(settled_questions).where(
                    settled_questions.c.digest.in_(digests)
                    | (settled_questions.c.at < now - _KEPT_DAYS * 86400)
                )
            )
            if rows:
                connection.execute(sa.insert(settled_questions), rows)

    def _grouped(self, asked: Sequence[Asked]) -> list[Group]:
        by_text: dict[str, list[Asked]] = defaultdict(list)
        for item in sorted(asked, key=lambda item: -item.at):
            if _plain(item.text) in by_text or len(by_text) < _MOST_TEXTS:
                by_text[_plain(item.text)].append(item)
        texts = list(by_text)
        if not texts:
            return []
        vectors = self._vectors_of(texts)
        groups = []
        for members in clusters(vectors):
            centre = vectors[members].mean(axis=0)
            ordered = sorted(members, key=lambda number: -float(vectors[number] @ centre))
            groups.append(_group([by_text[texts[number]] for number in ordered]))
        return sorted(groups, key=lambda group: (-group.count, -group.newest))

    def _vectors_of(self, texts: list[str]) -> Vectors:
        fresh = [text for text in texts if text not in self._vectors]
        found = dict(zip(fresh, self._encode(fresh), strict=True)) if fresh else {}
        self._vectors.update(found)
        vectors = np.stack([found[t] if t in found else self._vectors[t] for t in texts])
        # Nearly all are about pain and needles; without that, what tells them apart counts for more.
        vectors = vectors - self._common
        return np.asarray(
            vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        )


def clusters(vectors: Vectors, like: float = _LIKE) -> list[list[int]]:
    """Return which vectors belong together: the indices of each group.

    Args:
        vectors: shape (texts, dimensions), each of length 1.
        like: the mean cosine between two groups from which they are one.
    """
    if len(vectors) == 1:
        return [[0]]
    numbers = fcluster(linkage(vectors, "average", metric="cosine"), 1 - like, "distance")
    found: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(numbers):
        found[int(number)].append(index)
    return list(found.values())


def encoder_of(project: Path) -> Callable[[list[str]], Vectors]:
    """Return the sentence encoder that `config.yml` names; a running assistant has it loaded."""
    config = YAML(typ="safe", pure=False).load((project / "config.yml").read_text(encoding="utf-8"))
    for step in config["pipeline"]:
        if step.get("encoder"):
            return shared_encoder(
                step["encoder"],
                step.get("encoder_sha256") or "",
                int(step.get("encoder_threads", 1)),
            ).encode
    raise LookupError("config.yml names no encoder for TopicClassifier.")


def _asked(connection: Connection) -> list[Asked]:
    """Return what was asked in the newest stored conversations and not answered well."""
    newest = (
        sa.select(events.c.id, events.c.sender_id, events.c.type_name, events.c.timestamp, events.c.data)
        .where(events.c.type_name.in_(["user", "bot"]))
        .order_by(events.c.id.desc())
        .limit(_MOST_EVENTS)
    )  # fmt: skip
    thumbs = {
        (row.conversation_id, row.message_id): row.reason
        for row in connection.execute(sa.select(feedback).where(~feedback.c.helpful))
    }
    turns: dict[str, list[tuple[Any, list[dict[str, Any]]]]] = defaultdict(list)
    for row in reversed(connection.execute(newest).all()):
        if is_private(row.sender_id):  # never stored; should it be, it is not shown
            continue
        if row.type_name == "user":
            turns[row.sender_id].append((row, []))
        elif turns[row.sender_id]:
            turns[row.sender_id][-1][1].append(row)
    found = []
    for conversation, rows in turns.items():
        for row, answers in rows:
            try:
                item = _judged(row, answers, conversation, thumbs)
            except (ValueError, TypeError, KeyError, AttributeError):
                logger.error("Row %s of the table of events is damaged; it is left out.", row.id)
                continue
            if item is not None:
                found.append(item)
    return found


def _judged(
    row: Any, answers: list[Any], conversation: str, thumbs: dict[tuple[str, str], str]
) -> Asked | None:
    """Return a message if an editor should see it; None if it was answered well."""
    said = json.loads(row.data)
    text = clean(str(said.get("text") or ""))
    if not text or text.startswith("/") or _FORM_ANSWER.search(text):
        return None
    metadata = [_metadata(json.loads(answer.data)) for answer in answers]
    ranking = ranked_topics(said.get("parse_data") or {})
    topics = [str(item["topic"]) for item in metadata if item.get("topic")]
    real = [topic for topic in topics if area_of(topic) != OUT_OF_SCOPE]
    turned_away = any("step" in item for item in metadata) or (bool(topics) and not real)
    why = thumbs.get((conversation, str(said.get("message_id"))))
    if why is not None:
        reason = UNHELPFUL
    elif turned_away:
        reason = TURNED_AWAY
    elif (
        ranking
        and ranking[0].confidence < UNSURE_BELOW
        and any("/" in topic and area_of(topic) != SAFETY_AREA for topic in real)
    ):
        reason = UNSURE
    else:
        return None
    return Asked(
        text=redact(text),
        at=float(row.timestamp or 0.0),
        reason=reason,
        topics=tuple((score.topic, float(score.confidence)) for score in ranking),
        answered="" if turned_away or not real else real[0],
        why=why or "",
    )


def _metadata(event: dict[str, Any]) -> dict[str, Any]:
    """Return what an answer says of itself, from a stored event of the assistant's."""
    inner = (event.get("metadata") or {}).get("metadata")
    return inner if isinstance(inner, dict) else {}


def _group(phrasings: list[list[Asked]]) -> Group:
    """Make a group of phrasings, each with all that was asked in these words, the most typical first."""
    everything = [item for items in phrasings for item in items]
    sums: Counter[str] = Counter()
    for item in everything:
        for topic, confidence in item.topics:
            if area_of(topic) not in (OUT_OF_SCOPE, SAFETY_AREA, "follow_up", "nlu_fallback"):
                sums[topic] += confidence  # type: ignore[assignment]
    digests = sorted(_digest(items[0].text) for items in phrasings)
    return Group(
        name=hashlib.sha256("".join(digests).encode()).hexdigest()[:16],
        phrasings=tuple((items[0].text, len(items)) for items in phrasings),
        count=len(everything),
        newest=max(item.at for item in everything),
        reasons=dict(Counter(item.reason for item in everything)),
        nearest=tuple((t, s / len(everything)) for t, s in sums.most_common(_NEAREST)),
        whys=dict(Counter(item.why for item in everything if item.why)),
    )


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def _digest(text: str) -> str:
    return hashlib.sha256(_plain(text).encode()).hexdigest()
