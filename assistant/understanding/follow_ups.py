"""What a short message means after an answer: "how often?", "is there a stretch for that?", "more".

Three things are weighed: the message by itself, the message behind the question that was answered
last, and the table of `data/follow_ups.yml`, which an editor can read and extend. The weights were
measured on two-turn exchanges, see docs/understanding.md.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from rasa.shared.core.events import BotUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.exceptions import InvalidConfigException
from ruamel.yaml import YAML

from assistant.content.catalogue import Catalogue
from assistant.understanding.results import area_of
from assistant.understanding.topic_model import OUT_OF_SCOPE, TopicScore

FOLLOW_UP = "follow_up"
"""Intent of messages that only make sense after an answer."""

_MOST_WORDS = 7  # a longer message says itself what it is about

_MORE = "follow_up/more"
_ANYWHERE = "*"
# Words with which a message leans on what was said before it.
_LEANING = re.compile(
    r"^(?:and|but|or|so|then|also|what about|how about|what if|for how|since|until)\b"
    r"|\b(?:it|its|that|this|they|them|those|these|one|ones|there|then|else|instead|too)\b"
)
_BARE_QUESTION = re.compile(r"^(?:how|why|when|where|what|which|who)\b(?:\W+\w+){0,2}\W*$")
_SURE = 0.58  # confidence in a message by itself ...
_RIVAL = 0.8  # ... and at most this share of it in the next topic: it says itself what it means
# The same for a message that seems to lean on the answer before: "what is sciatica", "is there a ..."
_CERTAIN = 0.95
_CERTAIN_RIVAL = 0.1
_BEHIND_WEIGHT = 0.6  # of the message behind the last question, beside the message by itself
# Behind a question of ours whatever is said sounds as if it were of our field. So it counts fully for
# a message that leans on that question, and little for "my knee hurts".
_BEHIND_SHARE_LEANING = 0.5
_BEHIND_SHARE = 0.15
_RELATED_BONUS = 2.0  # for the follow-up topics of the last answer
_SAME_AREA_BONUS = 1.0
_TABLE_BONUS = 4.0  # for what the table says, at full confidence in the kind
_FLOOR = 1e-4


class FollowUps:
    """Knows which topic a follow-up asks for.

    Args:
        table: kind of follow-up, then last topic or area or `*`, then topic.
        catalogue: the content, for each answer's own follow-up topics and question.
    """

    def __init__(self, table: dict[str, dict[str, str]], catalogue: Catalogue) -> None:
        self._table = table
        self._catalogue = catalogue

    def question_of(self, topic: str) -> str:
        """Return the question that a topic answers, in plain words; "" if it has none."""
        answer = self._catalogue.answers.get(topic)
        return answer.question if answer else ""

    def first_message(self, scores: list[TopicScore]) -> list[TopicScore]:
        """Return the scores of a message that follows nothing, without kinds of follow-ups."""
        best = scores[0]
        topic = self.resolve(best.topic, []) if area_of(best.topic) == FOLLOW_UP else None
        if topic is None:
            return scores
        others = [s for s in scores if area_of(s.topic) != FOLLOW_UP and s.topic != topic]
        return [TopicScore(topic, best.confidence), *others]

    def stands_alone(self, text: str, scores: list[TopicScore]) -> bool:
        """Whether a message says itself what it is about, so that no answer before it matters.

        Args:
            text: the corrected text.
            scores: all topics' scores for it by itself, the surest first.
        """
        if len(text.split()) > _MOST_WORDS:
            return True
        best, rival = scores[:2]
        sure, most = (_CERTAIN, _CERTAIN_RIVAL) if _leans(text) else (_SURE, _RIVAL)
        return (
            area_of(best.topic) != FOLLOW_UP
            and best.confidence >= sure
            and rival.confidence <= most * best.confidence
        )

    def in_context(
        self,
        text: str,
        alone: list[TopicScore],
        behind: list[TopicScore],
        answered: list[str],
    ) -> list[TopicScore]:
        """Return the scores of a short message after an answer.

        Args:
            text: the corrected text.
            alone: all topics' scores for the message by itself.
            behind: all topics' scores for the last question with the message behind it.
            answered: the topics answered so far, the last one first; not empty.
        """
        behind_by_topic = {score.topic: score.confidence for score in behind}
        bonus = self._bonus(alone, answered)
        ranks: dict[str, float] = {}
        for topic, confidence in alone:
            if area_of(topic) in (OUT_OF_SCOPE, FOLLOW_UP):
                continue
            rank = math.log(confidence + _FLOOR) + bonus.get(topic, 0.0)
            # "I want to book" or "thanks" follows nothing: the question before it tells no more.
            supported = behind_by_topic.get(topic, 0.0) if "/" in topic else confidence
            rank += _BEHIND_WEIGHT * math.log(supported + _FLOOR)
            if area_of(topic) == area_of(answered[0]):
                rank += _SAME_AREA_BONUS
            ranks[topic] = rank
        share = _BEHIND_SHARE_LEANING if _leans(text) else _BEHIND_SHARE
        ours = (1 - share) * _share_of_ours(alone) + share * _share_of_ours(behind)
        best = max(ranks.values())
        inside = [TopicScore(topic, ours * math.exp(rank - best)) for topic, rank in ranks.items()]
        outside = [score for score in alone if area_of(score.topic) == OUT_OF_SCOPE]
        most = max((score.confidence for score in outside), default=1.0) or 1.0
        outside = [TopicScore(t, (1 - ours) * confidence / most) for t, confidence in outside]
        return sorted(inside + outside, key=lambda score: -score.confidence)

    def resolve(self, kind: str, answered: list[str]) -> str | None:
        """Return the topic that the table gives for a kind of follow-up.

        Args:
            kind: the follow-up, as `follow_up/why`.
            answered: the topics answered so far, the last one first; may be empty.

        Returns:
            The topic, or None when there is nothing that it could follow.
        """
        last = answered[0] if answered else ""
        if kind == _MORE:
            return self._more(answered)
        row = self._table.get(kind.partition("/")[2], {})
        return row.get(last) or row.get(area_of(last)) or row.get(_ANYWHERE)

    def _bonus(self, alone: list[TopicScore], answered: list[str]) -> dict[str, float]:
        answer = self._catalogue.answers.get(answered[0])
        bonus = dict.fromkeys(answer.follow_ups, _RELATED_BONUS) if answer else {}
        table: dict[str, float] = {}
        for kind, confidence in alone:
            topic = self.resolve(kind, answered) if area_of(kind) == FOLLOW_UP else None
            if topic is not None:
                table[topic] = max(table.get(topic, 0.0), confidence)
        for topic, confidence in table.items():
            bonus[topic] = bonus.get(topic, 0.0) + _TABLE_BONUS * confidence
        return bonus

    def _more(self, answered: list[str]) -> str | None:
        """Return the first related topic that was not answered yet."""
        if not answered or answered[0] not in self._catalogue.answers:
            return None
        related = self._catalogue.answers[answered[0]].follow_ups
        fresh = [topic for topic in related if topic not in answered]
        # The way to the office is always offered; "more" means more on the matter.
        return next((topic for topic in fresh if area_of(topic) not in ("office", "bot")), None)


def answered_topics(tracker: DialogueStateTracker | None) -> list[str]:
    """Return the topics of the answers given in this session, the last one first, each once."""
    topics: list[str] = []
    for event in reversed(tracker.applied_events() if tracker else []):
        if isinstance(event, BotUttered):
            topic = (event.metadata.get("metadata") or {}).get("topic", "")
            if "/" in topic and topic not in topics:
                topics.append(topic)
    return topics


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Read the table of follow-ups: kind, then last topic or area or `*`, then topic.

    Raises:
        InvalidConfigException: the file is missing or has another form.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return {
            str(kind): {str(last): str(topic) for last, topic in row.items()}
            for kind, row in document["follow_ups"].items()
        }
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise InvalidConfigException(
            f"{path} is not a table of follow-ups ({error}). It needs 'follow_ups:' and below it, "
            f"for each kind, lines 'topic or area: topic'."
        ) from error


def _leans(text: str) -> bool:
    """Whether a message goes on from what was said before: "and ice?", "is that safe", "how fast"."""
    return bool(_LEANING.search(text) or _BARE_QUESTION.match(text))


def _share_of_ours(scores: list[TopicScore]) -> float:
    return max((s.confidence for s in scores if area_of(s.topic) != OUT_OF_SCOPE), default=0.0)
