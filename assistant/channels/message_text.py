"""A visitor's text made safe for Rasa, the same way on every channel."""

from __future__ import annotations

import re
import unicodedata

LONGEST_MESSAGE = 1000  # characters; Rasa's own pipelines take seconds for ten times that

_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060\ufeff]")


class UnreadableTextError(ValueError):
    """The text holds half characters (lone surrogates), which no store can keep."""


def clean(text: str) -> str:
    """Return the text as Rasa may see it.

    A leading slash would make Rasa obey the rest as an intent (`/restart`, `/book{"x": {}}`), so
    slashes at the start are taken off: what a visitor types is text. Control and invisible
    characters go, too.

    Raises:
        UnreadableTextError: the text cannot be written as UTF-8.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnreadableTextError("The text holds half of a character.") from error
    visible = _UNSEEN.sub("", unicodedata.normalize("NFC", text))
    return visible.strip().lstrip("/").strip()
