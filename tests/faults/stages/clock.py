"""The machine's clock, which jumps."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults import place as places
from tests.faults.place import new_folder
from tests.faults.services import MissingToolError
from tests.faults.trial import Trial, fault
from tests.faults.visitor import OTHER_QUESTION, QUESTION, Visitor

_RIGHT = "+0"


def _faketime() -> str:
    for folder in ("/usr/lib", "/usr/local/lib"):
        for path in Path(folder).glob("**/libfaketimeMT.so.1"):
            return str(path)
    raise MissingToolError("needs libfaketime (Debian package faketime)")


def _clock(trial: Trial, then: str, what: str) -> None:
    with new_folder() as folder:
        clock = folder / "clock"
        clock.write_text(_RIGHT)
        settings = {
            "LD_PRELOAD": _faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            # A clock that is set does not touch the time since the machine's start.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "WEBCHAT_SESSION_HOURS": "72",
            "DRAFT_MINUTES": "1440",
        }
        with places.small(folder, **settings) as place:
            trial.place = place
            booking, visitor = trial.booking("time"), trial.visitor()
            visitor.say(QUESTION)
            clock.write_text(then)
            # A form that nobody touched for an hour is given up.
            booking.may_begin_again = then.startswith("+")
            _talk(trial, visitor, what)
            trial.note("the booking", booking.step())
            clock.write_text(_RIGHT)
            _talk(trial, visitor, "once the clock is right again")
            trial.recover()


def _talk(trial: Trial, visitor: Visitor, what: str) -> None:
    trial.note(f"a question {what}", visitor.say(OTHER_QUESTION))
    trial.red_flag(trial.visitor())
    time.sleep(1.0)  # so that what runs beside the conversations sees the clock, too


@fault("clock-jumps-ahead", "", "The clock jumps 23 hours ahead, and back again")
def clock_jumps_ahead(trial: Trial) -> None:
    """Set the clock ahead."""
    _clock(trial, "+23h", "23 hours later")


@fault("clock-jumps-back", "", "The clock jumps a day back, and ahead again")
def clock_jumps_back(trial: Trial) -> None:
    """Set the clock back."""
    _clock(trial, "-24h", "a day earlier")
