"""Rasa's response generator: answers from the content files and the office's facts.

Named in `endpoints.yml` under `nlg:`. An answer's buttons are made from its follow-up topics, so a
title and the sentence that a button sends stand once, at the topic itself.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from typing import Any

from rasa.core.nlg.generator import NaturalLanguageGenerator
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import BotUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from assistant.content.catalogue import (
    UTTER,
    Answer,
    Catalogue,
    LiveCatalogue,
    Source,
    Variation,
)
from assistant.content.office import OfficeFileError, load_office
from assistant.settings import office_file, project_folder

logger = logging.getLogger(__name__)

_PLACE = re.compile(r"\{([a-z_]+)\}")


class AnswerGenerator(NaturalLanguageGenerator):
    """Generates each answer from `data/faq/`, `domain.yml` and `office.yml`."""

    def __init__(
        self, endpoint_config: EndpointConfig | None = None, domain: Domain | None = None
    ) -> None:
        self._project = project_folder()
        self._catalogue = LiveCatalogue(self._project)
        self._office_path = office_file()
        self._office = load_office(self._office_path)

    def catalogue(self) -> Catalogue:
        """Return the content as it is now."""
        return self._catalogue.current()

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
            kwargs: what Rasa hands on besides; not used.
        """
        answer = self._catalogue.current().answers.get(utter_action[len(UTTER) :])
        if answer is None:
            logger.error("There is no answer named %s.", utter_action)
            return None
        facts = self._facts()
        facts["last_sources"] = _last_sources(tracker)
        return self.render(answer, facts)

    def render(self, answer: Answer, facts: dict[str, str]) -> dict[str, Any] | None:
        """Put an answer into Rasa's shape: text, buttons, image and metadata.

        Args:
            answer: what to say.
            facts: what stands for the places in its text, by name.
        """
        variation = _fitting(answer, facts)
        if variation is None:
            logger.error("No wording of %s fits the office's facts.", answer.name)
            return None
        catalogue = self._catalogue.current()
        rendered: dict[str, Any] = {
            "text": _filled(variation.text, facts),
            "metadata": _metadata(answer, catalogue.sources),
        }
        buttons = catalogue.buttons(answer.follow_ups)
        if buttons:
            rendered["buttons"] = buttons
        if variation.image:
            rendered["image"] = variation.image
        return rendered

    def _facts(self) -> dict[str, str]:
        try:
            self._office = load_office(self._office_path)
        except OfficeFileError as error:
            logger.error("Keeping the office's facts as they were: %s", error)
        return self._office.facts(dt.datetime.now(dt.timezone.utc))


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


def _fitting(answer: Answer, facts: dict[str, str]) -> Variation | None:
    for variation in answer.variations:
        if all(facts.get(name) for name in variation.requires):
            return variation
    return None


def _filled(text: str, facts: dict[str, str]) -> str:
    """Fill the places of a text; a line that names an empty fact is left out."""
    lines = []
    for line in text.splitlines():
        names = _PLACE.findall(line)
        if all(facts.get(name) for name in names):
            lines.append(_PLACE.sub(lambda match: facts[match.group(1)], line))
    filled = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", filled).strip()


def _metadata(answer: Answer, sources: dict[str, Source]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"topic": answer.topic}
    if answer.step:
        metadata["step"] = answer.step
    cited = [sources[name] for name in answer.sources if name in sources]
    if cited:
        metadata["sources"] = [
            {"label": source.label, "url": source.url} if source.url else {"label": source.label}
            for source in cited
        ]
    if answer.evidence:
        metadata["evidence"] = answer.evidence
    if answer.reviewed_on:
        metadata["reviewed_on"] = answer.reviewed_on.isoformat()
    return metadata
