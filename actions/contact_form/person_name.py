"""A person's name in a message, and what is none: questions, commands, talk about health."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

from actions.contact_form.phrases import is_cancel, is_question, plain
from assistant.content.examples import read_examples
from assistant.settings import project_folder

LONGEST_NAME = 80  # characters
_MOST_WORDS = 7
_JOINERS = "'\u2018\u2019`-.\u00b7,"  # apostrophes of all kinds, hyphens, dots
_COMMON_FROM = 3  # examples that a word stands in: "prices" does, "Grace" and "Hope" do not

_LEAD = re.compile(
    r"^\W*(?:(?:hi|hello|hey|yes|yeah|ok|okay|sure|actually|sorry|no|well|oh)[\s,!.]+)*"
    r"(?:(?:my|the|full|first|last|her|his|their)\s+)*(?:full\s+|first\s+)?"
    r"(?P<lead>name(?:['’]?s|\s+is)?\s*[:=]?|i\s*['’]?\s*a?m(?:\s+called)?|it\s*['’]?\s*(?:i?s|would be)|"  # noqa: RUF001
    r"this\s+is|(?:you\s+can\s+|please\s+|just\s+)?call\s+me|they\s+call\s+me|put\s+(?:me\s+)?down(?:\s+as)?|"
    r"ask\s+for|under|make\s+it|for)\s+",
    re.IGNORECASE,
)
_SURE_LEAD = re.compile(
    r"^(?:name|call|you can call|please call|just call|they call)", re.IGNORECASE
)
_TAIL = re.compile(
    r"[\s,]*\b(?:here|please|thanks|thank you|is my name|is fine|would be fine|will do)[\s.!]*$",
    re.IGNORECASE,
)
_NEVER = {
    "yes", "no", "ok", "okay", "sure", "maybe", "hello", "hi", "hey", "thanks", "thank", "please", "help",
    "why", "what", "skip", "none", "nothing", "nobody", "anonymous", "idk", "whatever", "phone", "email",
    "e-mail", "appointment", "pain", "sciatica", "acupuncture", "hurts", "hurt", "numb", "insurance",
    "tomorrow", "today", "morning", "mornings", "afternoon", "afternoons", "evening", "evenings", "asap",
    "anytime", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "send", "change",
    "name", "cancel", "stop", "back", "private", "secret", "rather", "want", "dont", "don't", "cant", "can't",
    "not", "sorry", "same", "above", "cell", "mobile", "number", "text", "call", "tel", "mail", "reach", "at", "wrong", "edit", "undo", "again",
}  # fmt: skip


def read_name(text: str) -> str:
    """Return the name that a text gives; "" if it gives none."""
    words = _stripped(" ".join(unicodedata.normalize("NFC", text).split()))
    if is_cancel(words) or is_question(words):
        return ""
    lead = _LEAD.match(words)
    bare = _stripped(_TAIL.sub("", words[lead.end() :] if lead else words))
    if not _is_name(bare):
        return ""
    return bare if any(map(str.isupper, bare)) else bare.title().replace("'S", "'s")


def is_introduced(text: str) -> bool:
    """Whether a text says of itself that it gives a name ("my name is ...")."""
    lead = _LEAD.match(text)
    return bool(lead and _SURE_LEAD.match(lead["lead"].strip()))


def is_everyday(name: str) -> bool:
    """Whether every word of a would-be name is one that visitors' questions are made of."""
    return all(_word_counts()[word] >= _COMMON_FROM for word in plain(name).split())


def _stripped(text: str) -> str:
    """Take off what stands around a name; the dot of an initial belongs to it."""
    bare = text.strip(' "“”,!;:()')
    return bare if re.search(r"\b\w\.$", bare) else bare.strip(".")


def _is_name(text: str) -> bool:
    words = text.split()
    if not words or len(words) > _MOST_WORDS or len(text) > LONGEST_NAME:
        return False
    lowered = [word.strip(".,").lower() for word in words]
    if any(word in _NEVER for word in lowered):
        return False
    if not all(_is_name_word(word) for word in words):
        return False
    common = sum(_word_counts()[word] >= _COMMON_FROM for word in lowered)
    return len(words) == 1 or (common < len(words) and common * 2 <= len(words))


def _is_name_word(word: str) -> bool:
    """Whether a word is of letters of any script, with what joins them in names."""
    letters = [c for c in word if unicodedata.category(c)[0] in "LM"]
    others = [c for c in word if unicodedata.category(c)[0] not in "LM"]
    return bool(letters) and all(c in _JOINERS for c in others)


@lru_cache(maxsize=1)
def _word_counts() -> Counter[str]:
    """Return in how many examples a word stands: "need", "leg" in many, hardly any name in three."""
    return Counter(
        word
        for texts in read_examples(project_folder()).values()
        for text in texts
        for word in set(re.findall(r"[^\W\d_]+", plain(text)))
    )
