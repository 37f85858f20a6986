"""The answers in words: from the content files and the office's facts, without Rasa.

An answer's buttons are made from its follow-up topics, so a title and the sentence that a button
sends stand once, at the topic itself.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Mapping
from typing import Any

from assistant.content.catalogue import Answer, Catalogue, LiveCatalogue, Source, Variation
from assistant.content.office import OfficeFileError, load_office
from assistant.safety.detector import CLARIFY
from assistant.settings import office_file, project_folder
from assistant.storage.kept_events import STORED_TEXT

logger = logging.getLogger(__name__)

_PLACE = re.compile(r"\{([a-z_]+)\}")
_CALL_911 = {"title": "Call 911", "payload": "tel:911"}
_CALL_988 = {"title": "Call 988", "payload": "tel:988"}
_CHECKED = {"title": "I've been checked", "payload": "I have been checked by a doctor already"}
_NOT_THIS = {"title": "It's not this", "payload": "That is not what I have"}
_WHERE_NUMB = [
    {"title": "Groin or private parts", "payload": "My groin or private parts are numb"},
    {
        "title": "Leg or foot",
        "payload": "Is numbness or tingling in the leg or foot normal with sciatica?",
    },
]


class AnswerBook:
    """All answers, as the files hold them now.

    Args:
        draft: answers to use in place of those of the files, to see how they would look.
    """

    def __init__(self, draft: Catalogue | None = None) -> None:
        self._draft = draft
        self._live = None if draft else LiveCatalogue(project_folder())
        self._office_path = office_file()
        self._office = load_office(self._office_path)

    def catalogue(self) -> Catalogue:
        """Return the content as it is now."""
        return self._live.current() if self._live else self._draft or Catalogue({}, {})

    def places(self, name: str) -> set[str]:
        """Return the places in braces that the wordings of an answer fill or require."""
        answer = self.catalogue().answers.get(name)
        wordings = answer.variations if answer else ()
        return {place for w in wordings for place in (*w.requires, *_PLACE.findall(w.text))}

    def response(
        self,
        name: str,
        values: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
    ) -> dict[str, Any] | None:
        """Return the answer of a name in Rasa's shape: text, buttons, image and metadata.

        Args:
            name: the topic or courtesy, as `diet/gluten` or `greet`.
            values: what fills its places besides the office's facts.
            private: the same for what the visitor sees and no store may keep. If the text holds
                any of it, `metadata` has what may be stored as `stored_text`.

        Returns:
            The response, or None when nobody wrote one.
        """
        private = private or {}
        catalogue = self.catalogue()
        answer = catalogue.answers.get(name)
        if answer is None:
            logger.error("There is no answer named %s.", name)
            return None
        facts = {**(values or {}), **private}
        if self.places(name) - facts.keys():
            facts = {**self._facts(), **facts}
        variation = _fitting(answer, facts)
        if variation is None:
            logger.error("No wording of %s fits the office's facts.", name)
            return None
        rendered: dict[str, Any] = {
            "text": _filled(variation.text, facts),
            "metadata": _metadata(answer, catalogue.sources),
        }
        hidden = {
            place: f"[{place.removeprefix('contact_')}]"
            for place, value in private.items()
            if value
        }
        stored_text = _filled(variation.text, {**facts, **hidden})
        if stored_text != rendered["text"]:
            rendered["metadata"][STORED_TEXT] = stored_text
        replies = [{"title": title, "payload": payload} for title, payload in variation.replies]
        buttons = _safety_buttons(answer) or [*replies, *catalogue.buttons(answer.follow_ups)]
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


def _safety_buttons(answer: Answer) -> list[dict[str, str]]:
    """Return the buttons of advice on a red flag: never booking, never a stretch."""
    if answer.name == CLARIFY:
        return _WHERE_NUMB
    if answer.urgency == "crisis":
        return [_CALL_988, _CALL_911]
    if answer.urgency == "emergency":
        return [_CALL_911, _CHECKED, _NOT_THIS]
    return [_CHECKED, _NOT_THIS] if answer.urgency else []


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
    if answer.asks:
        metadata["asks"] = answer.asks
    if answer.urgency:
        metadata["urgency"] = answer.urgency
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
