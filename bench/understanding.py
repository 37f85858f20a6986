"""Our classifier on public intent data sets, beside published figures and, if wanted, stock Rasa.

It is the code that the assistant runs (spelling, sentence encoder, topic model), with the settings
of config.yml, trained on the rows of the data set. The data is not part of the project:

- HINT3 v1: real users' messages to three small bots. Arora et al., "HINT3: Raising the bar for
  Intent Detection in the Wild", EMNLP 2020 Insights workshop; github.com/hellohaptik/HINT3.
- BANKING77: Casanueva et al. 2020; github.com/PolyAI-LDN/task-specific-datasets.
- CLINC150: Larson et al. 2019; github.com/clinc/oos-eval.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import datetime as dt
import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bench.assistants import Stock, stock_configuration, write_yaml
from bench.processes import PROJECT, MeasuringError, in_own_process, say

CLASSIFIER = "assistant.understanding.topic_classifier.TopicClassifier"
EXAMPLES = 10
"""Training examples of each class, where a few-shot setting is usual."""

PUBLISHED_HINT3 = {
    "curekart": {
        "Rasa (DIET, 2020)": (73.9, 55.8),
        "Dialogflow": (66.8, 74.8),
        "LUIS": (64.2, 62.7),
        "Haptik": (72.8, 69.0),
        "BERT, fine-tuned": (80.3, 52.3),
    },
    "sofmattress": {
        "Rasa (DIET, 2020)": (57.6, 66.3),
        "Dialogflow": (67.1, 72.9),
        "LUIS": (59.3, 75.3),
        "Haptik": (65.4, 66.9),
        "BERT, fine-tuned": (69.3, 64.5),
    },
    "powerplay11": {
        "Rasa (DIET, 2020)": (44.4, 46.8),
        "Dialogflow": (55.3, 50.3),
        "LUIS": (48.0, 55.4),
        "Haptik": (61.5, 61.7),
        "BERT, fine-tuned": (52.7, 51.6),
    },
}
"""In scope / out of scope, %, at the balanced threshold; from the HINT3 authors' tables."""

PUBLISHED_FEW_SHOT = {
    "banking77": {
        "RoBERTa + classifier": 84.3,
        "USE + ConveRT": 85.2,
        "CPFT": 87.2,
        "ICDA": 89.8,
    },
    "clinc150": {
        "RoBERTa + classifier": 91.6,
        "USE + ConveRT": 93.3,
        "CPFT": 94.2,
        "ICDA": 94.8,
    },
}
"""Accuracy, %, with 10 examples a class; from the Few-Shot-Intent-Detection collection."""

_HINT3_NAMES = {
    "curekart": "HINT3 Curekart",
    "sofmattress": "HINT3 SOFMattress",
    "powerplay11": "HINT3 Powerplay11",
}
_HINT3_OUT_OF_SCOPE = "NO_NODES_DETECTED"
_OURS, _STOCK = "**This classifier**", "Stock Rasa, same rows"
_STOCK_PARTS = (
    "WhitespaceTokenizer",
    "RegexFeaturizer",
    "LexicalSyntacticFeaturizer",
    "CountVectorsFeaturizer",
    "DIETClassifier",
)
_STOCK_EPOCHS = 100  # Rasa's own figure

Row = tuple[str, str]  # a text and its intent


@dataclass(frozen=True)
class IntentSet:
    """One data set.

    Attributes:
        name: as the table shows it.
        training: the rows to train on; none is out of scope.
        test: texts with their intent, or None for what is out of scope.
        published: the figures of others: accuracy, or in scope and out of scope.
    """

    name: str
    training: list[Row]
    test: list[tuple[str, str | None]]
    published: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Answers:
    """What a classifier made of the test texts: for each an intent and a confidence."""

    given: list[tuple[str, float]]
    training_seconds: float
    milliseconds: float


@dataclass(frozen=True)
class Figures:
    """Shares in percent.

    Attributes:
        accuracy: in-scope texts understood rightly, without a threshold.
        balanced: in scope and out of scope at the balanced threshold; empty if nothing is out of
            scope.
    """

    accuracy: float
    balanced: tuple[float, ...] = ()


