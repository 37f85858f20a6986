"""The one database: SQLite in a file by default, PostgreSQL by address."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import copy_context
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from assistant.storage.migrate import migrate

Result = TypeVar("Result")

_PAUSES = (0.05, 0.2)  # seconds before the second and the third try
_PATIENCE = 8.0  # seconds that a visitor waits for one call, all its tries together
_KEPT_CONNECTIONS = 8  # to SQLite, for as many threads at once; to open one takes a millisecond

metadata = sa.MetaData()
"""All tables, made by `assistant/storage/migrations`.

Points in time are seconds since 1970. Columns named `sealed` hold encrypted personal data.
"""

events = sa.Table(  # as Rasa's SQL tracker store has it, so that Rasa's own tools can read it
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sender_id", sa.String(255), nullable=False, index=True),
    sa.Column("type_name", sa.String(255), nullable=False),
    sa.Column("timestamp", sa.Float),
    sa.Column("intent_name", sa.String(255)),
    sa.Column("action_name", sa.String(255)),
    sa.Column("data", sa.Text),
    sa.Index("events_of_conversation", "sender_id", "type_name", "id"),
)

event_outbox = sa.Table(  # what RabbitMQ was not told yet; empty without AMQP_URL
    "event_outbox",
    metadata,
    sa.Column(
        "event_id", sa.Integer, sa.ForeignKey("events.id", ondelete="CASCADE"), primary_key=True
    ),
)

ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("expires_at", sa.Float, nullable=False),
)

red_flag_counts = sa.Table(
    "red_flag_counts",
    metadata,
    sa.Column("day", sa.Text, primary_key=True),  # UTC, as 2026-11-24
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("level", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("message_id", sa.String(64), primary_key=True),  # what was answered
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("helpful", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("given_at", sa.Float, nullable=False),
)

content_changes = sa.Table(  # what editors changed on the staff pages
    "content_changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False, index=True),
    sa.Column("difference", sa.Text, nullable=False),
    sa.Column("regions", sa.Text, nullable=False),  # lines before and after, to take it back
    sa.Column("undoes", sa.Integer, nullable=False),  # 0 unless it takes another back
)

settled_questions = sa.Table(  # visitors' questions that an editor has seen to
    "settled_questions",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),  # of the words, which are not kept here
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),  # the topic it was added to, or dismissed
)

published_models = sa.Table(
    "published_models",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # of the model file
    sa.Column("sha256", sa.String(64), nullable=False),
)

contact_drafts = sa.Table(
    "contact_drafts",
    metadata,
    sa.Column("conversation_id", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text, nullable=False),
    sa.Column("sealed", sa.Text),  # empty once the draft was sent
    sa.Column("expires_at", sa.Float, nullable=False),
)

contact_requests = sa.Table(
    "contact_requests",
    metadata,
    sa.Column("number", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text, nullable=False, unique=True),
    sa.Column("conversation_id", sa.Text, index=True),  # empty once it was erased
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("sealed", sa.Text),  # empty once the request was withdrawn
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

contact_status_history = sa.Table(
    "contact_status_history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "number",
        sa.Text,
        sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("message_id", sa.Text, primary_key=True),  # the same at every attempt
    sa.Column(
        "number",
        sa.Text,
        sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
        nullable=False,
    ),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),  # new or withdrawn
    sa.Column("state", sa.Text, nullable=False),  # pending, delivered or dead
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("next_attempt_at", sa.Float, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.UniqueConstraint("number", "target", "event"),
    sa.Index("outbox_due", "state", "next_attempt_at"),
)

channel_senders = sa.Table(  # those who write on a messaging channel; whose turn it is
    "channel_senders",
    metadata,
    # The channel and a keyed digest of the sender; also the name of what is stored of the talk.
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("due_at", sa.Float, index=True),  # empty when nothing waits
    sa.Column("lease", sa.Text, nullable=False),  # who is answering; "" for nobody
    sa.Column("leased_until", sa.Float, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),  # calls of the platform in a row
    sa.Column("disclosed_at", sa.Float),  # when the first words of the channel were sent
    sa.Column("private_id", sa.Text, nullable=False),  # the private conversation; "" for none
    sa.Column("private_until", sa.Float, nullable=False),
    sa.Column("home", sa.Text, nullable=False),  # the process whose memory holds it
    sa.Column("seen_at", sa.Float, nullable=False),
)

channel_messages = sa.Table(
    "channel_messages",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),  # digest of the platform's id
    sa.Column("conversation_id", sa.String(64), nullable=False),  # "" once it was erased
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # pending, answered, refused or dead
    sa.Column("urgent", sa.Boolean, nullable=False),  # it has a red flag
    sa.Column("position", sa.Float, nullable=False),  # among those of one sender
    sa.Column("sealed", sa.Text),  # empty once it is not pending
    sa.Column("sealed_replies", sa.Text),  # what is to be sent, once that is known
    sa.Column("sent", sa.Integer, nullable=False),  # how many of the replies
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Index("channel_messages_of_sender", "conversation_id", "state"),
    sa.Index("channel_messages_by_state", "state", "received_at"),
)

channel_menus = sa.Table(  # the choices that were offered last
    "channel_menus",
    metadata,
    sa.Column("conversation_id", sa.String(64), primary_key=True),
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)

privacy_receipts = sa.Table(
    "privacy_receipts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # erase, export, purge or withdraw
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("drafts", sa.Integer, nullable=False),
    sa.Column("events", sa.Integer, nullable=False),  # of Rasa's conversations
)

staff_accounts = sa.Table(  # of the pages at /staff; without any, there are no such pages
    "staff_accounts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("password_hash", sa.Text, nullable=False),  # argon2id
    sa.Column("roles", sa.Text, nullable=False),  # parted by spaces
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

staff_sessions = sa.Table(
    "staff_sessions",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),  # SHA-256 of the token, which is not kept
    sa.Column(
        "name",
        sa.Text,
        sa.ForeignKey("staff_accounts.name", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)

staff_tries = sa.Table(  # to sign in, since the last that succeeded
    "staff_tries",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),  # SHA-256 of a name or a network
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Column("locked_until", sa.Float, nullable=False),
)

staff_log = sa.Table(
    "staff_log",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),  # the account; empty if nobody has that name
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),  # a number, a topic, ...: nothing personal
)

request_assignments = sa.Table(
    "request_assignments",
    metadata,
    sa.Column(
        "number",
        sa.Text,
        sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column(
        "name",
        sa.Text,
        sa.ForeignKey("staff_accounts.name", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("at", sa.Float, nullable=False),
)

request_notes = sa.Table(
    "request_notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "number",
        sa.Text,
        sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("name", sa.Text, nullable=False),  # who wrote it, also when the account is gone
    sa.Column("sealed", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

daily_counts = sa.Table(  # how often something happened; no one's conversation
    "daily_counts",
    metadata,
    sa.Column("day", sa.Text, primary_key=True),  # UTC, as 2026-11-24
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)


office_changes = sa.Table(  # of office.yml, which is public anyway
    "office_changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("name", sa.Text, nullable=False),  # the account
    sa.Column("before", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
)


class StorageError(Exception):
    """The database failed: nothing is half stored, nothing was read.

    Attributes:
        passing: whether the connection broke, so that the next try may succeed at once.
    """

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


@lru_cache(maxsize=4)
def engine_for(url: str) -> Engine:
    """Return the process's engine for a database address, with our tables made and up to date.

    SQLite keeps its connections open and writes ahead (a save then takes 5 ms instead of 27), waits
    for other writers, and overwrites what is deleted. PostgreSQL gets short time limits, and is asked
    whether a kept connection still lives.

    Raises:
        StorageError: the database cannot be reached.
        SettingError: a newer version of the assistant made the database.
    """
    address = sa.engine.make_url(url)
    if address.get_backend_name() == "sqlite":
        engine = _sqlite_engine(address)
    else:
        engine = sa.create_engine(
            address,
            pool_pre_ping=True,
            pool_timeout=3,
            connect_args={
                "connect_timeout": 3,
                "options": "-c statement_timeout=5000",
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 6000,  # milliseconds; a cable that was pulled says nothing
            },
        )
    with transaction(engine) as connection:
        migrate(connection)
    return engine


@contextmanager
def transaction(engine: Engine, durable: bool = True) -> Generator[Connection, None, None]:
    """Provide a transaction that no other writer sees half of.

    Args:
        engine: the database.
        durable: whether its end must survive a power cut. SQLite's driver would leave the last
            changes to the operating system, which takes a tenth of the time; PostgreSQL never does.

    Raises:
        StorageError: the database failed; nothing is half stored.
    """
    with connected(engine) as connection:
        if engine.dialect.name != "sqlite":
            with connection.begin():
                yield connection
            return
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        with connection.begin():
            # The driver itself would begin only at the first change.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection


@contextmanager
def connected(engine: Engine) -> Generator[Connection, None, None]:
    """Provide a connection to read with.

    Raises:
        StorageError: the database failed.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        # The error itself would show the statement with its values.
        reason = str(getattr(error, "orig", None) or "").partition("\n")[0]
        raise StorageError(
            f"The database failed: {type(error).__name__} {reason}".strip(), _is_passing(error)
        ) from None


