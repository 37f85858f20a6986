"""Stage the faults, one after the other, and write the table."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from tests.faults import place as places
from tests.faults.place import Place
from tests.faults.report import Outcome, keep, write_report
from tests.faults.services import MissingToolError
from tests.faults.stages import FAULTS
from tests.faults.trial import Fault, Trial

_OPEN = {"small": places.small, "large": places.large}


class Places:
    """The running installations; one of a kind, begun anew when a fault has spoiled it."""

    def __init__(self) -> None:
        self._kind = ""
        self._place: Place | None = None
        self._stack = ExitStack()

    def of_kind(self, kind: str) -> Place:
        """Return a running installation of a kind."""
        if kind != self._kind:
            self.close()
            self._place = self._stack.enter_context(_OPEN[kind]())
            self._kind = kind
        assert self._place is not None
        return self._place

    def close(self) -> None:
        """Stop what runs."""
        self._stack.close()
        self._kind = ""


def stage(fault: Fault, opened: Places) -> Outcome:
    """Stage one fault; return how it went."""
    began = time.monotonic()
    trial = None
    problems: list[str] = []
    not_staged = ""
    try:
        if not fault.place:
            opened.close()
        place = opened.of_kind(fault.place) if fault.place else None
        trial = Trial(fault, place)  # type: ignore[arg-type]
        fault.stage(trial)
    except MissingToolError as error:
        not_staged = str(error)
    except Exception as error:
        traceback.print_exc()
        problems.append(f"{type(error).__name__}: {str(error)[:1500]}")
    if trial is not None:
        problems = trial.problems + problems
    if problems:
        opened.close()  # whatever is wrong there must not reach the next fault
    return Outcome(
        fault,
        trial.seen if trial else [],
        trial.recovered if trial else "",
        problems,
        not_staged,
        time.monotonic() - began,
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the faults and stop")
    parser.add_argument("--only", action="append", metavar="NAME", help="stage these alone")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the table of the last outcomes there"
    )
    arguments = parser.parse_args()
    if arguments.list:
        for fault in FAULTS:
            print(f"{fault.name:34} {fault.done}")
        return
    names = {fault.name for fault in FAULTS}
    unknown = [name for name in arguments.only or [] if name not in names]
    if unknown:
        parser.error(f"no fault is named {', '.join(unknown)}; --list names them")
    opened = Places()
    outcomes = []
    try:
        for fault in FAULTS:
            if arguments.only and fault.name not in arguments.only:
                continue
            outcome = stage(fault, opened)
            outcomes.append(outcome)
            keep(outcome)
            print(outcome, flush=True)
    finally:
        opened.close()
    if arguments.report:
        write_report(arguments.report, FAULTS)
    failed = [outcome for outcome in outcomes if outcome.problems]
    staged = [outcome for outcome in outcomes if not outcome.not_staged]
    print(f"{len(staged)} faults staged, {len(failed)} with problems.")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
