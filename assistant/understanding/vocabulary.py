"""The words of English that are right as they are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

VOCABULARY_FILE = Path(__file__).parent / "wordpiece_vocabulary.txt"
"""The sentence encoder's word pieces, one a line."""


@lru_cache(maxsize=1)
def common_words() -> frozenset[str]:
    """Return the common English words that the sentence encoder knows whole (some 20,000)."""
    words = VOCABULARY_FILE.read_text(encoding="utf-8").split()
    return frozenset(word for word in words if word.isalpha() and word.isascii())
