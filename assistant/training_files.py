"""Reads what the assistant is trained on."""

from __future__ import annotations

import copy
from typing import Any

from rasa.shared.core.domain import Domain
from rasa.shared.importers.rasa import RasaFileImporter
from rasa.shared.nlu.training_data.loading import load_data
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData


class TrainingFiles(RasaFileImporter):
    """Rasa's reader of the training files, which reads them once.

    In one training Rasa asks for the domain again and again, and for the examples twice (once naming
    the language, once not); its own reader goes to the files each time.
    """

    _domain: Domain | None = None
    _examples: TrainingData | None = None

    def get_domain(self) -> Domain:
        """Return the domain."""
        if self._domain is None:
            self._domain = super().get_domain()
        return self._domain

    def get_nlu_data(self, language: str | None = "en") -> TrainingData:
        """Return the examples; those of one language are all that there are."""
        if self._examples is None:
            parts = [load_data(path, language) for path in self._nlu_files]
            for part in parts:
                part.training_examples = list(map(_Example.of, part.training_examples))
            self._examples = TrainingData().merge(*parts)
        return self._examples


class _Example(Message):
    """An example that is quickly copied and digested.

    Rasa joins sets of examples ten times in one training. Each time it copies every example to the
    last part, and forgets its digest by setting the intent that it has already.
    """

    @classmethod
    def of(cls, message: Message) -> _Example:
        """Return an example as Rasa read it."""
        example = cls(message.data)
        example._cached_fingerprint = message.fingerprint()
        return example

    def set(self, prop: str, info: Any, add_to_output: bool = False) -> None:
        """Set a property, if that changes anything."""
        if add_to_output or self.data.get(prop) != info:
            super().set(prop, info, add_to_output)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Example:
        """Return a copy; what its properties hold is never changed in place."""
        other = copy.copy(self)
        other.data = self.data.copy()
        other.features = self.features.copy()
        other.output_properties = self.output_properties.copy()
        return other
