"""The steps of the contact form, by the slots that stand for them in `domain.yml`."""

from __future__ import annotations

from typing import Any

from rasa_sdk import Tracker
from rasa_sdk.events import SlotSet

from assistant.storage.kept_events import FORM

FINISH = "action_finish_contact_request"

CONSENT = "contact_consent"
NAME = "contact_name"
REACH = "contact_reach"
TIME = "contact_time"
NOTE = "contact_note"
DECISION = "contact_decision"
STEPS = (CONSENT, NAME, REACH, TIME, NOTE, DECISION)

WORDING = "contact_wording"
MISSES = "contact_misses"
PAUSED = "contact_paused"

RESUMES = frozenset({"been_checked", "not_this"})
"""Intents that answer the advice on a red flag, after which the form goes on."""


def emptied() -> list[dict[str, Any]]:
    """Return the events that empty every slot of the form."""
    return [SlotSet(slot, None) for slot in (*STEPS, WORDING, MISSES, PAUSED)]


def step_before(step: str) -> str:
    """Return the step to go back to; the first answer after the consent has none before it."""
    return STEPS[max(STEPS.index(step) - 1, STEPS.index(NAME))]


def events_of_turn(tracker: Tracker) -> list[dict[str, Any]]:
    """Return what happened since the visitor's last message, in order."""
    events: list[dict[str, Any]] = []
    for event in reversed(tracker.events):
        if event.get("event") == "user":
            break
        events.insert(0, event)
    return events


def was_finished(tracker: Tracker) -> bool:
    """Whether this turn's message has ended the form already; it goes on if nothing was stored."""
    return any(event.get("name") == FINISH for event in events_of_turn(tracker))


def stepped_aside(tracker: Tracker) -> bool:
    """Whether the form left this turn's message to the rules."""
    return any(
        event.get("event") == "action_execution_rejected" and event.get("name") == FORM
        for event in events_of_turn(tracker)
    )
