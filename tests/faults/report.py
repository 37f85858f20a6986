"""How the faults went, as lines on the screen and as a table for the documentation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PROJECT
from tests.faults.trial import Fault

_RESULTS = PROJECT / "results" / "faults"

_HEAD = """# What breaks, and what the visitor sees

`make faults` stages each of these faults around real servers and writes this page. In all of them
visitors ask questions, report an emergency and book an appointment while the fault is there.
Required of each: every message gets a visible answer or an honest refusal (503 with a sentence and
`Retry-After`), advice on an emergency always comes, no confirmed request is lost or doubled, no
answered message is missing from the conversation or out of order, and the process answers normally
afterwards. A visitor who got no answer sends the same message again, as the widget does.

`python -m tests.faults --list` names the faults, `--only NAME` stages one.

"""


@dataclass(frozen=True)
class Outcome:
    """How one fault went.

    Attributes:
        fault: which.
        seen: what visitors saw.
        recovered: how all was well again.
        problems: what should not have been; empty if all was as promised.
        not_staged: why it could not be staged on this machine; "" if it was.
        seconds: how long it took.
    """

    fault: Fault
    seen: list[str]
    recovered: str
    problems: list[str]
    not_staged: str
    seconds: float

    @property
    def verdict(self) -> str:
        """One word or two."""
        if self.not_staged:
            return "not staged"
        return "FAILED" if self.problems else "as promised"

    def __str__(self) -> str:
        lines = [f"{self.verdict:12} {self.fault.name} ({self.seconds:.0f} s): {self.fault.done}"]
        lines += [f"    saw {line}" for line in self.seen]
        lines += [f"    recovered {self.recovered}"] if self.recovered else []
        lines += [f"    PROBLEM {problem}" for problem in self.problems]
        lines += [f"    NOT STAGED: {self.not_staged}"] if self.not_staged else []
        return "\n".join(lines)


def keep(outcome: Outcome) -> None:
    """Keep an outcome for the report, in place of the one before."""
    _RESULTS.mkdir(parents=True, exist_ok=True)
    values = {name: value for name, value in vars(outcome).items() if name != "fault"}
    (_RESULTS / f"{outcome.fault.name}.json").write_text(json.dumps(values, indent=1))


def write_report(path: Path, faults: list[Fault]) -> None:
    """Write the table of the last outcome of each fault."""
    outcomes = []
    for fault in faults:
        kept = _RESULTS / f"{fault.name}.json"
        if kept.exists():
            outcomes.append(Outcome(fault, **json.loads(kept.read_text())))
    good = sum(outcome.verdict == "as promised" for outcome in outcomes)
    lines = [
        f"{len(outcomes)} faults were staged; {good} went as promised.",
        "",
        "| fault | what was done | what the visitor saw | how it recovered |",
        "|---|---|---|---|",
    ]
    for outcome in outcomes:
        if outcome.problems:
            end = "**Not as promised:** " + "; ".join(outcome.problems[:3])
        else:
            end = outcome.recovered or f"not staged: {outcome.not_staged}"
        cells = (outcome.fault.name, outcome.fault.done, "<br>".join(outcome.seen[:6]), end)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    path.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
