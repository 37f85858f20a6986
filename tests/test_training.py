"""What training leaves out of Rasa's own steps, since it takes time and nothing needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rasa.nlu.constants import SPACY_DOCS
from rasa.nlu.utils.spacy_utils import SpacyModel
from rasa.shared.core.domain import Domain
from rasa.shared.importers import utils
from rasa.shared.importers.importer import TrainingDataImporter
from rasa.shared.nlu.constants import TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from assistant.understanding.language import build
from assistant.understanding.spacy_documents import SpacyDocuments
from tests.conftest import PROJECT

FILES = {
    "domain.yml": 'version: "3.1"\nintents: [greet]\nresponses: {utter_greet: [{text: Hello}]}\n',
    "data/nlu.yml": 'version: "3.1"\nnlu: [{intent: greet, examples: "- hi\\n- hello\\n"}]\n',
    "data/rules.yml": 'version: "3.1"\nrules: [{rule: greet, steps: [{intent: greet}, '
    "{action: utter_greet}]}]\n",
}


def test_the_files_are_read_once_in_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    reads: list[str] = []
    read_examples, load_domain = utils.training_data_from_paths, Domain.load

    def noted_examples(*arguments: Any) -> TrainingData:
        reads.append("examples")
        return read_examples(*arguments)

    def noted_domain(*arguments: Any) -> Domain:
        reads.append("domain")
        return load_domain(*arguments)

    monkeypatch.setattr(utils, "training_data_from_paths", noted_examples)
    monkeypatch.setattr(Domain, "load", noted_domain)
    importer = TrainingDataImporter.load_from_config(
        str(PROJECT / "config.yml"), str(tmp_path / "domain.yml"), [str(tmp_path / "data")]
    )
    # As `rasa.model_training.train` and the parts of the training do.
    stories = importer.get_stories()
    examples = [importer.get_nlu_data(), importer.get_nlu_data(language="en")]
    domain = importer.get_domain()
    assert [step.block_name for step in stories.story_steps] == ["greet"]
    assert [sorted(e.get(TEXT) for e in data.intent_examples) for data in examples] == [
        ["hello", "hi"]
    ] * 2
    assert "utter_greet" in domain.action_names_or_texts
    assert sorted(reads) == ["domain", "examples"]


def test_spacy_reads_messages_and_not_the_examples() -> None:
    component = SpacyDocuments.create({"model": "assistant"}, None, None, None)  # type: ignore[arg-type]
    model = SpacyModel(build(), "assistant")
    example, message = Message({TEXT: "an example"}), Message({TEXT: "a message"})
    component.process_training_data(TrainingData([example]), model)
    component.process([message], model)
    assert example.get(SPACY_DOCS[TEXT]) is None
    assert [token.text for token in message.get(SPACY_DOCS[TEXT])] == ["a", "message"]
