""" "Delete my request": which one, a question back, and then it is gone."""

from __future__ import annotations

import logging
import re
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.context import answer_metadata, turns_backwards
from assistant.contact.desk import contact_desk
from assistant.contact.words import open_requests
from assistant.storage.database import StorageError, in_thread

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"\bR-\w{4}-\w{4}\b", re.IGNORECASE)
_CONFIRMED = re.compile(r"^\W*yes\b", re.IGNORECASE)


class ActionDeleteRequest(Action):
    """Deletes a request after a yes, whatever words the visitor asked for it in."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return "action_delete_request"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Ask which request, ask whether it is meant, or delete it."""
        text = str(tracker.latest_message.get("text") or "")
        try:
            numbers = await in_thread(open_requests, tracker.sender_id)
        except StorageError as error:
            logger.error("The requests could not be read: %s", error)
            dispatcher.utter_message(response="utter_delete_request_failed")
            return []
        named = [number for number in _NUMBER.findall(text.upper()) if number in numbers]
        chosen = named or numbers
        if not chosen:
            dispatcher.utter_message(response="utter_delete_request_none")
        elif named and _CONFIRMED.match(text):
            await withdraw(dispatcher, tracker.sender_id, named[0])
        elif len(chosen) == 1:
            dispatcher.utter_message(
                response="utter_delete_request_confirm",
                request_number=chosen[0],
                buttons=[
                    {"title": "Yes, delete it", "payload": f"Yes, delete request {chosen[0]}"},
                    {"title": "No, keep it", "payload": "No, keep it"},
                ],
            )
        else:
            dispatcher.utter_message(
                response="utter_delete_request_which",
                buttons=[{"title": n, "payload": f"Delete request {n}"} for n in chosen],
            )
        return []


class ActionAffirm(Action):
    """A plain "yes" deletes the request that the last turn asked about; otherwise it means little."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return "action_affirm"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Delete the request that was asked about, or ask what else there is."""
        number = _asked_about(tracker)
        if number:
            await withdraw(dispatcher, tracker.sender_id, number)
        else:
            dispatcher.utter_message(response="utter_affirm")
        return []


async def withdraw(dispatcher: CollectingDispatcher, conversation_id: str, number: str) -> None:
    """Delete a request and say so, or say that it was not possible."""
    try:
        deleted = await in_thread(contact_desk().withdraw, conversation_id, number)
    except StorageError as error:
        logger.error("A request could not be deleted: %s", error)
        dispatcher.utter_message(response="utter_delete_request_failed")
        return
    if deleted:
        dispatcher.utter_message(response="utter_delete_request_done", request_number=number)
    else:
        dispatcher.utter_message(response="utter_delete_request_none")


def _asked_about(tracker: Tracker) -> str:
    """Return the number of the request that the last turn asked to delete; "" if it asked nothing."""
    for message in next(turns_backwards(tracker), []):
        if answer_metadata(message).get("asks") == "deletion":
            numbers = _NUMBER.findall(message.get("text") or "")
            return numbers[0] if numbers else ""
    return ""
