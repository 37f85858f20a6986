"""Our assistant beside stock Rasa and beside rules-only Rasa: same data, same machine, one run.

Each is trained, started as its users would start it, and talked to over HTTP from another process.
They take turns, every two seconds where that can be, so that what else the machine does weighs on
all. docs/performance.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import environments
from bench.assistants import Assistant, Ours, RulesOnly, Stock, read_yaml, write_yaml
from bench.parts import (
    FULL,
    QUICK,
    SERVER_PARTS,
    START,
    Notes,
    Scale,
    ServerParts,
    measure_training,
    measure_workers,
)
from bench.processes import PROJECT, MeasuringError, say
from bench.report import Results, markdown, picture

RESULTS = PROJECT / "bench" / "results"
PARTS = ("install", START, *SERVER_PARTS, "memory", "workers", "training")

_FULL_EPOCHS = 100  # Rasa's own figure
_SPEED_EPOCHS = 2  # speed and memory do not depend on how often the examples were shown
_KEPT_MODELS = environments.CACHE / "models"


class Bench:
    """One run.

    Args:
        arguments: the command line.
        folder: an empty folder for the projects.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self._folder = folder
        self._ours = environments.our_environment()
        self._stock = environments.stock_environment()
        self.notes = Notes()

    def measure(self) -> None:
        """Measure what the command line asks for.

        Raises:
            MeasuringError: something cannot be measured.
        """
        parts: set[str] = set(self._arguments.only)
        scale = _scale(self._arguments)
        if "install" in parts:
            for name, environment in (("ours", self._ours), ("stock Rasa", self._stock)):
                size = environments.size_megabytes(environment)
                self.notes.note(name, 0, "installed packages, MB", size)
        if parts - {"install", "training"}:
            assistants = self._assistants("served", _SPEED_EPOCHS)
            for assistant in assistants:
                give_model(assistant)
            self._serve(assistants, parts, scale)
        if "training" in parts:
            # Ours and the rules first: what is known soon is known soon.
            limit = 60 * self._arguments.stock_training_limit
            for assistant in self._assistants("trained", _FULL_EPOCHS)[::-1]:
                measure_training(assistant, 0, self.notes, limit)

    def _serve(self, assistants: list[Assistant], parts: set[str], scale: Scale) -> None:
        measuring = ServerParts(self.notes, scale)
        for round_ in range(scale.rounds):
            first = round_ % len(assistants)
            in_turn = assistants[first:] + assistants[:first]
            if parts & {START, *SERVER_PARTS}:
                measuring.measure(in_turn, round_, parts)
            if "workers" in parts and isinstance(assistants[0], Ours):
                measure_workers(assistants[0], round_, self.notes, scale)
            if "memory" in parts and not round_:  # ten thousand messages take long enough once
                for assistant in in_turn:
                    measuring.measure_memory(assistant, round_)

    def _assistants(self, name: str, epochs: int) -> list[Assistant]:
        ours = Ours(self._folder / name / "ours", self._ours)
        ours.prepare()
        if self._arguments.examples:
            keep_few_examples(ours.folder, self._arguments.examples)
        stock = Stock(self._folder / name / "stock", self._stock, ours.folder, epochs)
        rules = RulesOnly(self._folder / name / "rules", self._stock, ours.folder)
        stock.prepare()
        rules.prepare()
        return [ours, stock, rules]


def give_model(assistant: Assistant) -> None:
    """Train, or take the model that was trained from the same files before.

    Raises:
        MeasuringError: the training failed.
    """
    digest = hashlib.sha256()
    for path in sorted(assistant.folder.rglob("*")):
        if path.suffix in (".yml", ".py", ".txt"):
            digest.update(path.relative_to(assistant.folder).as_posix().encode())
            digest.update(path.read_bytes())
    kept = _KEPT_MODELS / digest.hexdigest()[:16]
    if not kept.exists():
        say(f"Training {assistant.name}; the model is kept for later runs.")
        assistant.train()
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as name:
            half = Path(name) / "models"
            shutil.copytree(assistant.folder / "models", half)
            half.rename(kept)  # whole or not at all
    shutil.copytree(kept, assistant.folder / "models", dirs_exist_ok=True)


