"""The red-flag patterns alone: what they find, what they alarm at without need, and how long it takes.

    python -m bench.red_flags [FOLDER]

On the written phrasings of tests/data; with a folder also on its `dev_safety.tsv` and `dev.tsv` (columns
`text`, `label`, `group`, `kind`, parted by tabs), which are no part of the project.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import time
from collections import defaultdict
from pathlib import Path

from assistant.safety.detector import RedFlagDetector, load_detector
from bench.processes import PROJECT
from tests.phrasings import MUTATIONS, NEAR_MISSES, RED_FLAGS, rows

_ROUNDS = 3  # mutations of each kind for each phrasing


def written(detector: RedFlagDetector) -> None:
    """Print recall and false alarms on the written phrasings, and recall on their mutations."""
    for name in RED_FLAGS:
        found: dict[str, list[bool]] = defaultdict(list)
        for row in rows(name):
            found[row["rule"]].append(detector.scan(row["text"]) is not None)
        hits, total = sum(map(sum, found.values())), sum(map(len, found.values()))
        short = {rule: f"{sum(h)}/{len(h)}" for rule, h in found.items() if not all(h)}
        print(f"{name}: {hits} of {total} found ({hits / total:.1%}); not all of {short or 'none'}")
    for name in NEAR_MISSES:
        alarms = [detector.scan(row["text"]) is not None for row in rows(name)]
        print(f"{name}: {sum(alarms)} of {len(alarms)} alarmed ({sum(alarms) / len(alarms):.1%})")
    chance = random.Random(1)
    texts = [row["text"] for row in rows(*RED_FLAGS)]
    for kind, change in MUTATIONS.items():
        seen = [detector.scan(change(t, chance)) is not None for t in texts for _ in range(_ROUNDS)]
        print(f"{kind}: {sum(seen)} of {len(seen)} found ({sum(seen) / len(seen):.2%})")
    times = []
    for text in texts:
        start = time.perf_counter()
        detector.scan(text)
        times.append((time.perf_counter() - start) * 1000)
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"time of one search: p50 {statistics.median(times):.2f} ms, p95 {p95:.2f} ms")


def measured(detector: RedFlagDetector, folder: Path) -> None:
    """Print recall and false alarms on real messages."""
    safety, ordinary = _rows(folder / "dev_safety.tsv"), _rows(folder / "dev.tsv")
    red = [detector.scan(r["text"]) is not None for r in safety if r["group"] == "red_flag"]
    print(f"dev_safety.tsv: {sum(red)} of {len(red)} found ({sum(red) / len(red):.1%})")
    for kind in ("strict", "soft"):
        near = [detector.scan(r["text"]) is not None for r in safety if r["kind"] == kind]
        print(f"dev_safety.tsv, {kind} near-misses: {sum(near)} of {len(near)} alarmed")
    scope = [r for r in ordinary if not r["label"].startswith("out_of_scope")]
    alarmed = [r for r in scope if detector.scan(r["text"])]
    plain = [r for r in alarmed if "safety/" not in r["label"]]
    print(
        f"dev.tsv: {len(alarmed)} of {len(scope)} in scope alarmed, "
        f"{len(plain)} of them not labelled as red flags"
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of dev_safety.tsv and dev.tsv")
    folder = parser.parse_args().folder
    detector = load_detector(PROJECT)
    written(detector)
    if folder:
        measured(detector, folder)


if __name__ == "__main__":
    main()
