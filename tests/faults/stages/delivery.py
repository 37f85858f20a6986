"""The mail server and the webhook receiver of the office."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from tests.faults.trial import Trial, fault


@fault(
    "office-away-for-an-hour",
    "large",
    "The mail server refuses connections and the webhook answers 500 for an hour: ten "
    "attempts of each message, made due one after the other in place of waiting",
)
def office_away_for_an_hour(trial: Trial) -> None:
    """Let an hour's attempts fail, then one succeed."""
    wire = trial.wire("smtp")
    wire.refuse()
    trial.place.webhook.status = 500
    booking = trial.booking("decision")
    try:
        trial.endure(booking)
        booking.go_to("")
        # Attempts are 15 s apart at first, then twice as long: ten take more than an hour.
        _until(trial, booking.number, lambda rows: all(row.attempts >= 10 for row in rows))
    finally:
        wire.restore()
        trial.place.webhook.status = 200
    _until(trial, booking.number, lambda rows: all(row.state == "delivered" for row in rows))
    mails = [m for m in trial.place.mail.mails if booking.number in m.as_string()]
    calls = [c for c in trial.place.webhook.calls if booking.number.encode() in c.body]
    trial.must(len(mails) == 1, f"{len(mails)} mails arrived")
    trial.must(len(calls) == 1, f"{len(calls)} calls of the webhook arrived")
    trial.recovered = "one mail and one call of the webhook arrived after the hour"
    trial.recover()


def _until(trial: Trial, number: str, enough: Callable[[list[Any]], bool]) -> None:
    """Make what is pending due again and again, until the outbox is as it should be."""
    deadline = time.monotonic() + 60
    query = sa.text("select state, attempts, last_error from outbox where number = :number")
    while True:
        with trial.place.engine.connect() as connection:
            rows = connection.execute(query, {"number": number}).all()
        if len(rows) == 2 and enough(rows):
            return
        assert time.monotonic() < deadline, f"the outbox does not move: {rows}"
        _make_due(trial, number)
        time.sleep(0.5)  # between looks; the deadline decides


def _make_due(trial: Trial, number: str) -> None:
    with trial.place.engine.begin() as connection:
        connection.execute(
            sa.text(
                "update outbox set next_attempt_at = 0 where number = :number and state = 'pending'"
            ),
            {"number": number},
        )


@fault("mail-server-hangs", "large", "The mail server takes connections and never answers")
def mail_server_hangs(trial: Trial) -> None:
    """Let the mail server fall silent; the webhook must not wait for it."""
    wire = trial.wire("smtp")
    wire.hang()
    booking = trial.booking("decision")
    try:
        booking.go_to("")
        trial.endure(trial.booking("time"))
        deadline = time.monotonic() + 20
        while not any(booking.number.encode() in call.body for call in trial.place.webhook.calls):
            assert time.monotonic() < deadline, "the webhook waits for the mail server"
            time.sleep(0.1)  # between looks; the deadline decides
    finally:
        wire.reset()
        wire.restore()
    trial.recover()
    _until(trial, booking.number, lambda rows: all(row.state == "delivered" for row in rows))
