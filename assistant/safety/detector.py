"""The red-flag detector: what `data/safety/red_flags.yml` describes, found in a visitor's words.

It needs no model, no database and no network, so that it still works when any of these fails. A
rule's lines combine groups of words; what a text denies, tells of the past, asks in general or only
supposes is no red flag. docs/safety.md tells clinicians what it looks for and what it cannot do.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Any

from cachetools import LRUCache, cachedmethod
from rapidfuzz.distance import OSA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from assistant.understanding.vocabulary import common_words

logger = logging.getLogger(__name__)

LEVELS = ("soon", "today", "emergency_room", "crisis", "emergency_911")
"""From the mildest to the most urgent; the most urgent one that is found wins."""

SAFETY_AREA = "safety"
"""The area of topics that are advice on red flags."""

CLARIFY = f"{SAFETY_AREA}/clarify"
"""The topic of the question back when a text is unclear."""

_FILE = "data/safety/red_flags.yml"
_WITHIN = 14  # words from the first to the last of a rule's line, unless the line says otherwise
_GROUP_WITHIN = 6  # the same for a combination inside a group
_MOST_PLACES = 16  # places of one group that are looked at; a longer text repeats itself
_DENIAL_REACHES = 10  # words
_SUPPOSITION_REACHES = 7  # words from "if" to the first word of what is supposed
_UNLESS_WITHIN = 8  # words between a match and what excuses it
_TYPO_FROM = 4  # letters from which one typing error is forgiven; the file names shorter words
_BEGINNING_TYPO_FROM = 5  # letters of a beginning from which the rest of the word may be any
_TWO_TYPOS_FROM = 9  # letters from which two are
_MOST_REMEMBERED = 20_000  # misspelt words
_KEPT = 64  # texts, with what was found in them

_APOSTROPHES = re.compile(r"[’‘`´']")  # noqa: RUF001
_TOKEN = re.compile(r"#?\w+|[.?!;\n]+|,", re.UNICODE)
_SENTENCE_END = re.compile(r"[.?!;\n]")
_LINE_WITHIN = re.compile(r"\s*\((\d+)\)$")

Place = tuple[int, int]
"""First token, and token after the last."""


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
        return f"{SAFETY_AREA}/{self.rule}"


@dataclass(frozen=True)
class _Line:
    """Groups that must stand together, in any order (`+`) or in this one (`>`)."""

    groups: tuple[str, ...]
    within: int
    ordered: bool

    @cached_property
    def needed(self) -> frozenset[str]:
        """The groups, without their order."""
        return frozenset(self.groups)


@dataclass(frozen=True)
class _Group:
    terms: tuple[tuple[str, ...], ...]
    lines: tuple[_Line, ...]


@dataclass(frozen=True)
class _Rule:
    name: str
    lines: tuple[tuple[str, _Line], ...]
    """Level and line, the most urgent first."""
    unless: str
    past_counts: bool
    fine_now_counts: bool
    questions_count: bool
    suppositions_count: bool


class _Vocabulary:
    """The words of all rules: finds them in a text, also when they are misspelt."""

    def __init__(self, correct: frozenset[str], short: frozenset[str]) -> None:
        self._correct = correct
        self._short = short
        self._exact: dict[str, set[tuple[str, ...]]] = {}
        self._beginnings: dict[str, set[tuple[str, ...]]] = {}
        self._own: set[str] = set()
        # A cache of these words alone; two threads may ask at once.
        self._meant = lru_cache(maxsize=_MOST_REMEMBERED)(self._terms_meant)

    def add(self, text: str) -> tuple[str, ...]:
        """Take a word or phrase in and return its words."""
        term = tuple(_plain(text).split())
        home = self._beginnings if term[0].endswith("*") else self._exact
        home.setdefault(term[0].rstrip("*"), set()).add(term)
        self._own |= {word.rstrip("*") for word in term}
        return term

    def places(self, tokens: list[str]) -> dict[tuple[str, ...], list[Place]]:
        """Return where each word or phrase stands that stands in the text at all."""
        found: dict[tuple[str, ...], list[Place]] = {}
        for start, token in enumerate(tokens):
            for term in self._starting_with(token):
                end = start + len(term)
                if end <= len(tokens) and all(
                    self._same(*pair)
                    for pair in zip(tokens[start + 1 : end], term[1:], strict=True)
                ):
                    found.setdefault(term, []).append((start, end))
        return found

    def _starting_with(self, token: str) -> set[tuple[str, ...]]:
        found = set(self._exact.get(token, ()))
        for length in range(1, len(token) + 1):
            found |= self._beginnings.get(token[:length], set())
        return found if len(token) < 2 or self._is_word(token) else found | self._meant(token)

    def _terms_meant(self, token: str) -> set[tuple[str, ...]]:
        """Return the terms of whose first word a token may be a typing error."""
        return {
            term
            for first, terms in (*self._exact.items(), *self._beginnings.items())
            if first[0] == token[0]
            for term in terms
            if self._near(token, term[0], in_phrase=len(term) > 1)
        }

    def _same(self, token: str, word: str) -> bool:
        """Whether a token is a word of a phrase, behind its first."""
        if token == word or (word.endswith("*") and token.startswith(word[:-1])):
            return True
        return not self._is_word(token) and self._near(token, word, in_phrase=True)

    def _is_word(self, token: str) -> bool:
        """Whether a token is right as it is: a known word, or no word at all."""
        return not token.isalpha() or token in self._correct or token in self._own

    def _near(self, token: str, word: str, in_phrase: bool) -> bool:
        """Whether a token may be a typing error of a word, its first letter being right."""
        meant = word.rstrip("*")
        if token[0] != meant[0] or len(meant) < 3 or len(token) < len(meant) - 1:
            return False
        if len(meant) < _TYPO_FROM and not in_phrase and meant not in self._short:
            return False
        most = 2 if len(meant) >= _TWO_TYPOS_FROM else 1
        if meant == word or len(meant) < _BEGINNING_TYPO_FROM:
            return int(OSA.distance(token, meant, score_cutoff=most)) <= most
        lengths = range(len(meant) - 1, len(meant) + 2)
        return any(OSA.distance(token[:n], meant, score_cutoff=most) <= most for n in lengths)


class _Text:
    """A visitor's words, and where each group of words stands in them."""

    def __init__(
        self,
        text: str,
        vocabulary: _Vocabulary,
        groups: dict[str, _Group],
        groups_of: dict[tuple[str, ...], list[str]],
        combinations: list[tuple[str, frozenset[str]]],
    ) -> None:
        self.tokens: list[str] = _TOKEN.findall(_plain(text))
        self.sentence_of: list[int] = []
        number = 0
        for token in self.tokens:
            self.sentence_of.append(number)
            number += bool(_SENTENCE_END.match(token))
        self._groups = groups
        self._terms: dict[str, set[Place]] = {}
        for term, places in vocabulary.places(self.tokens).items():
            for name in groups_of[term]:
                self._terms.setdefault(name, set()).update(places)
        # Most of the hundreds of lines are ruled out by a group of which no word is there.
        self._conceivable = set(self._terms)
        for name, needed in combinations:
            if needed <= self._conceivable:
                self._conceivable.add(name)
        self._found: dict[str, list[Place]] = {}
        self.harmless: set[int] = set()
        self.harmless = self.covered("harmless")
        self._found.clear()

    def places(self, name: str) -> list[Place]:
        """Return where a group of words stands, without what a figure of speech covers."""
        if name not in self._found:
            found = set(self._terms.get(name, ()))
            for line in self._groups[name].lines:
                found |= {(min(p[0] for p in m), max(p[1] for p in m)) for m in self.matches(line)}
            self._found[name] = sorted(p for p in found if self.harmless.isdisjoint(range(*p)))
        return self._found[name]

    def covered(self, name: str) -> set[int]:
        """Return the positions of a group's words."""
        return {position for place in self.places(name) for position in range(*place)}

    def sentences_with(self, name: str) -> set[int]:
        """Return the numbers of the sentences in which a group of words stands."""
        return {self.sentence_of[start] for start, _ in self.places(name)}

    def matches(self, line: _Line) -> Iterable[tuple[Place, ...]]:
        """Return where the groups of a line stand together: in one sentence or two neighbours."""
        if not line.needed <= self._conceivable:
            return ()
        choices = [self.places(name)[:_MOST_PLACES] for name in line.groups]
        return self._chosen(line, choices, ())

    def _chosen(
        self, line: _Line, choices: list[list[Place]], chosen: tuple[Place, ...]
    ) -> Iterator[tuple[Place, ...]]:
        if len(chosen) == len(choices):
            yield chosen
            return
        for place in choices[len(chosen)]:
            if chosen:
                start = min(place[0], *(p[0] for p in chosen))
                end = max(place[1], *(p[1] for p in chosen))
                if (
                    end - start > line.within
                    or self.sentence_of[end - 1] - self.sentence_of[start] > 1
                    or (line.ordered and place[0] < chosen[-1][1])
                    or any(place[0] < p[1] and p[0] < place[1] for p in chosen)
                ):
                    continue
            yield from self._chosen(line, choices, (*chosen, place))


