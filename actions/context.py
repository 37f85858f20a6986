"""What actions read from the conversation so far, as rasa-sdk hands it over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from rasa_sdk import Tracker

from assistant.content.catalogue import Catalogue, LiveCatalogue
from assistant.settings import project_folder


@lru_cache(maxsize=1)
def _live_catalogue() -> LiveCatalogue:
    return LiveCatalogue(project_folder())


def catalogue() -> Catalogue:
    """Return the content as it is now."""
    return _live_catalogue().current()


def turns_backwards(tracker: Tracker) -> Iterator[list[dict[str, Any]]]:
    """Yield the bot's messages of each turn before the present one, the latest turn first."""
    turn: list[dict[str, Any]] = []
    present = True
    for event in reversed(tracker.events):
        if event.get("event") == "bot":
            turn.insert(0, event)
        elif event.get("event") == "user":
            if not present:
                yield turn
            present = False
            turn = []
        elif event.get("event") in ("restart", "session_started"):
            break


def answer_metadata(message: dict[str, Any]) -> dict[str, Any]:
    """Return an answer's metadata (topic, step, ...) from a bot event."""
    metadata = (message.get("metadata") or {}).get("metadata")
    return metadata if isinstance(metadata, dict) else {}