def keep_few_examples(project: Path, count: int) -> None:
    """Cut the training data for a trial, and the self-test to what it then still answers."""
    for path in sorted((project / "data").rglob("*.yml")):
        document = read_yaml(path)
        for block in document.get("nlu") or []:
            lines = str(block.get("examples", "")).splitlines()
            block["examples"] = "".join(f"{line}\n" for line in lines[:count])
        if document.get("nlu"):
            write_yaml(path, document)
    golden = {"golden_questions": [{"ask": "thanks a lot", "topic": "thank"}]}
    write_yaml(project / "data" / "golden_questions.yml", golden)


def circumstances(arguments: argparse.Namespace, began: dt.datetime, load: float) -> dict[str, str]:
    """Return under what conditions was measured, for the report."""
    scale = dataclasses.asdict(_scale(arguments))
    found = {
        "machine": f"{os.cpu_count()} cores, {_processor()}, {_memory_gigabytes():.0f} GB",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "when": f"{began:%Y-%m-%d %H:%M %Z}, load average {load:.1f} before",
        "our environment": _versions(environments.our_environment()),
        "stock environment": _versions(environments.stock_environment()),
        "how": ", ".join(f"{name} {value}" for name, value in scale.items()),
        "stock model": f"{_SPEED_EPOCHS} epochs for speed and memory, {_FULL_EPOCHS} for training",
    }
    if arguments.examples:
        found["trial"] = f"at most {arguments.examples} examples a topic: figures of a trial"
    if load > 0.5:
        found["busy"] = "others used the machine, so times are longer than they need be"
    return found


def _versions(environment: Path) -> str:
    versions = environments.package_versions(environment)
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def _memory_gigabytes() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _scale(arguments: argparse.Namespace) -> Scale:
    scale = QUICK if arguments.quick else FULL
    return dataclasses.replace(scale, rounds=arguments.rounds) if arguments.rounds else scale


def write_report(results: dict[str, Any], out: Path) -> str:
    """Write the report and its picture, and return the report.

    Args:
        results: what was measured.
        out: the Markdown file; the picture goes beside it.
    """
    found = Results(results)
    image = out.with_suffix(".svg")
    image.write_text(picture(found), encoding="utf-8")
    text = markdown(found, image.name)
    out.write_text(text, encoding="utf-8")
    return text


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {unknown[0]}; take of {', '.join(PARTS)}")
    return parts


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.beside_stock",
        description="Measure this assistant beside stock Rasa and rules-only Rasa, on the same data "
        "and machine. Writes a table, a picture and the raw results to bench/results/.",
        epilog=f"Parts: {', '.join(PARTS)}.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, without training")
    parser.add_argument(
        "--only", type=_parts, metavar="PART,PART", help="measure these parts (default: all)"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="how often to measure")
    parser.add_argument(
        "--stock-training-limit",
        type=_positive,
        default=30,
        metavar="MINUTES",
        help="stop a training then; its figure is a lower bound (default: %(default)s)",
    )
    parser.add_argument(
        "--examples",
        type=_positive,
        metavar="N",
        help="keep so many examples a topic, for a trial of the measuring itself",
    )
    parser.add_argument(
        "--report", type=Path, metavar="RESULTS.json", help="only make a report again"
    )
    arguments = parser.parse_args()
    if not arguments.only:
        arguments.only = [part for part in PARTS if not (arguments.quick and part == "training")]
    return arguments


def main() -> None:
    """Measure, and write what was found; a known problem is told and ends with code 1."""
    arguments = read_arguments()
    try:
        if arguments.report:
            results = json.loads(arguments.report.read_text(encoding="utf-8"))
            print(write_report(results, arguments.report.with_suffix(".md")))
            return
        print(_measure(arguments))
    except (MeasuringError, OSError, ValueError) as error:
        sys.exit(str(error))


def _measure(arguments: argparse.Namespace) -> str:
    began, load = dt.datetime.now().astimezone(), os.getloadavg()[0]
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"beside_stock_{began:%Y%m%d_%H%M%S}.md"
    with tempfile.TemporaryDirectory(prefix="beside_stock_") as name:
        bench = Bench(arguments, Path(name))
        facts = circumstances(arguments, began, load)
        try:
            bench.measure()
        finally:  # what was measured before a failure is kept
            notes = dataclasses.asdict(bench.notes)
            results = {"circumstances": facts, **notes}
            out.with_suffix(".json").write_text(json.dumps(results), encoding="utf-8")
    say(f"Written to {out}, with picture and raw results beside it.")
    return write_report(results, out)


if __name__ == "__main__":
    main()
