"""Advice on a red flag without Rasa: for when the model, the store or anything else fails."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from assistant.answers.book import AnswerBook
from assistant.safety.detector import load_detector
from assistant.settings import project_folder


@lru_cache(maxsize=1)
def _book() -> AnswerBook:
    return AnswerBook()


def advice_for(text: str) -> dict[str, Any] | None:
    """Return the advice for the most urgent red flag of a text, in Rasa's shape; None if it has none.

    Args:
        text: a visitor's words, whole: also what is too long to be answered otherwise.
    """
    # Both are read with the first text, that of the self-test: files that break later change nothing.
    book, flag = _book(), load_detector(project_folder()).scan(text)
    return book.response(flag.topic) if flag else None
