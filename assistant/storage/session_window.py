"""The newest part of a conversation: what a turn needs, however long the conversation is.

Rasa replays a whole session several times in each turn, so that its tenth question takes longer than
its first. Only the newest turns are given to it, behind a beginning that carries what still counts of
the older ones: the values of slots and the form under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from rasa.shared.core.constants import ACTION_LISTEN_NAME, ACTION_SESSION_START_NAME
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import (
    ActionExecuted,
    ActiveLoop,
    Event,
    SessionStarted,
    SlotSet,
    UserUttered,
)

from assistant.storage.open_tracker import OpenTracker

TURNS = 10
"""How many turns: what "repeat that", "and how often?" or the steps of the fallback look back to."""


def opening(state: Iterable[Event]) -> list[Event]:
    """Return events that begin a window.

    Args:
        state: the last value of each slot and the last form before the window.
    """
    return [
        ActionExecuted(ACTION_SESSION_START_NAME),
        SessionStarted(),
        *state,
        ActionExecuted(ACTION_LISTEN_NAME),
    ]


def window_of(events: Sequence[Event]) -> list[Event]:
    """Return the newest part of a conversation's events.

    Args:
        events: all events, the oldest first.
    """
    start = next((i for i in range(len(events) - 1, -1, -1) if _starts(events[i])), 0)
    turns = [i for i in range(start, len(events)) if isinstance(events[i], UserUttered)]
    if len(turns) <= TURNS:
        return list(events[start:])
    cut = turns[-TURNS]
    return [*opening(_state_of(events[start:cut])), *events[cut:]]


def tracker_of(conversation_id: str, events: Sequence[Event], domain: Domain) -> OpenTracker:
    """Return a conversation whose events are all in the store."""
    tracker = cast(
        OpenTracker, OpenTracker.from_events(conversation_id, list(events), domain.slots)
    )
    tracker.stored = len(tracker.events)
    return tracker


def _starts(event: Event) -> bool:
    return isinstance(event, SessionStarted)


def _state_of(events: Iterable[Event]) -> list[Event]:
    last: dict[str, Event] = {}
    for event in events:
        if isinstance(event, SlotSet):
            last[f"slot {event.key}"] = event
        elif isinstance(event, ActiveLoop):
            last["loop"] = event
    return list(last.values())
