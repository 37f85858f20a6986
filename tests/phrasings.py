"""The written phrasings for red flags, and what typing does to them."""

from __future__ import annotations

import csv
import random
import string
from collections.abc import Callable
from pathlib import Path

DATA = Path(__file__).parent / "data"

RED_FLAGS = ("red_flags.tsv", *(f"red_flags_unseen_{number}.tsv" for number in (1, 2, 3, 4)))
NEAR_MISSES = ("near_misses.tsv", *(f"near_misses_unseen_{number}.tsv" for number in (1, 2, 3, 4)))


def rows(*names: str) -> list[dict[str, str]]:
    """Return the rows of files in tests/data, by their heads; no file is empty."""
    found = []
    for name in names:
        with (DATA / name).open(encoding="utf-8") as file:
            part = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        assert part, name
        found += part
    return found


def with_typing_error(text: str, chance: random.Random) -> str:
    """Insert, leave out, swap or replace one letter of one word, never its first."""
    words = text.split()
    long = [index for index, word in enumerate(words) if len(word) > 2 and word.isalpha()]
    if not long:
        return text
    index = chance.choice(long)
    word = words[index]
    place = chance.randrange(1, len(word))
    letter = chance.choice(string.ascii_lowercase)
    swapped = max(1, place - 1)
    words[index] = chance.choice(
        [
            word[:place] + letter + word[place:],
            word[:place] + word[place + 1 :],
            word[:place] + letter + word[place + 1 :],
            word[:swapped] + word[swapped + 1 : swapped + 2] + word[swapped] + word[swapped + 2 :],
        ]
    )
    return " ".join(words)


def with_other_capitals(text: str, chance: random.Random) -> str:
    """Write all or the first letters of words in capitals."""
    return chance.choice([text.upper(), text.title(), text.capitalize(), text.swapcase()])


def with_other_punctuation(text: str, chance: random.Random) -> str:
    """Add marks at the end, or leave all marks out between words."""
    bare = "".join(c for c in text if c not in ".,!?;:")
    return chance.choice([f"{text}!!", f"{text}...", f"{text} ???", bare, f"{bare} !"])


def with_emoji(text: str, chance: random.Random) -> str:
    """Put emoji before, behind or between the words."""
    emoji = chance.choice(["😭", "😩😩", "🙏", "🚨", "💀", ":("])
    words = text.split()
    place = chance.choice([0, len(words)])
    return " ".join([*words[:place], emoji, *words[place:]])


def with_words_before(text: str, chance: random.Random) -> str:
    """Begin with other talk."""
    return (
        chance.choice(
            [
                "hi, ",
                "hello there. ",
                "ok so ",
                "sorry to bother you but ",
                "good morning, i found you online. ",
                "thanks for the info, one more thing, ",
                "hola buenas, ",
            ]
        )
        + text
    )


def with_words_behind(text: str, chance: random.Random) -> str:
    """End with other talk."""
    return text + chance.choice(
        [
            " please help",
            " what should i do",
            ". thanks",
            ". do you have time on friday?",
            " and how much is a visit",
            ". my name is pat by the way",
            " gracias",
        ]
    )


MUTATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "typing error": with_typing_error,
    "capitals": with_other_capitals,
    "punctuation": with_other_punctuation,
    "emoji": with_emoji,
    "words before": with_words_before,
    "words behind": with_words_behind,
}
