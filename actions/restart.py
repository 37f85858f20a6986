""" "Start over": the conversation begins anew, and nothing of it is left."""

from __future__ import annotations

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import Restarted
from rasa_sdk.executor import CollectingDispatcher

from assistant.contact.desk import contact_desk
from assistant.storage.database import in_thread


class ActionRestart(Action):
    """Stands in for Rasa's own, which knows of no draft. Rasa runs it in every state, mid-form too."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return "action_restart"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Forget what was said so far."""
        if tracker.active_loop:
            await in_thread(contact_desk().discard_draft, tracker.sender_id)
        dispatcher.utter_message(response="utter_restart")
        return [Restarted()]
