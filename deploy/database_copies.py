"""What `deploy/backup` and `deploy/restore` share: which database, and whether a copy of it is whole.

Needs only Python 3.8 and, for PostgreSQL, its client programs: it also runs on a machine that has the
database but not the assistant.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SUFFIXES = {"sqlite": ".sqlite", "postgresql": ".dump"}
NAME = re.compile(r"assistant-(\d{8}T\d{6}Z)\.(sqlite|dump)(\.partial)?")

KEYS_ARE_APART = (
    "The keys are not in it. Keep copies of CONTACT_KEYS and WEBCHAT_SECRET elsewhere: without\n"
    "CONTACT_KEYS nobody can read the contact requests, and beside the copy they would protect nothing."
)


class CopyError(RuntimeError):
    """A copy cannot be made or used; the message says why and what to do."""


@dataclass(frozen=True)
class Database:
    """Where the assistant's database is.

    Attributes:
        kind: "sqlite" or "postgresql".
        path: SQLite's file.
        options: what tells PostgreSQL's programs the server and the database, without the password.
        variables: the password and how the connection is secured, for their environment.
        client: words before the programs' names, as `docker compose exec -T database`.
    """

    kind: str
    path: Path = Path()
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    client: tuple[str, ...] = ()

    def program(self, name: str, *arguments: str) -> list[str]:
        """Return the command line of a PostgreSQL program.

        Raises:
            CopyError: there is no such program.
        """
        command = [*self.client, name]
        if not shutil.which(command[0]):
            raise CopyError(
                f"There is no {command[0]} here. Install PostgreSQL's client programs (Debian: "
                f"apt-get install postgresql-client), of the server's version or newer."
            )
        return [*command, *self.options, *arguments]

    def environment(self) -> dict[str, str]:
        """Return the environment for PostgreSQL's programs; no list of processes shows it."""
        return {**os.environ, "PGCONNECT_TIMEOUT": "10", **self.variables}


def find_database(client: str = "") -> Database:
    """Return the database that the assistant's settings name.

    These are `DATABASE_URL`, the file `DATABASE_URL_FILE`, or else `var/assistant.db` in
    `ASSISTANT_HOME` or the current folder.

    Args:
        client: words before the names of PostgreSQL's programs, which then use the server's own
            socket: host, port and password of the address are left out.

    Raises:
        CopyError: the address cannot be read.
    """
    url = os.environ.get("DATABASE_URL", "")
    file = os.environ.get("DATABASE_URL_FILE", "")
    if not url and file:
        try:
            url = Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CopyError(f"DATABASE_URL_FILE cannot be read: {error}") from error
    if not url:
        home = Path(os.environ.get("ASSISTANT_HOME") or ".").resolve()
        return Database("sqlite", path=home / "var" / "assistant.db")
    scheme, _, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if kind == "sqlite" and rest.startswith("/") and len(rest) > 1:
        return Database("sqlite", path=Path(rest[1:].partition("?")[0]).resolve())
    if kind not in ("postgresql", "postgres"):
        raise CopyError("DATABASE_URL must begin with sqlite:/// or postgresql://.")
    parts = urlsplit(f"postgresql://{rest}")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        given = {
            "--host": query.get("host") or unquote(parts.hostname or ""),
            "--port": query.get("port") or str(parts.port or ""),
            "--username": unquote(parts.username or ""),
            "--dbname": unquote(parts.path.lstrip("/")),
        }
    except ValueError as error:
        raise CopyError(f"DATABASE_URL cannot be read: {error}.") from error
    if not given["--dbname"]:
        raise CopyError("DATABASE_URL names no database: postgresql://user:password@host/name.")
    variables = {f"PG{name.upper()}": query[name] for name in query if name.startswith("ssl")}
    if parts.password:
        variables["PGPASSWORD"] = unquote(parts.password)
    if client:  # they run where the server does, and reach it without a network or a password
        given["--host"] = given["--port"] = ""
        variables = {}
    options = tuple(f"{name}={value}" for name, value in given.items() if value)
    return Database(
        "postgresql", options=options, variables=variables, client=tuple(shlex.split(client))
    )


def run(command: list[str], database: Database, **files: object) -> str:
    """Run a program of PostgreSQL's; return what it printed, unless `files` send it elsewhere.

    Raises:
        CopyError: it failed; with its own words.
    """
    files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **files}
    done = subprocess.run(  # noqa: S603 - no shell, and the words are the operator's own
        command, env=database.environment(), stderr=subprocess.PIPE, check=False, **files
    )
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise CopyError(f"{command[len(database.client)]}: {words}")
    return (done.stdout or b"").decode(errors="replace")


def check(copy: Path, database: Database) -> None:
    """Read a copy from end to end.

    Raises:
        CopyError: it is damaged, or not a copy of this kind of database.
    """
    with copy.open("rb") as file:
        start = file.read(16)
    kind = {b"SQLite format 3\0": "sqlite"}.get(start) or (
        "postgresql" if start.startswith(b"PGDMP") else ""
    )
    if not kind:
        raise CopyError(f"{copy} is no copy of a database: it begins as none does.")
    if kind != database.kind:
        raise CopyError(f"{copy} is a copy of {kind}, but DATABASE_URL names {database.kind}.")
    if kind == "sqlite":
        _check_sqlite(copy)
        return
    without_options = Database("postgresql", client=database.client)
    for arguments in (["--list"], ["--file=-"]):  # what is in it; then all of it, to nowhere
        command = without_options.program("pg_restore", *arguments)
        with copy.open("rb") as file:
            keep = subprocess.PIPE if arguments == ["--list"] else subprocess.DEVNULL
            listed = run(command, database, stdin=file, stdout=keep)
        if keep is subprocess.PIPE and "TABLE DATA public alembic_version" not in listed:
            raise CopyError(f"{copy} is not of the assistant's database: it has no migrations.")


def _check_sqlite(copy: Path) -> None:
    try:
        with closing(
            sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as found:
            answer = found.execute("PRAGMA integrity_check").fetchone()[0]
            tables = {row[0] for row in found.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        raise CopyError(f"{copy} is damaged: {error}.") from error
    if answer != "ok":
        raise CopyError(f"{copy} is damaged: {answer}.")
    if "alembic_version" not in tables:
        raise CopyError(f"{copy} is not of the assistant's database: it has no migrations.")


def checksum_file(copy: Path) -> Path:
    """Return where a copy's checksum is kept, in the form of `sha256sum`."""
    return copy.with_name(f"{copy.name}.sha256")


def digest(copy: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    sum_ = hashlib.sha256()
    with copy.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return sum_.hexdigest()
            sum_.update(block)


def new_file(path: Path) -> None:
    """Make an empty file that only its owner may read."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def to_disk(*paths: Path) -> None:
    """Wait until files or folders are on the disk, so that a power cut does not undo them."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
