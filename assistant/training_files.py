"""Reads what the assistant is trained on."""

from __future__ import annotations

from rasa.shared.core.domain import Domain
from rasa.shared.importers.rasa import RasaFileImporter
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
            self._examples = super().get_nlu_data(language)
        return self._examples
