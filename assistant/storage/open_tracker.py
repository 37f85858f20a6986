"""A conversation while it is answered: read once, where Rasa reads it eight times in a turn."""

from __future__ import annotations

import copy
from operator import is_
from typing import Any, NamedTuple

from rasa.shared.core.constants import PREVIOUS_ACTION
from rasa.shared.core.domain import Domain, State, SubState
from rasa.shared.core.events import ActionExecuted, Event
from rasa.shared.core.trackers import DialogueStateTracker


class OpenTracker(DialogueStateTracker):
    """A conversation that knows how many of its first events are in the store.

    Rasa's policies each replay all events for each prediction, and each action gets a copy that is
    made by replaying them. Here a replay goes on with the new events, and a copy replays nothing.
    """

    stored: int = 0
    _past: _Past | None = None

    def copy(self) -> DialogueStateTracker:
        """Return a copy that may be changed."""
        other = copy.copy(self)
        other.events = copy.copy(self.events)
        other.slots = {name: copy.copy(slot) for name, slot in self.slots.items()}
        other.active_loop = copy.copy(self.active_loop)
        other._past = None
        return other

    def past_states(
        self,
        domain: Domain,
        omit_unset_slots: bool = False,
        ignore_rule_only_turns: bool = False,
        rule_only_data: dict[str, Any] | None = None,
    ) -> list[State]:
        """Return the state before each action and the present one, as Rasa does."""
        if omit_unset_slots:  # at training only
            states: list[State] = super().past_states(
                domain, True, ignore_rule_only_turns, rule_only_data
            )
            return states
        events = self.applied_events()
        if self._past is None or not self._past.is_of(events, domain):
            self._past = _Past(self.init_copy(), domain)
        steps = self._past.steps(events)
        if not ignore_rule_only_turns:
            return [_copied(step.state) for step in steps]
        return _without_rules(steps, rule_only_data)


class _Step(NamedTuple):
    """A conversation before an action.

    Attributes:
        state: what policies see of it.
        previous: the action before.
        hidden: whether the action that follows is one of rules only.
        decides: whether that begins or ends a part that is hidden.
    """

    state: State
    previous: SubState | None
    hidden: bool
    decides: bool


class _Past:
    """The steps of a conversation.

    Args:
        beginning: the conversation without events.
        domain: the assistant's domain.
    """

    def __init__(self, beginning: DialogueStateTracker, domain: Domain) -> None:
        self._replayed = beginning
        self._domain = domain
        self._events: list[Event] = []
        self._steps: list[_Step] = []

    def is_of(self, events: list[Event], domain: Domain) -> bool:
        """Whether the events begin with those that were replayed."""
        known = len(self._events)
        return (
            domain is self._domain and len(events) >= known and all(map(is_, self._events, events))
        )

    def steps(self, events: list[Event]) -> list[_Step]:
        """Return the steps up to the present one, after these events."""
        for event in events[len(self._events) :]:
            if isinstance(event, ActionExecuted):
                self._steps.append(self._step(event.hide_rule_turn))
            self._replayed.update(event)
        self._events = events
        return [*self._steps, self._step(hidden=False)]

    def _step(self, hidden: bool) -> _Step:
        now = self._replayed
        return _Step(
            state=self._domain.get_active_state(now),
            previous=self._domain._get_prev_action_sub_state(now),
            hidden=hidden,
            decides=not now.followup_action and now.latest_action_name != now.active_loop_name,
        )


def _without_rules(steps: list[_Step], rule_only_data: dict[str, Any] | None) -> list[State]:
    """Return the states as a policy sees them that learned from stories and not from rules.

    The same as `Domain.states_for_tracker_history` with `ignore_rule_only_turns`.
    """
    states: list[State] = []
    previous: SubState | None = None
    is_hidden = False
    for step in steps:
        if not is_hidden:
            previous = step.previous
        if step.decides:
            is_hidden = step.hidden
        if is_hidden:
            continue
        state = _copied(step.state)
        Domain._remove_rule_only_features(state, rule_only_data)
        if states:
            Domain._substitute_rule_only_user_input(state, states[-1])
        if previous:
            state[PREVIOUS_ACTION] = previous
        states.append(Domain._clean_state(state))
    return states


def _copied(state: State) -> State:
    """Return a state that may be changed: Rasa's policies take parts out of theirs."""
    return {name: copy.copy(part) for name, part in state.items()}
