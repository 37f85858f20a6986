"""The end of the contact form: the request is sent, or nothing of it stays."""

from __future__ import annotations

import logging
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import ActiveLoop, SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions.contact_form.steps import CONSENT, DECISION, FINISH, WORDING, emptied
from assistant.contact.desk import NoDraftError, contact_desk
from assistant.storage.database import StorageError, in_thread
from assistant.storage.kept_events import FORM

logger = logging.getLogger(__name__)

_WORDS = {
    "cancel": "utter_contact_cancelled",
    "decline": "utter_contact_declined",
    "minor": "utter_contact_minor",
}


class FinishContactRequest(Action):
    """Hands the request to the desk and says so only when the desk has stored it."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return FINISH

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Send or drop the request, as the visitor decided."""
        decision = tracker.get_slot(DECISION)
        if decision == "send":
            return await self._send(dispatcher, tracker.sender_id)
        if tracker.get_slot(CONSENT):
            await in_thread(contact_desk().discard_draft, tracker.sender_id)
        dispatcher.utter_message(response=_WORDS[decision])
        return emptied()

    async def _send(
        self, dispatcher: CollectingDispatcher, conversation_id: str
    ) -> list[dict[str, Any]]:
        try:
            receipt = await in_thread(contact_desk().submit, conversation_id)
        except NoDraftError:
            dispatcher.utter_message(response="utter_contact_expired")
            return [*emptied(), ActiveLoop(FORM)]
        except StorageError as error:
            logger.error("A contact request could not be stored: %s", error)
            dispatcher.utter_message(response="utter_contact_not_sent")
            # The form goes on where it was: at its last question, with the draft as it is.
            state = {DECISION: None, WORDING: "retry", "requested_slot": DECISION}
            return [*(SlotSet(*item) for item in state.items()), ActiveLoop(FORM)]
        dispatcher.utter_message(response="utter_contact_sent", request_number=receipt.number)
        return emptied()
