"""PostgreSQL, and the wire to it, in all the ways that they fail."""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

from tests.faults.services import MissingToolError, fill, small_disk
from tests.faults.trial import Trial, fault
from tests.faults.visitor import OTHER_QUESTION, QUESTION


@fault("postgresql-away", "large", "PostgreSQL refuses all connections for 30 s, then is back")
def postgresql_away(trial: Trial) -> None:
    """Take the database away in the middle of a booking."""
    booking = trial.booking("time")
    wire = trial.wire("postgres")
    wire.refuse()
    try:
        with trial.storage_fails():
            trial.endure(booking, 30.0)
    finally:
        wire.restore()
    trial.recover()


@fault("postgresql-hangs", "large", "PostgreSQL takes connections and never answers, for 20 s")
def postgresql_hangs(trial: Trial) -> None:
    """Let the database fall silent."""
    booking = trial.booking("time")
    wire = trial.wire("postgres")
    wire.hang()
    try:
        with trial.storage_fails():
            trial.endure(booking, 20.0)
    finally:
        wire.reset()
        wire.restore()
    trial.recover()


@fault("postgresql-slow", "large", "Each answer of PostgreSQL comes 5 s late")
def postgresql_slow(trial: Trial) -> None:
    """Slow the database down."""
    booking = trial.booking("decision")
    wire = trial.wire("postgres")
    wire.delay(5.0)
    try:
        with trial.storage_fails():
            trial.endure(booking)
    finally:
        wire.restore()
    trial.recover(within=60.0)


@fault(
    "postgresql-connections-reset", "large", "All connections to PostgreSQL are reset, ten times"
)
def postgresql_connections_reset(trial: Trial) -> None:
    """Reset between two messages and during them."""
    booking, visitor = trial.booking("time"), trial.visitor()
    wire = trial.wire("postgres")
    for number in range(10):
        timer = threading.Timer(0.02 * number, wire.reset)
        timer.start()
        trial.note("a question", visitor.say(QUESTION))
        timer.join()
    wire.reset()
    trial.note("the booking", booking.step())
    trial.red_flag(trial.visitor())
    trial.recover()


@fault(
    "postgresql-cut-before-save",
    "large",
    "The connection is reset between a turn's reading and its saving",
)
def postgresql_cut_before_save(trial: Trial) -> None:
    """Cut when the first event is about to be written."""
    _cut(trial, "time", b"INSERT INTO events")


@fault(
    "postgresql-cut-after-commit",
    "large",
    "The connection is reset when the COMMIT of a turn was sent and its answer was not yet there",
)
def postgresql_cut_after_commit(trial: Trial) -> None:
    """Leave it open whether the turn is stored."""
    _cut(trial, "time", b"INSERT INTO events", b"COMMIT", reply_is_lost=True)


@fault(
    "postgresql-cut-before-request",
    "large",
    "The connection is reset when a contact request is about to be stored",
)
def postgresql_cut_before_request(trial: Trial) -> None:
    """Cut at the visitor's "send"."""
    _cut(trial, "decision", b"INSERT INTO contact_requests")


@fault(
    "postgresql-cut-after-request",
    "large",
    "The connection is reset when the COMMIT of a contact request was sent, before its answer",
)
def postgresql_cut_after_request(trial: Trial) -> None:
    """Leave it open whether the request is stored."""
    _cut(trial, "decision", b"INSERT INTO contact_requests", b"COMMIT", reply_is_lost=True)


def _cut(trial: Trial, asked: str, *markers: bytes, reply_is_lost: bool = False) -> None:
    booking = trial.booking(asked)
    wire = trial.wire("postgres")
    wire.cut_at(*markers, reply_is_lost=reply_is_lost)
    try:
        sight = trial.note("the booking", booking.step())
        denied = "does not have it" in sight.words and trial.requests_of(booking.visitor)
        trial.must(not denied, "the visitor was told that the office lacks what it has")
        trial.must(wire.tripped.is_set(), "the connection was not cut, so nothing was tested")
        if not booking.number:
            trial.note("the booking's next step", booking.step())
        trial.red_flag(trial.visitor())
    finally:
        wire.restore()
    trial.recover()


