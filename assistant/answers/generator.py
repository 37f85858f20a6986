"""Rasa's response generator: answers from our own book. Named in `endpoints.yml` under `nlg:`."""

from __future__ import annotations

from typing import Any

from rasa.core.nlg.generator import NaturalLanguageGenerator
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import BotUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from assistant.answers.book import AnswerBook
from assistant.contact.words import DRAFT_PLACES, REQUEST_PLACES, draft_words, request_words
from assistant.content.catalogue import UTTER, Catalogue
from assistant.storage.database import in_thread


class AnswerGenerator(NaturalLanguageGenerator):
    """Generates each answer from `data/faq/`, `data/safety/`, `domain.yml` and `office.yml`."""

    def __init__(
        self, endpoint_config: EndpointConfig | None = None, domain: Domain | None = None
    ) -> None:
        self._book = AnswerBook()

    def catalogue(self) -> Catalogue:
        """Return the content as it is now."""
        return self._book.catalogue()

    async def generate(
        self,
        utter_action: str,
        tracker: DialogueStateTracker,
        output_channel: str,
        **kwargs: Any,
    ) -> dict[str, Any] | None:
        """Return the answer for an utterance, or None when nobody wrote one.

        Args:
            utter_action: `utter_` and the topic.
            tracker: the conversation, for what refers to the last answer.
            output_channel: not used: channels render what they can.
            kwargs: what an action hands on; texts among it fill places of the same name.
        """
        name = utter_action[len(UTTER) :]
        places = self._book.places(name)
        values = {key: value for key, value in kwargs.items() if isinstance(value, str)}
        if "last_sources" in places:
            values["last_sources"] = _last_sources(tracker)
        private: dict[str, str] = {}
        if places & REQUEST_PLACES:
            values.update(await in_thread(request_words, tracker.sender_id, places))
        if places & DRAFT_PLACES:
            private = await in_thread(draft_words, tracker.sender_id)
        return self._book.response(name, values, private)


def _last_sources(tracker: DialogueStateTracker) -> str:
    """Return the sources of the last answer that named any, one a line."""
    for event in reversed(tracker.applied_events()):
        if isinstance(event, BotUttered):
            sources = (event.metadata.get("metadata") or {}).get("sources") or []
            if sources:
                return "\n".join(
                    f"{source['label']}: {source['url']}" if source.get("url") else source["label"]
                    for source in sources
                )
    return ""
