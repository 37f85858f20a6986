"""What of a conversation's events may be kept: everything but personal data.

The answers that the contact form takes are not kept at all (they lie encrypted in the draft), nor
what the assistant read back; from everything else personal data is taken out by pattern.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

from rasa.shared.core.events import (
    ActionExecutionRejected,
    ActiveLoop,
    BotUttered,
    Event,
    SlotSet,
    UserUttered,
)

from assistant.redaction import redact, redact_all

STORED_TEXT = "stored_text"
"""Key in a message's metadata: what is kept in place of a text that shows personal data."""

FORM = "contact_form"
"""The form whose answers are personal."""

GIVEN = "given"
"""What its slots hold in place of an answer, which only the draft knows."""

_ANSWER = "[answer: {}]"
_A_KEPT_ANSWER = re.compile(r"\[answer: \w+\]")

_REQUESTED = "requested_slot"
_SELECTOR = "response_selector"
_NAMES_AND_FIGURES = ("intent", "intent_ranking", _SELECTOR)  # of ours, nobody's words
_KEPT_OF_ANSWER = ("message_id", "metadata")


def kept_events(events: Iterable[Event], first: int = 0) -> list[Event]:
    """Return a conversation's events as they may be stored; the given ones stay as they are.

    Args:
        events: all events of the conversation, the oldest first.
        first: which of them is the first to be returned; those before it tell what is personal.
    """
    given = list(events)
    kept: list[Event] = []
    asked = ""  # the slot that the form has asked for
    offered: set[str] = set()  # what the buttons of the last turn send
    for place, event in enumerate(given):
        if isinstance(event, UserUttered):
            if place >= first:
                taken = _form_took(given[place + 1 :]) if asked else False
                kept.append(_answer_kept(event, asked, offered) if taken else _message_kept(event))
            offered = set()
            continue
        if isinstance(event, BotUttered):
            offered |= {b.get("payload", "") for b in event.data.get("buttons") or []}
            event = _utterance_kept(event)
        elif isinstance(event, SlotSet) and event.key == _REQUESTED:
            asked = event.value or ""
        elif isinstance(event, ActiveLoop) and not event.name:
            asked = ""
        if place >= first:
            kept.append(event)
    return kept


def shown_text(text: str) -> str:
    """Return what a visitor sees, on coming back, of a message of theirs as it is stored."""
    return "(your answer; not kept here)" if _A_KEPT_ANSWER.fullmatch(text) else text


def _form_took(following: list[Event]) -> bool:
    """Whether the form took something of the message that these events follow.

    It did not if it stepped aside, unless it noted an answer before.
    """
    for event in following:
        if isinstance(event, UserUttered):
            break
        if isinstance(event, SlotSet) and event.key != _REQUESTED and event.value == GIVEN:
            return True
        if isinstance(event, ActionExecutionRejected) and event.action_name == FORM:
            return False
    return True


def _answer_kept(event: UserUttered, asked: str, offered: set[str]) -> UserUttered:
    """Return a message to the form without its text, unless it is the text of a button."""
    if event.text in offered:
        return _message_kept(event)
    kept = copy.copy(event)
    kept.text = _ANSWER.format(asked.removeprefix("contact_"))
    kept.entities = []
    kept.parse_data = {
        **_figures(event),
        **{key: event.parse_data[key] for key in _KEPT_OF_ANSWER if key in event.parse_data},  # type: ignore[literal-required]
        "text": kept.text,
        "entities": [],
    }
    return kept


def _message_kept(event: UserUttered) -> UserUttered:
    kept = copy.copy(event)
    kept.text = redact(event.text) if event.text else event.text
    kept.entities = redact_all(event.entities)
    kept.parse_data = {  # type: ignore[assignment]
        **_figures(event),
        **{
            key: redact_all(value)
            for key, value in event.parse_data.items()
            if key not in _NAMES_AND_FIGURES
        },
    }
    return kept


def _figures(event: UserUttered) -> dict[str, Any]:
    """Return what a message was understood as: of the selector the rankings, a third of its size."""
    figures = {key: event.parse_data[key] for key in _NAMES_AND_FIGURES if key in event.parse_data}  # type: ignore[literal-required]
    if _SELECTOR in figures:
        figures[_SELECTOR] = {
            area: {"ranking": entry.get("ranking", [])}
            for area, entry in figures[_SELECTOR].items()
            if isinstance(entry, dict)
        }
    return figures


def _utterance_kept(event: BotUttered) -> BotUttered:
    answer = event.metadata.get("metadata") or {}
    if not isinstance(answer, dict) or STORED_TEXT not in answer:
        return event
    kept: Any = copy.copy(event)
    kept.text = answer[STORED_TEXT]
    rest = {key: value for key, value in answer.items() if key != STORED_TEXT}
    kept.metadata = {**event.metadata, "metadata": rest}
    return kept
