"""The red-flag detector: patterns of `data/safety/red_flags.yml`, with negation, history and questions.

It needs no model, no database and no network, so that it still works when any of these fails. What
it looks for and how it is to behave was specified for clinical review; docs/safety.md tells it to
clinicians.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import OSA
from ruamel.yaml import YAML

LEVELS = ("soon", "today", "emergency_room", "crisis", "emergency_911")
"""From the mildest to the most urgent; the most urgent one that is found wins."""

URGENCY = {
    "soon": "soon",
    "today": "urgent",
    "emergency_room": "emergency",
    "crisis": "crisis",
    "emergency_911": "emergency",
}
"""What `metadata.urgency` says for a level."""

_WINDOW = 14  # words between the first and the last word of a pattern
_TYPO_FROM = 5  # letters from which one typing error is forgiven
_TWO_TYPOS_FROM = 9  # letters from which two are
_MOST_PLACES = 12  # places of one group that are looked at; a longer text repeats itself
_SCOPE = 10  # words that a negation reaches
_MOST_REMEMBERED = 20_000  # misspelt words

_APOSTROPHES = re.compile(r"[’‘`´']")  # noqa: RUF001
_TOKEN = re.compile(r"#?\w+|[.?!;\n¿¡]+|,", re.UNICODE)
_ENDS = re.compile(r"[.?!;\n]")


class SafetyRulesError(ValueError):
    """`data/safety/red_flags.yml` cannot be used; the message says where and why."""


@dataclass(frozen=True)
class RedFlag:
    """A rule that a message meets, and how urgent that is."""

    rule: str
    level: str

    @property
    def topic(self) -> str:
        """The topic of its advice."""
        return f"safety/{self.rule}"


@dataclass(frozen=True)
class _Term:
    """A word or phrase; a `*` at the end of a word stands for any ending."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class _Pattern:
    groups: tuple[tuple[_Term, ...], ...]
    level: str
    window: int
    ordered: bool


@dataclass(frozen=True)
class _Rule:
    name: str
    patterns: tuple[_Pattern, ...]
    unless: tuple[_Term, ...]
    past_counts: bool
    questions_count: bool


class _Words:
    """A text cut into words, and where each known term stands in it."""

    def __init__(self, text: str, index: _Index) -> None:
        self.tokens = [token for token in _TOKEN.findall(_plain(text)) if token not in ("¿", "¡")]
        self.sentence_of: list[int] = []
        number = 0
        for token in self.tokens:
            self.sentence_of.append(number)
            number += bool(_ENDS.match(token))
        self._places = index.places(self.tokens)

    def places(self, terms: tuple[_Term, ...]) -> list[tuple[int, int]]:
        """Return where any of the terms stands: pairs of first token and token after the last."""
        found = {place for term in terms for place in self._places.get(term, ())}
        return sorted(found)

    def has(self, terms: tuple[_Term, ...]) -> bool:
        """Whether any of the terms stands in the text."""
        return any(term in self._places for term in terms)


class _Index:
    """Finds all terms of all rules in one pass over a text's words."""

    def __init__(self, known_words: frozenset[str]) -> None:
        self._known_words = known_words
        self._exact: dict[str, list[_Term]] = {}
        self._beginnings: dict[str, list[_Term]] = {}
        self._similar: dict[str, tuple[str, ...]] = {}
        self._words: list[str] = []

    def add(self, term: _Term) -> _Term:
        """Take a term into the index and return it."""
        first = term.words[0]
        home, word = (self._beginnings, first[:-1]) if first.endswith("*") else (self._exact, first)
        known = home.setdefault(word, [])
        if term not in known:
            known.append(term)
        self._words = [w for w in {*self._exact, *self._beginnings} if len(w) >= _TYPO_FROM]
        return term

    def places(self, tokens: list[str]) -> dict[_Term, list[tuple[int, int]]]:
        """Return where each term stands that stands in the text at all."""
        found: dict[_Term, list[tuple[int, int]]] = {}
        for start, token in enumerate(tokens):
            for term in self._starting_with(token):
                end = start + len(term.words)
                rest = zip(tokens[start + 1 : end], term.words[1:], strict=False)
                if end <= len(tokens) and all(self._same(one, two) for one, two in rest):
                    found.setdefault(term, []).append((start, end))
        return found

    def _starting_with(self, token: str) -> Iterator[_Term]:
        yield from self._exact.get(token, ())
        for length in range(1, len(token) + 1):
            yield from self._beginnings.get(token[:length], ())
        for word in self._misspelt(token):
            yield from self._exact.get(word, ())
            yield from self._beginnings.get(word, ())

    def _misspelt(self, token: str) -> tuple[str, ...]:
        """Return the words that a token may be a typing error of."""
        if token in self._known_words or len(token) < _TYPO_FROM - 1:
            return ()
        if token not in self._similar:
            if len(self._similar) > _MOST_REMEMBERED:
                self._similar.clear()
            hits = process.extract(
                token, self._words, scorer=OSA.distance, score_cutoff=2, limit=None
            )
            self._similar[token] = tuple(hit[0] for hit in hits if _near(token, hit[0]))
        return self._similar[token]

    def _same(self, token: str, word: str) -> bool:
        if word.endswith("*"):
            word = word[:-1]
            if token.startswith(word):
                return True
        return token == word or (token not in self._known_words and _near(token, word))