@fault(
    "postgresql-read-only", "large", "PostgreSQL becomes read-only, as when a standby takes over"
)
def postgresql_read_only(trial: Trial) -> None:
    """Refuse all writes."""
    booking = trial.booking("time")
    _set_read_only(trial, True)
    try:
        with trial.storage_fails():
            trial.endure(booking, 5.0)
    finally:
        _set_read_only(trial, False)
    trial.recover()


def _set_read_only(trial: Trial, read_only: bool) -> None:
    with trial.place.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.text("SET default_transaction_read_only = off"))
        name = connection.execute(sa.text("SELECT current_database()")).scalar()
        state = "on" if read_only else "off"
        connection.execute(
            sa.text(f"ALTER DATABASE {name} SET default_transaction_read_only = {state}")
        )
        _end_sessions(connection)


def _end_sessions(connection: sa.engine.Connection) -> None:
    connection.execute(
        sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


@fault("postgresql-tables-locked", "large", "LOCK TABLE holds the tables of all writes for 20 s")
def postgresql_tables_locked(trial: Trial) -> None:
    """Lock as a careless migration does."""
    booking = trial.booking("time")
    with trial.place.engine.connect() as connection, connection.begin():
        connection.execute(
            sa.text("LOCK TABLE events, contact_drafts, contact_requests IN ACCESS EXCLUSIVE MODE")
        )
        with trial.storage_fails():
            trial.endure(booking, 20.0)
    trial.recover()


@fault("postgresql-sessions-ended", "large", "The administrator ends all of the server's sessions")
def postgresql_sessions_ended(trial: Trial) -> None:
    """End the sessions as a restart of PostgreSQL does."""
    booking = trial.booking("time")
    with trial.place.engine.connect() as connection:
        _end_sessions(connection)
    with trial.storage_fails():
        trial.endure(booking)
    trial.recover()


@fault("postgresql-disk-full", "large", "The disk with PostgreSQL's tables is full")
def postgresql_disk_full(trial: Trial) -> None:
    """Move the tables to a small disk and fill it."""
    booking = trial.booking("time")
    with small_disk("16m") as disk:
        try:
            _move_tables(trial, f"LOCATION '{disk}'", disk)
            fill(disk / "filler")
            with trial.storage_fails():
                _use_up_the_rest(trial)
                trial.endure(booking, 5.0)
        finally:
            (disk / "filler").unlink(missing_ok=True)
            trial.recover()
            _move_tables_back(trial)


def _use_up_the_rest(trial: Trial) -> None:
    """Talk until the room in the tables' last pages is used up, too."""
    visitor = trial.visitor()
    query = sa.text("select count(*) from events where sender_id = :mine")
    before, deadline = -1, time.monotonic() + 60
    while time.monotonic() < deadline:
        visitor.say(OTHER_QUESTION)
        with trial.place.engine.connect() as connection:
            stored = connection.execute(query, {"mine": visitor.conversation_id}).scalar()
        if stored == before:
            return
        before = stored
    trial.must(False, "the disk never got full")


def _move_tables(trial: Trial, location: str, disk: object) -> None:
    import os

    os.chmod(str(disk), 0o777)  # noqa: S103 - PostgreSQL runs as another user
    if os.geteuid() == 0:
        os.chown(str(disk), 65_534, 65_534)
    with trial.place.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.execute(sa.text(f"CREATE TABLESPACE small {location}"))
        except sa.exc.DBAPIError as error:
            raise MissingToolError(f"needs a tablespace of its own: {error.orig}") from error
        for table in _TABLES:
            connection.execute(sa.text(f"ALTER TABLE {table} SET TABLESPACE small"))


_TABLES = ("events", "contact_drafts", "contact_requests")


def _move_tables_back(trial: Trial) -> None:
    with trial.place.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        for table in _TABLES:
            connection.execute(sa.text(f"ALTER TABLE {table} SET TABLESPACE pg_default"))
        connection.execute(sa.text("DROP TABLESPACE small"))