def _is_passing(error: SQLAlchemyError) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return bool(error.connection_invalidated) or error.statement is None  # broke, or never was


async def in_thread(call: Callable[..., Result], *arguments: Any) -> Result:
    """Run a call that uses the database beside the event loop, so that a slow one delays no other.

    Args:
        call: may run twice or three times: it is tried again when the connection broke.
        arguments: the call's.

    Raises:
        StorageError: it failed for good.
    """
    # As asyncio.to_thread, without a task around it.
    run = partial(copy_context().run, _tried_again, call, *arguments)
    work = asyncio.get_running_loop().run_in_executor(None, run)
    work.add_done_callback(_forget)
    await asyncio.wait({work}, timeout=_PATIENCE)
    if not work.done():
        raise StorageError(f"The database did not answer within {_PATIENCE:g} seconds.")
    return work.result()


def _forget(work: asyncio.Future[Any]) -> None:
    """Look at the error of a call that nobody waits for any more, so that Python does not complain."""
    if not work.cancelled():
        work.exception()


def _tried_again(call: Callable[..., Result], *arguments: Any) -> Result:
    for pause in _PAUSES:
        try:
            return call(*arguments)
        except StorageError as error:
            if not error.passing:
                raise
            time.sleep(pause)
    return call(*arguments)


def empty_log(engine: Engine) -> None:
    """Empty SQLite's write-ahead log, which still holds what was deleted."""
    if engine.dialect.name == "sqlite":
        with connected(engine) as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _sqlite_engine(address: Any) -> Engine:
    if address.database and address.database != ":memory:":
        path = Path(address.database)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Conversations are private: nobody but the server's user reads the file.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = sa.create_engine(
        address,
        poolclass=QueuePool,
        pool_size=_KEPT_CONNECTIONS,
        connect_args={"check_same_thread": False, "timeout": 5},
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "busy_timeout=5000",
            "secure_delete=ON",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
