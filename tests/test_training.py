"""What training leaves out of Rasa's own steps, since it takes time and nothing needs it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import rasa.shared.utils.io
from rasa.engine.training.fingerprinting import calculate_fingerprint_key
from rasa.nlu.constants import SPACY_DOCS
from rasa.nlu.utils.spacy_utils import SpacyModel
from rasa.shared.core.domain import Domain
from rasa.shared.importers.importer import TrainingDataImporter
from rasa.shared.nlu.constants import TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from assistant import training_files
from assistant.understanding import code_version
from assistant.understanding.language import build
from assistant.understanding.spacy_documents import SpacyDocuments
from assistant.understanding.spelling import SpellingCorrection
from assistant.understanding.topic_classifier import TopicClassifier
from tests.conftest import PROJECT

FILES = {
    "domain.yml": 'version: "3.1"\nintents: [greet]\nresponses: {utter_greet: [{text: Hello}]}\n',
    "data/nlu.yml": 'version: "3.1"\nnlu: [{intent: greet, examples: "- hi\\n- hello\\n"}]\n',
    "data/rules.yml": 'version: "3.1"\nrules: [{rule: greet, steps: [{intent: greet}, '
    "{action: utter_greet}]}]\n",
}


def write_project(folder: Path) -> None:
    (folder / "data").mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="utf-8")


def importer_of(folder: Path, configuration: Path) -> TrainingDataImporter:
    return TrainingDataImporter.load_from_config(
        str(configuration), str(folder / "domain.yml"), [str(folder / "data")]
    )


def test_the_files_are_read_once_in_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path)
    reads: list[str] = []
    read_examples, load_domain = training_files.load_data, Domain.load

    def noted_examples(*arguments: Any) -> TrainingData:
        reads.append("examples")
        return read_examples(*arguments)

    def noted_domain(*arguments: Any) -> Domain:
        reads.append("domain")
        return load_domain(*arguments)

    monkeypatch.setattr(training_files, "load_data", noted_examples)
    monkeypatch.setattr(Domain, "load", noted_domain)
    importer = importer_of(tmp_path, PROJECT / "config.yml")
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


def test_examples_are_those_that_rasa_reads_and_are_digested_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path)
    (tmp_path / "data" / "more.yml").write_text(
        'version: "3.1"\nnlu: [{intent: faq/price, metadata: {by: anna}, examples: "- cost \\n'
        '- hi\\n"}, {intent: greet, examples: "- hello\\n- good day\\n"}]\n',
        encoding="utf-8",
    )
    (tmp_path / "rasa.yml").write_text("recipe: default.v1\n", encoding="utf-8")
    as_rasa = importer_of(tmp_path, tmp_path / "rasa.yml").get_nlu_data()
    digested: Counter[str] = Counter()
    digest = rasa.shared.utils.io.deep_container_fingerprint

    def noted(value: Any, *encoding: str) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            digested[str(sorted(value[0].items()))] += 1
        return str(digest(value, *encoding))

    monkeypatch.setattr(rasa.shared.utils.io, "deep_container_fingerprint", noted)
    read = importer_of(tmp_path, PROJECT / "config.yml").get_nlu_data()
    fingerprint = read.fingerprint()
    texts = sorted(example.get(TEXT) for example in read.intent_examples)
    assert texts == ["cost", "good day", "hello", "hi", "hi"]
    # Each as often as it stands in a file: "hello" stands in two.
    assert sorted(n for key, n in digested.items() if f"'{TEXT}'" in key) == [1, 1, 1, 1, 2]
    # Changing a copy changes nothing else, and its digest is made anew.
    changed = read.merge().training_examples
    changed[0].set("corrected", "something")
    assert read.fingerprint() == fingerprint == as_rasa.fingerprint()
    assert TrainingData(changed).fingerprint() != fingerprint


def test_spacy_reads_messages_and_not_the_examples() -> None:
    component = SpacyDocuments.create({"model": "assistant"}, None, None, None)  # type: ignore[arg-type]
    model = SpacyModel(build(), "assistant")
    example, message = Message({TEXT: "an example"}), Message({TEXT: "a message"})
    component.process_training_data(TrainingData([example]), model)
    component.process([message], model)
    assert example.get(SPACY_DOCS[TEXT]) is None
    assert [token.text for token in message.get(SPACY_DOCS[TEXT])] == ["a", "message"]


@pytest.mark.parametrize("component", [SpellingCorrection, TopicClassifier])
def test_what_an_older_version_learned_is_learned_anew(
    component: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned_by(version: str) -> str:
        monkeypatch.setattr(code_version, "code_version", lambda: version)
        return str(calculate_fingerprint_key(component, {}, {}))

    assert learned_by("old") == learned_by("old") != learned_by("new")