class RedFlagDetector:
    """Finds red flags in a text.

    Args:
        document: the content of `red_flags.yml`.
        correct_words: only other words may be typing errors of a rule's words.

    Raises:
        SafetyRulesError: a rule names an unknown group or level.
    """

    def __init__(
        self, document: dict[str, Any], correct_words: frozenset[str] = frozenset()
    ) -> None:
        short = frozenset(_split(document["short_words"]))
        correct = correct_words - {*_split(document["rare_words"])}
        correct |= {*_split(document["right_words"])}
        self._vocabulary = _Vocabulary(correct, short)
        self._named = {**document["how_it_is_said"], **document["words"]}
        self._groups: dict[str, _Group] = {}
        for name in self._named:
            self._group(name, "words")
        self._rules = tuple(
            self._rule(str(name), entry) for name, entry in document["red_flags"].items()
        )
        self._unclear = self._rule("unclear", document["unclear"])
        self._found: LRUCache[str, RedFlag | None] = LRUCache(_KEPT)
        self._texts: LRUCache[str, _Text] = LRUCache(_KEPT)
        self._lock = Lock()  # messages are understood in another thread than they are answered
        self._groups_of: dict[tuple[str, ...], list[str]] = {}
        for name, group in self._groups.items():
            for term in group.terms:
                self._groups_of.setdefault(term, []).append(name)
        # Which groups make up another one; those that a combination names stand before it.
        self._combinations = [
            (name, line.needed) for name, group in self._groups.items() for line in group.lines
        ]

    @property
    def rules(self) -> list[str]:
        """The names of all rules."""
        return [rule.name for rule in self._rules]

    def mildest_level(self, rule: str) -> str:
        """Return the least urgent level of a rule.

        Raises:
            KeyError: there is no such rule.
        """
        return {known.name: known.lines[-1][0] for known in self._rules}[rule]

    # One turn asks three times for the same text, and for the one before it.
    @cachedmethod(attrgetter("_found"), lock=attrgetter("_lock"))
    def scan(self, text: str) -> RedFlag | None:
        """Return the most urgent red flag of a text, or None.

        Args:
            text: a visitor's words, as typed and of any length.
        """
        words = self._read(text)
        if not words.tokens:
            return None
        past, over = self._past_in(words)
        general = self._general_questions_in(words)
        best: RedFlag | None = None
        for rule in self._rules:
            if rule.past_counts:
                elsewhere = past & over
            else:
                elsewhere = past if rule.fine_now_counts else past | over
            if not rule.questions_count:
                elsewhere = elsewhere | general
            for level, line in rule.lines:
                if best and LEVELS.index(level) <= LEVELS.index(best.level):
                    break
                if any(self._is_meant(words, rule, m, elsewhere) for m in words.matches(line)):
                    best = RedFlag(rule.name, level)
                    break
        return best

    def plays_down(self, text: str) -> bool:
        """Whether a text denies, supposes, asks in general, or is a figure of speech, past or well."""
        words = self._read(text)
        past, over = self._past_in(words)
        return bool(
            past
            or over
            or self._general_questions_in(words)
            or words.covered("supposition")
            or words.covered("all_well")
            or words.harmless
            or words.covered("denial") - words.covered("no_denial")
        )

    def is_unclear(self, text: str) -> bool:
        """Whether only a question back can tell if a text holds a red flag ("numb when I sit")."""
        words = self._read(text)
        past, over = self._past_in(words)
        elsewhere = past | over | self._general_questions_in(words)
        return any(
            self._is_meant(words, self._unclear, match, elsewhere)
            for _, line in self._unclear.lines
            for match in words.matches(line)
        )

    @cachedmethod(attrgetter("_texts"), lock=attrgetter("_lock"))
    def _read(self, text: str) -> _Text:
        return _Text(text, self._vocabulary, self._groups, self._groups_of, self._combinations)

    def _is_meant(
        self, words: _Text, rule: _Rule, match: tuple[Place, ...], elsewhere: set[int]
    ) -> bool:
        """Whether a match is said of somebody's present state, and not denied or supposed."""
        if any(words.sentence_of[start] in elsewhere for start, _ in match):
            return False
        first, last = min(p[0] for p in match), max(p[1] for p in match)
        if any(
            start - last < _UNLESS_WITHIN
            and first - end < _UNLESS_WITHIN
            and words.sentence_of[start] in {words.sentence_of[s] for s, _ in match}
            for start, end in words.places(rule.unless)
        ):
            return False
        if not rule.suppositions_count and self._is_supposed(words, first):
            return False
        return not self._is_denied(words, match)

    def _is_supposed(self, words: _Text, first: int) -> bool:
        """Whether an "if" or "what if" before a match makes it a mere possibility."""
        number = words.sentence_of[first]
        if number in words.sentences_with("present"):
            return False
        breaks = words.covered("ends_denial") - words.covered("person")
        return any(
            end <= first + 1
            and first - end <= _SUPPOSITION_REACHES
            and words.sentence_of[start] == number
            and breaks.isdisjoint(range(end, first))
            and "," not in words.tokens[end:first]
            for start, end in words.places("supposition")
        )

    def _is_denied(self, words: _Text, match: tuple[Place, ...]) -> bool:
        """Whether a denial reaches one of the words of a match."""
        denials = words.covered("denial") - words.covered("no_denial")
        ends = words.covered("ends_denial")
        soft_ends = words.covered("ends_denial_before_no_or")
        own = {position for place in match for position in range(*place)}
        return any(
            self._is_denied_before(words, start, own, denials, ends, soft_ends)
            or self._is_denied_after(words, end)
            for start, end in match
        )

    def _is_denied_before(
        self,
        words: _Text,
        start: int,
        own: set[int],
        denials: set[int],
        ends: set[int],
        soft_ends: set[int],
    ) -> bool:
        """Whether "no", "without" ... stands before a place, with nothing that ends its reach.

        Behind a comma it reaches on in a list ("no fever, chills"), but not a part that tells a
        time of its own ("no fever, chest pain since noon").
        """
        crossed_comma = False
        alternatives = words.covered("or")
        after_or = False
        for position in range(start - 1, max(-1, start - 1 - _DENIAL_REACHES), -1):
            word = words.tokens[position]
            if position in own:
                continue
            if position in denials:
                return not (crossed_comma and self._part_is_present(words, start))
            if position in ends or (position in soft_ends and not after_or):
                return False
            if _SENTENCE_END.match(word):
                return False
            after_or = after_or or position in alternatives
            crossed_comma = crossed_comma or word == ","
        return False

    @staticmethod
    def _part_is_present(words: _Text, start: int) -> bool:
        """Whether the part of a sentence from a place to the next comma tells a present time."""
        end = start
        while end < len(words.tokens) and not re.match(r"[,.?!;\n]", words.tokens[end]):
            end += 1
        return not words.covered("present").isdisjoint(range(start, end))

    @staticmethod
    def _is_denied_after(words: _Text, end: int) -> bool:
        """Whether a denial follows: "numbness? none", "fever: no"."""
        rest = words.tokens[end : end + 3]
        asked = bool(rest) and "?" in rest[0]
        if asked:
            rest = rest[1:]
        position = end + asked
        if position in words.covered("denial_after"):
            return True
        alone = len(rest) < 2 or not rest[1][0].isalnum()
        return bool(rest) and rest[0] in ("no", "not") and alone

    def _past_in(self, words: _Text) -> tuple[set[int], set[int]]:
        """Return the sentences that tell of the past, and those of which all is well again."""
        said_over = words.covered("over")
        present = {
            words.sentence_of[start]
            for start, _ in words.places("present")
            if start not in said_over
        }
        over = words.sentences_with("over")
        over |= {number - 1 for number in over}
        return words.sentences_with("past") - present, over - present

    def _general_questions_in(self, words: _Text) -> set[int]:
        """Return the sentences that ask about the matter in general, of nobody in particular.

        A question is not general when the next sentence tells of the present ("Is it normal that
        the leg gives way? It started today.").
        """
        fillers = words.covered("filler")
        firsts: dict[int, int] = {}
        for position, sentence in enumerate(words.sentence_of):
            if position not in fillers and words.tokens[position] != ",":
                firsts.setdefault(sentence, position)
        opened = {
            words.sentence_of[start]
            for start, _ in words.places("general_question")
            if start == firsts.get(words.sentence_of[start])
        }
        named = words.sentences_with("about_the_matter")
        present = words.sentences_with("present")
        followed = {number - 1 for number in present}
        retold = words.sentences_with("retold") - present
        return retold | ((opened | named) - words.sentences_with("person") - followed)

    def _rule(self, name: str, entry: dict[str, Any]) -> _Rule:
        lines = []
        for level, texts in entry["when"].items():
            if level not in LEVELS:
                raise SafetyRulesError(
                    f"{_FILE}: {name} has the level '{level}'; use one of {', '.join(LEVELS)}."
                )
            lines += [(level, self._line(str(text), name, _WITHIN)) for text in texts]
        lines.sort(key=lambda pair: LEVELS.index(pair[0]), reverse=True)
        unless = f"{name}: unless"
        terms = tuple(self._vocabulary.add(text) for text in _split(entry.get("unless", [])))
        self._groups[unless] = _Group(terms, ())
        return _Rule(
            name=name,
            lines=tuple(lines),
            unless=unless,
            past_counts=bool(entry.get("past_counts", False)),
            fine_now_counts=bool(entry.get("fine_now_counts", False)),
            questions_count=bool(entry.get("questions_count", False)),
            suppositions_count=bool(entry.get("suppositions_count", False)),
        )

    def _line(self, text: str, place: str, within: int) -> _Line:
        number = _LINE_WITHIN.search(text)
        groups = text[: number.start()] if number else text
        ordered = " > " in groups
        names = [part.strip() for part in re.split(r" [+>] ", groups)]
        for name in names:
            self._group(name, place)
        return _Line(tuple(names), int(number[1]) if number else within, ordered)

    def _group(self, name: str, place: str) -> None:
        """Read a group, or the phrase itself when it stands behind `=`."""
        if name in self._groups:
            return
        if name.startswith("="):
            self._groups[name] = _Group((self._vocabulary.add(name[1:]),), ())
            return
        if name not in self._named:
            raise SafetyRulesError(
                f"{_FILE}: {place} names the group '{name}', which is not there. Add it under "
                f"'words:', or write ={name} for the phrase itself."
            )
        self._groups[name] = _Group((), ())  # in work: a group inside itself finds nothing
        texts = [str(text) for text in self._named[name]]
        lines = [text for text in texts if re.search(r" [+>] ", text)]
        group = _Group(
            tuple(self._vocabulary.add(t) for t in _split(t for t in texts if t not in lines)),
            tuple(self._line(text, name, _GROUP_WITHIN) for text in lines),
        )
        del self._groups[name]  # so that it stands behind those that its lines name
        self._groups[name] = group


