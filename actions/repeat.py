""" "Could you say that again?" """

from __future__ import annotations

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.context import answer_metadata, turns_backwards


class ActionRepeat(Action):
    """Says the last turn again, with its buttons."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return "action_repeat"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Send the messages of the last turn that said something."""
        turn = next((turn for turn in turns_backwards(tracker) if turn), [])
        if not turn:
            dispatcher.utter_message(response="utter_repeat")
        for message in turn:
            metadata = {**answer_metadata(message), "topic": "repeat"}
            dispatcher.utter_message(
                text=message.get("text"),
                buttons=(message.get("data") or {}).get("buttons") or [],
                image=(message.get("data") or {}).get("image"),
                metadata=metadata,
            )
        return []