class RedFlagDetector:
    """Finds red flags in a text.

    Args:
        document: the content of `red_flags.yml`.
        known_words: correct words; only other words may be typing errors of a pattern's words.

    Raises:
        SafetyRulesError: a rule names an unknown group or level.
    """

    def __init__(self, document: dict[str, Any], known_words: frozenset[str] = frozenset()) -> None:
        self._index = _Index(known_words)
        self._groups = {
            str(name): self._term_list(texts) for name, texts in document["words"].items()
        }
        self._negators = {_plain(word) for word in document["negations"]}
        self._neutral = self._term_list(document["not_negations"])
        self._breakers = {_plain(word) for word in document["end_of_negation"]}
        self._fillers = {_plain(word) for word in document["fillers"]} | {","}
        self._persons = {_plain(word) for word in document["persons"]}
        self._openers = self._term_list(document["general_questions"])
        self._past = self._term_list(document["past"])
        self._present = self._term_list(document["present"])
        self._rules = tuple(
            self._rule(str(name), entry) for name, entry in document["red_flags"].items()
        )

    @property
    def rules(self) -> list[str]:
        """The names of all rules."""
        return [rule.name for rule in self._rules]

    def scan(self, text: str) -> RedFlag | None:
        """Return the most urgent red flag of a text, or None.

        Args:
            text: a visitor's words, as typed and of any length.
        """
        words = _Words(text, self._index)
        past = words.has(self._past) and not words.has(self._present)
        general = self._general_questions_in(words)
        neutral = {i for start, end in words.places(self._neutral) for i in range(start, end)}
        best: RedFlag | None = None
        for rule in self._rules:
            if (past and not rule.past_counts) or words.has(rule.unless):
                continue
            for pattern in rule.patterns:
                if best and LEVELS.index(pattern.level) <= LEVELS.index(best.level):
                    continue
                ignored = set() if rule.questions_count else general
                if self._meets(words, pattern, ignored, neutral):
                    best = RedFlag(rule.name, pattern.level)
        return best

    def denies(self, text: str) -> bool:
        """Whether a text denies anything ("no fever, no numbness")."""
        words = _Words(text, self._index)
        neutral = {i for start, end in words.places(self._neutral) for i in range(start, end)}
        return any(
            word in self._negators and position not in neutral
            for position, word in enumerate(words.tokens)
        )

    def _meets(
        self, words: _Words, pattern: _Pattern, ignored: set[int], neutral: set[int]
    ) -> bool:
        """Whether the words of a pattern stand together, and none of them is denied."""
        places = []
        for group in pattern.groups:
            found = [
                place for place in words.places(group) if words.sentence_of[place[0]] not in ignored
            ]
            if not found:
                return False
            places.append(found[:_MOST_PLACES])
        for chosen in product(*places):
            start, end = min(p[0] for p in chosen), max(p[1] for p in chosen)
            if end - start > pattern.window or _overlap(chosen):
                continue
            if words.sentence_of[end - 1] - words.sentence_of[start] > 1:
                continue
            if pattern.ordered and list(chosen) != sorted(chosen):
                continue
            if not self._is_denied(words.tokens, chosen, neutral):
                return True
        return False

    def _is_denied(
        self, tokens: list[str], chosen: tuple[tuple[int, int], ...], neutral: set[int]
    ) -> bool:
        """Whether a negation before one of the words reaches it."""
        inside = {i for start, end in chosen for i in range(start, end)}
        for start, _ in chosen:
            for position in range(start - 1, max(-1, start - 1 - _SCOPE), -1):
                word = tokens[position]
                if position in inside or position in neutral:
                    continue
                if word in self._negators:
                    return True
                if word in self._breakers or _ENDS.match(word):
                    break
        return False

    def _general_questions_in(self, words: _Words) -> set[int]:
        """Return the sentences that ask about the matter in general, of nobody in particular."""
        personal = {
            sentence
            for token, sentence in zip(words.tokens, words.sentence_of, strict=True)
            if token in self._persons
        }
        firsts: dict[int, int] = {}
        for position, sentence in enumerate(words.sentence_of):
            if words.tokens[position] not in self._fillers:
                firsts.setdefault(sentence, position)
        return {
            words.sentence_of[start]
            for start, _ in words.places(self._openers)
            if start == firsts.get(words.sentence_of[start])
            and words.sentence_of[start] not in personal
        }

    def _rule(self, name: str, entry: dict[str, Any]) -> _Rule:
        return _Rule(
            name=name,
            patterns=tuple(self._pattern(name, entry["level"], item) for item in entry["when"]),
            unless=tuple(term for text in entry.get("unless", []) for term in self._terms(text)),
            past_counts=bool(entry.get("past_counts", False)),
            questions_count=bool(entry.get("questions_count", False)),
        )

    def _pattern(self, rule: str, level: str, item: Any) -> _Pattern:
        names, window, ordered = item, _WINDOW, False
        if isinstance(item, dict):
            level = item.get("level", level)
            window = int(item.get("within", _WINDOW))
            ordered = bool(item.get("in_order", False))
            names = item["all"]
        if level not in LEVELS:
            raise SafetyRulesError(
                f"data/safety/red_flags.yml: {rule} has the level '{level}'; use one of "
                f"{', '.join(LEVELS)}."
            )
        groups = tuple(self._terms(name) for name in ([names] if isinstance(names, str) else names))
        return _Pattern(groups, level, window, ordered)

    def _term_list(self, texts: Iterable[Any]) -> tuple[_Term, ...]:
        return tuple(self._index.add(_Term(tuple(_plain(str(text)).split()))) for text in texts)

    def _terms(self, text: str) -> tuple[_Term, ...]:
        """Return the terms of a group, or the phrase itself when it stands in quotes (`=...`)."""
        if text.startswith("="):
            return self._term_list([text[1:]])
        if text not in self._groups:
            raise SafetyRulesError(
                f"data/safety/red_flags.yml: there is no group of words named '{text}'. Add it under "
                f"'words:', or write ={text} for the phrase itself."
            )
        return self._groups[text]