def hint3(folder: Path, seed: int) -> list[IntentSet]:
    """Read the three sets of HINT3, whole; nothing is drawn."""
    return [
        IntentSet(
            name,
            rows_of(folder / "hint3" / "train" / f"{key}.csv", "sentence", "label"),
            [
                (text, None if label == _HINT3_OUT_OF_SCOPE else label)
                for text, label in rows_of(
                    folder / "hint3" / "test" / f"{key}.csv", "sentence", "label"
                )
            ],
            dict(PUBLISHED_HINT3[key]),
        )
        for key, name in _HINT3_NAMES.items()
    ]


def banking77(folder: Path, seed: int) -> list[IntentSet]:
    """Read BANKING77 with ten training examples a class."""
    training, test = (
        rows_of(folder / "banking77" / f"{part}.csv", "text", "category")
        for part in ("train", "test")
    )
    return [IntentSet("BANKING77", few(training, seed), [*test], _accuracies("banking77"))]


def clinc150(folder: Path, seed: int) -> list[IntentSet]:
    """Read CLINC150 with ten training examples a class, and none that is out of scope."""
    data = json.loads((folder / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    training = [(text, label) for text, label in data["train"]]
    test = [(text, label) for text, label in data["test"]]
    outside = [(text, None) for text, _ in data["oos_test"]]
    return [IntentSet("CLINC150", few(training, seed), [*test, *outside], _accuracies("clinc150"))]


SETS: dict[str, Callable[[Path, int], list[IntentSet]]] = {
    "hint3": hint3,
    "banking77": banking77,
    "clinc150": clinc150,
}


def _accuracies(key: str) -> dict[str, tuple[float, ...]]:
    return {system: (accuracy,) for system, accuracy in PUBLISHED_FEW_SHOT[key].items()}


def rows_of(path: Path, text: str, label: str) -> list[Row]:
    """Read a file of comma-separated values.

    Args:
        path: the file.
        text: the column of the texts.
        label: the column of the intents.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return [(row[text], row[label]) for row in csv.DictReader(file)]


def few(rows: Iterable[Row], seed: int) -> list[Row]:
    """Draw ten examples of each class.

    Args:
        rows: all examples.
        seed: the same seed draws the same examples.
    """
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, label in rows:
        by_label[label].append(text)
    draw = random.Random(seed)
    return [
        (text, label)
        for label in sorted(by_label)
        for text in draw.sample(by_label[label], EXAMPLES)
    ]


def our_answers(data: IntentSet) -> Answers:
    """Train our classifier and ask it, one text at a time."""
    from assistant.understanding.sentence_encoder import shared_encoder
    from assistant.understanding.spelling import Speller
    from assistant.understanding.topic_classifier import TopicClassifier
    from assistant.understanding.topic_model import TopicModel

    settings = {**TopicClassifier.get_default_config(), **classifier_entry()}
    encoder = shared_encoder(
        settings["encoder"], settings["encoder_sha256"], int(settings["encoder_threads"])
    )
    began = time.perf_counter()
    speller = Speller.learn([text for text, _ in data.training])
    texts = [speller.correct(text) for text, _ in data.training]
    labels = [label for _, label in data.training]
    model = TopicModel.fit(texts, labels, encoder.encode, float(settings["strength"]))
    trained = time.perf_counter()
    given = []
    for text, _ in data.test:
        corrected = speller.correct(text)
        best = model.score(corrected, encoder.encode([corrected])[0])[0]
        given.append((best.topic, best.confidence))
    asked = time.perf_counter() - trained
    return Answers(given, trained - began, 1000 * asked / len(given))


def classifier_entry() -> dict[str, Any]:
    """Return the entry of our classifier in config.yml.

    Raises:
        MeasuringError: there is none.
    """
    config = YAML(typ="safe").load((PROJECT / "config.yml").read_text(encoding="utf-8"))
    for entry in config["pipeline"]:
        if entry["name"] == CLASSIFIER:
            return dict(entry)
    raise MeasuringError(f"config.yml has no {CLASSIFIER}.")


class StockUnderstanding(Stock):
    """Stock Rasa's understanding alone, trained on the rows of a data set.

    Args:
        folder: where to write the project.
        rows: the training rows.
    """

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        super().__init__(folder, Path(sys.prefix), folder, _STOCK_EPOCHS)
        self._rows = rows
        self.intents = sorted({label for _, label in rows})

    def prepare(self) -> None:
        """Write the pipeline and the examples; intents by number, whatever their names hold."""
        self.folder.mkdir()
        config = stock_configuration(_STOCK_EPOCHS)
        pipeline = [part for part in config["pipeline"] if part["name"] in _STOCK_PARTS]
        number = {label: index for index, label in enumerate(self.intents)}
        examples: dict[int, list[str]] = defaultdict(list)
        for text, label in self._rows:
            examples[number[label]].append(f"- {_without_markup(text)}\n")
        nlu = [
            {"intent": f"intent_{index}", "examples": "".join(lines)}
            for index, lines in sorted(examples.items())
        ]
        for name, content in {
            "config.yml": {**config, "pipeline": pipeline, "policies": []},
            "nlu.yml": {"version": "3.1", "nlu": nlu},
            "domain.yml": {"version": "3.1", "intents": [entry["intent"] for entry in nlu]},
        }.items():
            write_yaml(self.folder / name, content)

    def training_command(self) -> list[str]:
        """Return `rasa train nlu`."""
        command = super().training_command()
        place = command.index("train") + 1
        return [*command[:place], "nlu", "--nlu", "nlu.yml", *command[place:]]


def _without_markup(text: str) -> str:
    """Return a text in one line and without the brackets that mark entities in Rasa's format."""
    return " ".join(text.replace("[", " ").replace("]", " ").split())


def stock_answers(data: IntentSet) -> Answers:
    """Train stock Rasa and ask it, one text at a time; the seconds are of the whole command."""
    with tempfile.TemporaryDirectory(prefix="understanding_") as name:
        stock = StockUnderstanding(Path(name) / "stock", data.training)
        stock.prepare()
        seconds = stock.train()
        if seconds is None:
            raise MeasuringError("The training was stopped, although it has no limit.")
        model = next((stock.folder / "models").glob("*.tar.gz"))
        given, milliseconds = in_own_process(stock_parsed, model, [text for text, _ in data.test])
    intents = {f"intent_{index}": label for index, label in enumerate(stock.intents)}
    named = [(intents.get(intent, ""), confidence) for intent, confidence in given]
    return Answers(named, seconds, milliseconds)


def stock_parsed(model: Path, texts: list[str]) -> tuple[list[tuple[str, float]], float]:
    """Return what a stock model understands, and the milliseconds for each text.

    Args:
        model: the trained model.
        texts: what to parse.
    """
    from rasa.core.agent import Agent

    agent = Agent.load(model_path=str(model))

    async def parse() -> list[tuple[str, float]]:
        parsed = [(await agent.parse_message(text))["intent"] for text in texts]
        return [(str(intent["name"]), float(intent["confidence"])) for intent in parsed]

    began = time.perf_counter()
    given = asyncio.run(parse())
    return given, 1000 * (time.perf_counter() - began) / len(texts)


def figures(data: IntentSet, answers: Answers) -> Figures:
    """Return the figures of a classifier.

    The balanced threshold is the confidence that makes the smaller of two shares the largest: of
    in-scope texts that are understood rightly and reach it, and of the others that do not.
    """
    labels = [label for _, label in data.test]
    inside = sum(label is not None for label in labels)
    outside = len(labels) - inside
    rows = sorted(zip(answers.given, labels, strict=True), key=lambda row: -row[0][1])
    accuracy = 100 * sum(given[0] == label for given, label in rows) / inside
    if not outside:
        return Figures(accuracy)
    right = accepted = 0
    shares = [(0.0, 100.0)]
    for place, ((intent, confidence), label) in enumerate(rows):
        right += intent == label
        accepted += label is None
        following = rows[place + 1][0][1] if place + 1 < len(rows) else None
        if confidence != following:  # a threshold cannot part equal confidences
            shares.append((100 * right / inside, 100 * (1 - accepted / outside)))
    return Figures(accuracy, max(shares, key=min))


def table_rows(data: IntentSet, measured: dict[str, Answers]) -> list[list[str]]:
    """Return the rows of the table for a data set.

    Args:
        data: the data set.
        measured: the answers of each classifier that was run, by its name.
    """
    rows = []
    for name, answers in measured.items():
        found = figures(data, answers)
        speed = [f"{answers.training_seconds:.1f}", f"{answers.milliseconds:.1f}"]
        rows.append([data.name, name, f"{found.accuracy:.1f}", *_balanced(found.balanced), *speed])
    for name, published in data.published.items():
        if len(published) > 1:
            rows.append([data.name, name, "", *_balanced(published), "", ""])
        else:
            rows.append([data.name, name, f"{published[0]:.1f}", *_balanced(()), "", ""])
    return rows


def _balanced(shares: tuple[float, ...]) -> list[str]:
    if not shares:
        return ["", ""]
    return [" / ".join(f"{share:.1f}" for share in shares), f"{min(shares):.1f}"]


def measure(arguments: argparse.Namespace) -> str:
    """Measure on all sets that are wanted and return the report."""
    began = dt.datetime.now().astimezone()
    chosen = [
        data for name in arguments.sets for data in SETS[name](arguments.folder, arguments.seed)
    ]
    rows = []
    for data in chosen:
        say(f"{data.name}: {len(data.training)} rows to train on, {len(data.test)} to ask.")
        measured = {_OURS: in_own_process(our_answers, data)}
        if arguments.stock:
            say(f"{data.name}: training and asking stock Rasa.")
            measured[_STOCK] = stock_answers(data)
        rows += table_rows(data, measured)
    header = ["Data set", "System", "Right intent, %", "In / out of scope, %", "Smaller, %"]
    header += ["Training, s", "ms per message"]
    lines = [
        "| " + " | ".join(header) + " |",
        "|---|---" + "|---:" * (len(header) - 2) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"- Measured from {began:%Y-%m-%d %H:%M %Z} on {os.cpu_count()} cores, seed "
        f"{arguments.seed}, load average {os.getloadavg()[0]:.1f} at the end. Rows without "
        "seconds are published figures.",
        "- Right intent: of the in-scope messages, without a threshold. In / out of scope: right "
        "and accepted, and turned away, at the threshold that makes the smaller one largest. It is "
        "found on the test messages, for all systems alike, as the published figures' was.",
        f"- HINT3: full training sets. BANKING77, CLINC150: {EXAMPLES} random examples a class, "
        "none out of scope.",
    ]
    if arguments.stock:
        lines.append(
            f"- Stock Rasa: {', '.join(_STOCK_PARTS)}, {_STOCK_EPOCHS} epochs; its seconds are "
            "those of the whole command `rasa train nlu`."
        )
    return "\n".join(lines) + "\n"


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in SETS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(SETS)}, separated by commas")
    return names


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.understanding",
        description="Measure this assistant's classifier on public intent data sets, beside "
        "published figures: right intents, messages rightly turned away, seconds of training, "
        "milliseconds for a message. The table is printed.",
        epilog="FOLDER holds hint3/{train,test}/*.csv (sentence,label), banking77/{train,test}.csv "
        "(text,category) and clinc150/data_full.json, as their authors publish them.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="the folder with the public data sets"
    )
    parser.add_argument(
        "--sets",
        type=_names,
        default=list(SETS),
        metavar="NAMES",
        help=f"which sets, separated by commas (default: {','.join(SETS)})",
    )
    parser.add_argument(
        "--stock",
        action="store_true",
        help="train the stock Rasa pipeline on the same rows too (minutes for each set)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="which examples are drawn where only ten a class are (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.md", help="write the table to this file too"
    )
    return parser.parse_args()


def main() -> None:
    """Measure, print the table and write it; a known problem is told and ends with code 1."""
    arguments = read_arguments()
    try:
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
        text = measure(arguments)
    except KeyError as error:
        sys.exit(f"A file of the data sets has no column or list {error}.")
    except (MeasuringError, OSError, ValueError) as error:
        sys.exit(str(error))
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
