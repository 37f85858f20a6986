"""What the contact form does with a message: takes it, refuses it, or steps aside."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import ActionExecutionRejected, SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.contact_form.phrases import is_about_child, is_minor
from actions.contact_form.reading import Message, Reading, read
from actions.contact_form.steps import (
    CONSENT,
    DECISION,
    MISSES,
    NAME,
    NOTE,
    PAUSED,
    REACH,
    RESUMES,
    TIME,
    WORDING,
    emptied,
    step_before,
    stepped_aside,
    was_finished,
)
from assistant.contact.desk import contact_desk
from assistant.contact.request import Draft
from assistant.storage.database import StorageError, in_thread
from assistant.storage.kept_events import FORM, GIVEN

logger = logging.getLogger(__name__)

Events = list[dict[str, Any]]

_MOST_MISSES = 3
_STEP_OF_FIELD = {
    "name": NAME,
    "phone": REACH,
    "email": REACH,
    "preferred_time": TIME,
    "note": NOTE,
}
_STEP_TO_CHANGE = {"name": NAME, "reach": REACH, "time": TIME, "note": NOTE}
_ENDINGS = {"cancel", "decline", "minor"}
_NOT_WHILE_PAUSED = {"aside", "miss", "ask_again"}


class ValidateContactForm(Action):
    """Reads each message in the light of the step that was asked for.

    Without an event the form declines the turn: Rasa then lets the rules answer the message and
    calls the form again, which asks its question anew. That is all there is to interruptions.
    """

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return f"validate_{FORM}"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> Events:
        """Return what changes; nothing, to leave the message to the rules."""
        step = tracker.get_slot("requested_slot")
        text = str(tracker.latest_message.get("text") or "")
        if stepped_aside(tracker) or was_finished(tracker):
            return []
        if step is None:
            return self._begin(dispatcher, text)
        message = Message.of(tracker.latest_message)
        reading = read(message, step)
        paused = bool(tracker.get_slot(PAUSED))
        if paused and message.intent in RESUMES:
            return []
        if reading.kind == "aside":
            return []
        if paused and reading.kind in _NOT_WHILE_PAUSED and message.intent != "book":
            return []
        if step in (CONSENT, NAME) and is_about_child(text):
            dispatcher.utter_message(response="utter_contact_parent")
        try:
            events = await self._decide(dispatcher, tracker, step, reading)
        except StorageError as error:
            logger.error("A draft could not be kept: %s", error)
            dispatcher.utter_message(response="utter_contact_not_kept")
            events = _ask(step, "again")
        if reading.asks_too:  # the rules answer, then the form asks for the next step
            events = [*events, ActionExecutionRejected(FORM)]
        return [*events, SlotSet(PAUSED, None)]

    def _begin(self, dispatcher: CollectingDispatcher, text: str) -> Events:
        """Start with empty slots; what the first message says is not kept before the consent."""
        if is_minor(text):
            return [*emptied(), *_end("minor")]
        if is_about_child(text):
            dispatcher.utter_message(response="utter_contact_parent")
        return emptied()

    async def _decide(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, step: str, reading: Reading
    ) -> Events:
        if reading.kind in _ENDINGS:
            return _end(reading.kind)
        if reading.kind == "answer":
            return await self._take(dispatcher, tracker, step, reading.values)
        if reading.kind == "send":
            return [SlotSet(DECISION, "send")]
        if reading.kind == "back":
            return _ask(step_before(step), "again")
        if reading.kind == "change":
            target = _STEP_TO_CHANGE.get(reading.detail, "")
            if target and tracker.get_slot(target):
                return _ask(target, "again")
            return _ask(step, "change" if step == DECISION else "again")
        if reading.kind == "miss":
            return self._miss(dispatcher, tracker, step, reading.detail)
        return _ask(step, "why" if reading.kind == "why" else "again")

    async def _take(
        self,
        dispatcher: CollectingDispatcher,
        tracker: Tracker,
        step: str,
        values: dict[str, str],
    ) -> Events:
        """Keep values in the draft, and only the fact that they were given in the slots."""
        desk = contact_desk()
        draft = Draft() if step == CONSENT else await in_thread(desk.draft, tracker.sender_id)
        if draft is None:
            dispatcher.utter_message(response="utter_contact_expired")
            return emptied()
        if step == REACH:  # asked for anew, the answer takes the place of both ways
            draft = dataclasses.replace(draft, phone="", email="")
        filled = dataclasses.replace(draft, **values)
        await in_thread(desk.keep_draft, tracker.sender_id, filled)
        taken = {_STEP_OF_FIELD[field] for field in values}
        if step == CONSENT:
            taken.add(CONSENT)
        elif step not in taken and step != DECISION:
            dispatcher.utter_message(response="utter_contact_noted")
        wording = "first" if step in taken or step == DECISION else "again"
        given = [SlotSet(slot, GIVEN) for slot in sorted(taken)]
        return [*given, SlotSet(WORDING, wording), SlotSet(MISSES, 0)]

    def _miss(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, step: str, detail: str
    ) -> Events:
        misses = int(tracker.get_slot(MISSES) or 0) + 1
        if misses >= _MOST_MISSES:
            dispatcher.utter_message(response="utter_contact_stuck")
            misses = 0
        return [SlotSet(WORDING, detail or "again"), SlotSet(MISSES, misses)]


def _ask(step: str, wording: str) -> Events:
    """Return the events that make a step the next to be asked for, in a wording."""
    return [SlotSet(step, None), SlotSet(WORDING, wording), SlotSet(MISSES, 0)]


def _end(decision: str) -> Events:
    """Return the events that end the form."""
    return [SlotSet(DECISION, decision), SlotSet("requested_slot", None)]
