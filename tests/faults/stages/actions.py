"""Custom actions that fail."""

from __future__ import annotations

from tests.faults.trial import Trial, fault
from tests.faults.visitor import QUESTION

_REPEAT = "can you repeat that please"


def _failing(trial: Trial, order: str) -> None:
    visitor, hurt = trial.visitor(), trial.visitor()
    visitor.say(QUESTION)
    trial.place.actions_control.write_text(order)
    try:
        trial.note("what needs the action", visitor.say(_REPEAT))
        trial.note("a question", visitor.say(QUESTION))
        trial.red_flag(hurt)
    finally:
        trial.place.actions_control.unlink()
    sight = visitor.say(_REPEAT)
    trial.must(set(sight.topics) == {"repeat"}, f"the action does not work again: {sight}")
    trial.recover()


@fault("action-raises", "small", "A custom action raises an error")
def action_raises(trial: Trial) -> None:
    """Break."""
    _failing(trial, "raise")


@fault("action-hangs", "small", "A custom action never ends")
def action_hangs(trial: Trial) -> None:
    """Hang."""
    _failing(trial, "hang")


@fault("action-says-nothing", "small", "A custom action returns nothing and says nothing")
def action_says_nothing(trial: Trial) -> None:
    """Stay mute."""
    _failing(trial, "nothing")


@fault("action-returns-garbage", "small", "A custom action returns a string instead of events")
def action_returns_garbage(trial: Trial) -> None:
    """Return what is no list of events."""
    _failing(trial, "garbage")


@fault("action-exits", "small", "A custom action raises SystemExit")
def action_exits(trial: Trial) -> None:
    """Try to end the process."""
    _failing(trial, "exit")


@fault(
    "action-raises-after-storing",
    "small",
    "The action that sends a contact request raises when the request has been stored",
)
def action_raises_after_storing(trial: Trial) -> None:
    """Fail between the desk's receipt and the visitor's."""
    booking = trial.booking("decision")
    trial.place.actions_control.write_text("raise")
    try:
        trial.note("the booking", booking.step())
        trial.note("the booking, sent again", booking.step())
    finally:
        trial.place.actions_control.unlink()
    trial.recover()


@fault(
    "action-hangs-after-storing",
    "small",
    "The action that sends a contact request hangs when the request has been stored",
)
def action_hangs_after_storing(trial: Trial) -> None:
    """Hang between the desk's receipt and the visitor's."""
    booking = trial.booking("decision")
    trial.place.actions_control.write_text("hang")
    try:
        trial.note("the booking", booking.step())
    finally:
        trial.place.actions_control.unlink()
    trial.recover()
