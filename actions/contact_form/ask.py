"""The questions of the contact form: which words fit the turn, or none after a red flag."""

from __future__ import annotations

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.contact_form.steps import (
    CONSENT,
    DECISION,
    NAME,
    NOTE,
    PAUSED,
    REACH,
    RESUMES,
    TIME,
    WORDING,
    stepped_aside,
)
from assistant.storage.kept_events import FORM


class _Asks:
    """Asks for one step. Rasa calls the action that is named after the form and the slot."""

    step = ""

    @property
    def first(self) -> str:
        """Return the response that asks for the first time."""
        return f"utter_{self.step}"

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return f"action_ask_{FORM}_{self.step}"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Ask, unless a red flag has just paused the request or still does."""
        intent = (tracker.latest_message.get("intent") or {}).get("name")
        if not stepped_aside(tracker):
            wording = tracker.get_slot(WORDING) or "first"
            dispatcher.utter_message(
                response=self.first if wording == "first" else f"utter_{self.step}_{wording}"
            )
            return []
        if intent == "safety":
            return [SlotSet(PAUSED, True)]
        if tracker.get_slot(PAUSED) and intent not in RESUMES:
            return []
        dispatcher.utter_message(response="utter_contact_resume")
        dispatcher.utter_message(response=f"utter_{self.step}_again")
        return [SlotSet(PAUSED, None)]


class AskConsent(_Asks, Action):
    """Asks whether a request may be kept."""

    step = CONSENT
    first = "utter_book"  # the answer to the topic `book`


class AskName(_Asks, Action):
    """Asks for the name."""

    step = NAME


class AskReach(_Asks, Action):
    """Asks for a phone number or an e-mail address."""

    step = REACH


class AskTime(_Asks, Action):
    """Asks for the preferred time."""

    step = TIME


class AskNote(_Asks, Action):
    """Asks for a note, which may be left out."""

    step = NOTE


class AskDecision(_Asks, Action):
    """Reads everything back and asks whether to send it."""

    step = DECISION
