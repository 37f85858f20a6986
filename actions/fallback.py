"""When a message was not understood: each failure in a row gets another way out."""

from __future__ import annotations

from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.context import answer_metadata, catalogue, turns_backwards
from assistant.understanding.results import area_of, ranked_topics

_MOST_OFFERS = 3
_LEAST_LIKELY = 0.12  # confidence from which a topic is worth offering; measured, see docs
_NOT_OFFERED = {"out_of_scope", "follow_up", "nlu_fallback"}


class ActionFallback(Action):
    """Offers likely topics; after two failures topics and a person; then the contact card."""

    def name(self) -> str:
        """Return the name in `domain.yml`."""
        return "action_fallback"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Say the words of the step that is due."""
        failures = 1 + failures_before(tracker)
        offers = likely_topics(tracker.latest_message)
        if failures >= 3:
            dispatcher.utter_message(response="utter_fallback_contact")
        elif failures == 2:
            dispatcher.utter_message(response="utter_fallback_topics")
        elif offers:
            dispatcher.utter_message(
                response="utter_did_you_mean", buttons=catalogue().buttons(offers)
            )
        else:
            dispatcher.utter_message(response="utter_fallback_rephrase")
        return []


def failures_before(tracker: Tracker) -> int:
    """Return how many turns in a row before this one ended in a fallback."""
    failures = 0
    for turn in turns_backwards(tracker):
        if not any(answer_metadata(message).get("step") for message in turn):
            break
        failures += 1
    return failures


def likely_topics(parse_data: dict[str, Any]) -> list[str]:
    """Return the topics worth offering, the likeliest first; only those with a button."""
    answers = catalogue().answers
    likely = [
        score.topic
        for score in ranked_topics(parse_data)
        if score.confidence >= _LEAST_LIKELY
        and area_of(score.topic) not in _NOT_OFFERED
        and score.topic in answers
        and answers[score.topic].title
    ]
    return likely[:_MOST_OFFERS]