def load_detector(project: Path) -> RedFlagDetector:
    """Return the detector for a project's rules; read again only when the file changed.

    If the file breaks, or is gone for a while, the rules before it stay in use.

    Raises:
        SafetyRulesError: the file cannot be used and never could.
    """
    path = project / _FILE
    try:
        modified = path.stat().st_mtime_ns
    except OSError:
        modified = 0
    found = _load(path, modified)
    if isinstance(found, RedFlagDetector):
        _in_use[path] = found
    elif path not in _in_use:
        raise SafetyRulesError(str(found))
    return _in_use[path]


_in_use: dict[Path, RedFlagDetector] = {}


@lru_cache(maxsize=2)
def _load(path: Path, _modified: int) -> RedFlagDetector | SafetyRulesError:
    """Return what the file describes, or why it cannot: said once, not with every message."""
    try:
        document = YAML(typ="safe", pure=False).load(path.read_text(encoding="utf-8"))
        return RedFlagDetector(document, common_words())
    except SafetyRulesError as error:
        problem = error
    except (OSError, ValueError, YAMLError) as error:
        problem = SafetyRulesError(f"{path} cannot be read: {error}")
    except (KeyError, TypeError, AttributeError) as error:
        problem = SafetyRulesError(f"{path}: a part is missing or misshapen: {error}")
    if path in _in_use:
        logger.error("Keeping the red flags as they were: %s", problem)
    return problem


def _split(lines: Iterable[str]) -> list[str]:
    """Return the words and phrases of lines that part them by commas."""
    return [part.strip() for line in lines for part in str(line).split(",") if part.strip()]


def _plain(text: str) -> str:
    """Return a text in lower case, without accents and apostrophes, long repeats shortened."""
    bare = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text.lower()))
    bare = "".join(c for c in bare if not unicodedata.combining(c))
    return re.sub(r"(.)\1{2,}", r"\1\1", bare)
