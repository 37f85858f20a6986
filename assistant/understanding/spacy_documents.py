"""Rasa component: spaCy's view of a message."""

from __future__ import annotations

from functools import lru_cache

from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.nlu.utils.spacy_utils import SpacyModel, SpacyNLP
from rasa.shared.nlu.training_data.training_data import TrainingData

_TYPES = DefaultV1Recipe.ComponentType


@DefaultV1Recipe.register(
    [_TYPES.MODEL_LOADER, _TYPES.MESSAGE_FEATURIZER],
    is_trainable=False,
    model_from="SpacyDocuments",
)
class SpacyDocuments(SpacyNLP):
    """Rasa's `SpacyNLP`, for messages alone.

    At training Rasa's reads each example, and behind each the whole answer to it, which takes five
    seconds; nothing of ours needs that. And it loads the language once for each place in the graph.
    """

    @staticmethod
    @lru_cache(maxsize=1)
    def load_model(spacy_model_name: str) -> SpacyModel:
        """Return the language, loaded once."""
        return SpacyNLP.load_model(spacy_model_name)

    def process_training_data(self, training_data: TrainingData, model: SpacyModel) -> TrainingData:
        """Leave the examples as they are."""
        return training_data
