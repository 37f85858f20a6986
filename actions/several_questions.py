"""A message with more than one question gets every answer."""

from __future__ import annotations

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import FollowupAction
from rasa_sdk.executor import CollectingDispatcher

from assistant.storage.kept_events import FORM
from assistant.understanding.results import QUESTIONS_KEY


class ActionAnswerSeveral(Action):
    """Answers the questions of a message one after the other."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return "action_answer_several"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Utter the answer to each question; whoever also wants to book then gets the form."""
        topics = [part["topic"] for part in tracker.latest_message.get(QUESTIONS_KEY) or []]
        for topic in topics:
            if topic != "book":
                dispatcher.utter_message(response=f"utter_{topic}")
        if "book" in topics and not tracker.active_loop:
            return [FollowupAction(FORM)]
        return []