def load_detector(project: Path) -> RedFlagDetector:
    """Return the detector for a project's rules; read again only when the file changed.

    Raises:
        SafetyRulesError: the file cannot be used.
    """
    path = project / "data" / "safety" / "red_flags.yml"
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load(path: Path, _modified: int) -> RedFlagDetector:
    from assistant.understanding.vocabulary import common_words

    document = YAML(typ="safe", pure=False).load(path.read_text(encoding="utf-8"))
    try:
        return RedFlagDetector(document, common_words())
    except (KeyError, TypeError, AttributeError) as error:
        raise SafetyRulesError(f"{path}: a part is missing or misshapen: {error}") from error


def _plain(text: str) -> str:
    """Return a text in lower case, without accents and apostrophes, long repeats shortened."""
    bare = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text.lower()))
    bare = "".join(c for c in bare if not unicodedata.combining(c))
    return re.sub(r"(.)\1{2,}", r"\1", bare)


def _near(token: str, word: str) -> bool:
    """Whether a token may be a typing error of a word."""
    if len(word) < _TYPO_FROM or abs(len(token) - len(word)) > 2:
        return False
    return _distance(token, word) <= (2 if len(word) >= _TWO_TYPOS_FROM else 1)


@lru_cache(maxsize=65_536)
def _distance(token: str, word: str) -> int:
    return int(OSA.distance(token, word, score_cutoff=2))


def _overlap(chosen: tuple[tuple[int, int], ...]) -> bool:
    ordered = sorted(chosen)
    return any(one[1] > two[0] for one, two in pairwise(ordered))
