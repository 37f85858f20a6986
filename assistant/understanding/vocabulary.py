"""The words of English: which are right as they are, and how common each is."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

VOCABULARY_FILE = Path(__file__).parent / "wordpiece_vocabulary.txt"
"""The sentence encoder's word pieces, one a line."""

_FREQUENCIES = "frequency_dictionary_en_82_765.txt"  # a word and its count a line


@lru_cache(maxsize=1)
def common_words() -> frozenset[str]:
    """Return the common English words that the sentence encoder knows whole (some 20,000)."""
    words = VOCABULARY_FILE.read_text(encoding="utf-8").split()
    return frozenset(word for word in words if word.isalpha() and word.isascii())


@lru_cache(maxsize=1)
def word_shares() -> dict[str, float]:
    """Return the share of each word in English text, the commonest of some 83,000 first.

    The list is symspellpy's, of which nothing else is used: words of the SCOWL spelling lists with
    their counts in Google Books.
    """
    text = (files("symspellpy") / _FREQUENCIES).read_text(encoding="utf-8-sig")
    counts = {word: int(count) for word, count in map(str.split, text.splitlines())}
    total = sum(counts.values())
    return {word: count / total for word, count in Counter(counts).most_common()}
