"""SQLite that cannot do what it should."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time

from tests.faults import place as places
from tests.faults.services import fill, small_disk, tool
from tests.faults.trial import Trial, fault
from tests.faults.visitor import QUESTION


@fault("sqlite-locked", "small", "Another process holds SQLite's write lock for 20 s")
def sqlite_locked(trial: Trial) -> None:
    """Lock the file as a backup tool or a forgotten shell does."""
    booking = trial.booking("time")
    other = sqlite3.connect(trial.place.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with trial.storage_fails():
            trial.endure(booking, 20.0)
    finally:
        other.rollback()
        other.close()
    trial.recover()


@fault("sqlite-locked-briefly", "small", "Another process holds SQLite's write lock for 2 s")
def sqlite_locked_briefly(trial: Trial) -> None:
    """Lock the file for less than anybody's patience."""
    booking = trial.booking("time")
    other = sqlite3.connect(trial.place.database, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    import threading

    timer = threading.Timer(2.0, other.rollback)
    timer.start()
    try:
        sight = trial.note("the booking", booking.step())
        trial.must(sight.kind == "answer", f"2 s of waiting were too much: {sight}")
    finally:
        timer.join()
        other.close()
    trial.recover()


@fault(
    "sqlite-no-writes",
    "small",
    "The process may write to no file any more (prlimit --fsize=0), as on a read-only disk",
)
def sqlite_no_writes(trial: Trial) -> None:
    """Make each write fail, the log's too."""
    prlimit = tool("prlimit", "util-linux")
    booking = trial.booking("time")
    pid = str(trial.place.server.process.pid)
    subprocess.run([prlimit, f"--pid={pid}", "--fsize=0:unlimited"], check=True)
    try:
        with trial.storage_fails():
            trial.endure(booking, 3.0)
    finally:
        subprocess.run([prlimit, f"--pid={pid}", "--fsize=unlimited:unlimited"], check=True)
    trial.recover()


@fault("sqlite-disk-full", "", "The disk with the SQLite file is full")
def sqlite_disk_full(trial: Trial) -> None:
    """Put the database on a small file system and fill that."""
    with (
        small_disk("4m") as disk,
        places.small(DATABASE_URL=f"sqlite:///{disk / 'full.db'}") as place,
    ):
        trial.place = place
        place.engine = places.engine_of(f"sqlite:///{disk / 'full.db'}")
        booking = trial.booking("time")
        filler = disk / "filler"
        fill(filler)
        with trial.storage_fails():
            trial.endure(booking, 10.0)
        filler.unlink()
        trial.recover()


@fault("row-damaged-own", "small", "One row of a visitor's conversation is damaged")
def row_damaged_own(trial: Trial) -> None:
    """Damage the middle of the conversation that goes on."""
    booking = trial.booking("time")
    _damage(trial, booking.visitor.conversation_id)
    sight = trial.note("the visitor's next message", booking.visitor.say(QUESTION))
    trial.must(sight.kind == "answer", f"the conversation is dead: {sight}")
    trial.red_flag(booking.visitor)
    booking.asks = ""  # what the form had asked may be lost with the row
    trial.bookings.remove(booking)
    booking.go_to("")
    trial.must(booking.visitor.history(), "a reload shows nothing of the conversation")
    trial.recover()


@fault("row-damaged-other", "small", "One row of another visitor's conversation is damaged")
def row_damaged_other(trial: Trial) -> None:
    """Damage one conversation and look at another."""
    other, booking = trial.visitor(), trial.booking("time")
    other.say(QUESTION)
    _damage(trial, other.conversation_id)
    sight = trial.note("the booking", booking.step())
    trial.must(sight.kind == "answer", f"another conversation suffers: {sight}")
    trial.visitors.remove(other)
    trial.recover()


def _damage(trial: Trial, conversation_id: str) -> None:
    import sqlalchemy as sa

    with trial.place.engine.begin() as connection:
        rows = connection.execute(
            sa.text("select id from events where sender_id = :mine order by id"),
            {"mine": conversation_id},
        ).all()
        connection.execute(
            sa.text('update events set data = \'{"event": "user", broken\' where id = :row'),
            {"row": rows[len(rows) // 2][0]},
        )
        assert rows


@fault(
    "sqlite-file-deleted",
    "",
    "The SQLite file is deleted while the server runs; a restart makes a new one",
)
def sqlite_file_deleted(trial: Trial) -> None:
    """Delete what is open."""
    with places.small() as place:
        trial.place = place
        visitor = trial.visitor()
        visitor.say(QUESTION)
        for name in ("assistant.db", "assistant.db-wal", "assistant.db-shm"):
            (place.folder / name).unlink(missing_ok=True)
        trial.note("a question", visitor.say(QUESTION))
        trial.red_flag(visitor)
        place.server.stop()
        trial.visitors.clear()
        place.server.start().wait_ready()
        began = time.monotonic()
        trial.recover()
        trial.recovered = (
            f"restarted by hand; a new file, an answer within {time.monotonic() - began:.0f} s"
        )
        assert os.path.exists(place.database)
