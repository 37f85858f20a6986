"""What patients wrote and what they are to get: kept until it is done, through crashes and restarts.

Each message is taken once, however often its platform sends it. Those of one sender are answered one
after the other: whoever answers holds a lease on the sender. If that process dies, the lease runs
out and another goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from assistant.channels.messaging.menus import MenuBook, Offer
from assistant.channels.messaging.platform import Choice, Incoming, Outgoing
from assistant.contact.cipher import Cipher, UnreadableError
from assistant.storage.database import channel_messages, channel_senders, transaction

LEASE_SECONDS = 30.0
"""How long a sender is left alone after the last sign of life of who is answering."""

MOST_AN_HOUR = 120
"""Messages of one sender that are answered; more come from a machine, and each answer costs money."""

_HOME_SECONDS = 20.0  # after that another process answers a private chat, with nothing remembered
_HOUR = 3600.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
_random = secrets.SystemRandom()


class LeaseLostError(Exception):
    """The lease ran out and another process answers the sender: this one must stop."""


class UnreadableMessageError(Exception):
    """A waiting message was encrypted with a key that is no longer in CONTACT_KEYS."""


@dataclass(frozen=True)
class Arrival:
    """A message that has just come.

    Attributes:
        conversation_id: the sender's.
        incoming: the message.
        urgent: whether it has a red flag; it is answered before others.
    """

    conversation_id: str
    incoming: Incoming
    urgent: bool = False


@dataclass(frozen=True)
class Claim:
    """A sender whose messages this process answers now.

    Attributes:
        conversation_id: the sender's.
        platform: the name of the platform.
        token: proves the lease.
    """

    conversation_id: str
    platform: str
    token: str


@dataclass(frozen=True)
class Waiting:
    """The message of a sender that is next.

    Attributes:
        row_id: in the database.
        key: what the conversation knows the message by.
        incoming: the message.
        replies: what is to be sent; None if that is not known yet.
        sent: how many of the replies were sent.
        attempts: how often it was tried, this time among them.
        received_at: seconds since 1970.
        disclosed: whether the first words of the channel were sent.
        private_id: the private conversation that is going on; "" for none.
    """

    row_id: int
    key: str
    incoming: Incoming
    replies: tuple[Outgoing, ...] | None
    sent: int
    attempts: int
    received_at: float
    disclosed: bool
    private_id: str


@dataclass(frozen=True)
class Changes:
    """What an answer changes about its sender; None leaves a thing as it is."""

    disclosed: bool | None = None
    private_id: str | None = None
    private_until: float = 0.0


def message_key(platform: str, message_id: str) -> str:
    """Return what a message is known by: a digest, as platforms' own ids may be long or telling."""
    return hashlib.sha256(f"{platform}\0{message_id}".encode()).hexdigest()[:48]


class MessageQueue:
    """The messages that wait, and whose turn it is.

    Calls block for some milliseconds, and raise `StorageError` if the database cannot do it.

    Args:
        engine: the database, with our tables.
        cipher: encrypts messages while they wait.
        menus: where the choices of an answer are kept.
    """

    def __init__(self, engine: Engine, cipher: Cipher, menus: MenuBook) -> None:
        self._engine = engine
        self._cipher = cipher
        self._menus = menus
        self._home = secrets.token_hex(8)

    def take_in(self, platform: str, arrivals: Sequence[Arrival]) -> int:
        """Keep the messages that have not come before; return how many those are."""
        now, new = time.time(), 0
        with transaction(self._engine) as connection:
            # In one order everywhere, so that two batches never wait for each other.
            for conversation_id in sorted({arrival.conversation_id for arrival in arrivals}):
                self._meet(connection, platform, conversation_id, now)
            for arrival in arrivals:
                new += self._add(connection, platform, arrival, now)
        return new

    def claim(self, most: int, platforms: Sequence[str]) -> list[Claim]:
        """Take the senders that have waited for longest and whom nobody answers.

        Args:
            most: how many at most.
            platforms: whose; those that are on.
        """
        now = time.time()
        senders = channel_senders.c
        due = (
            sa.select(channel_senders)
            .where(senders.due_at <= now)
            .where(senders.leased_until < now)
            .where(senders.platform.in_(list(platforms)))
            .where(
                sa.or_(
                    senders.home.in_(["", self._home]),
                    senders.private_until < now,
                    senders.due_at < now - _HOME_SECONDS,
                )
            )
            .order_by(senders.due_at)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        claims = []
        with transaction(self._engine, durable=False) as connection:
            for row in connection.execute(due).all():
                token = secrets.token_hex(8)
                private_id = row.private_id if row.private_until > now else ""
                connection.execute(
                    sa.update(channel_senders)
                    .where(senders.conversation_id == row.conversation_id)
                    .values(
                        lease=token,
                        leased_until=now + LEASE_SECONDS,
                        private_id=private_id,
                        home=self._home if private_id else "",
                    )
                )
                claims.append(Claim(row.conversation_id, row.platform, token))
        return claims

    def keep_alive(self, tokens: Sequence[str]) -> None:
        """Prolong the leases of those who are still answering."""
        mine = channel_senders.c.lease.in_(list(tokens))
        with transaction(self._engine, durable=False) as connection:
            # In the same order as `take_in`, so that the two never wait for each other.
            connection.execute(
                sa.select(channel_senders.c.conversation_id)
                .where(mine)
                .order_by(channel_senders.c.conversation_id)
                .with_for_update()
            ).all()
            connection.execute(
                sa.update(channel_senders)
                .where(mine)
                .values(leased_until=time.time() + LEASE_SECONDS)
            )

    def next(self, claim: Claim) -> Waiting | None:
        """Return the sender's next message; if there is none, give up the lease and return None.

        What has a red flag comes first, then what was written first.

        Raises:
            LeaseLostError: another process has the sender.
            UnreadableMessageError: the message cannot be read, and is given up.
        """
        with transaction(self._engine, durable=False) as connection:
            sender = self._hold(connection, claim)
            row = connection.execute(
                sa.select(channel_messages)
                .where(channel_messages.c.conversation_id == claim.conversation_id)
                .where(channel_messages.c.state == "pending")
                .order_by(
                    channel_messages.c.urgent.desc(),
                    channel_messages.c.position,
                    channel_messages.c.id,
                )
                .limit(1)
            ).first()
            if row is None:
                self._let_go(connection, claim, due_at=None)
                return None
            try:
                incoming = Incoming(**json.loads(self._cipher.open(row.sealed)["message"]))
                replies = self._opened(row.sealed_replies)
            except UnreadableError:
                self._end(connection, row.id, "dead")
                unreadable = True
            else:
                unreadable = False
                self._change(connection, row.id, attempts=row.attempts + 1)
        if unreadable:
            raise UnreadableMessageError
        return Waiting(
            row_id=row.id,
            key=row.key,
            incoming=incoming,
            replies=replies,
            sent=row.sent,
            attempts=row.attempts + 1,
            received_at=row.received_at,
            disclosed=sender.disclosed_at is not None,
            private_id=sender.private_id,
        )

    def keep_replies(
        self,
        claim: Claim,
        waiting: Waiting,
        replies: Sequence[Outgoing],
        menu: Sequence[Offer],
        changes: Changes,
    ) -> None:
        """Keep what is to be sent, so that a retry sends the same; without replies it is done.

        Raises:
            LeaseLostError: another process has the sender.
        """
        with transaction(self._engine) as connection:
            self._hold(connection, claim)
            private_id = waiting.private_id if changes.private_id is None else changes.private_id
            self._apply(connection, claim, changes, private_id)
            self._menus.add(connection, private_id or claim.conversation_id, menu)
            if not replies:
                self._end(connection, waiting.row_id, "answered")
                return
            text = json.dumps([asdict(reply) for reply in replies])
            self._change(
                connection, waiting.row_id, sealed_replies=self._cipher.seal({"replies": text})
            )

    def note_sent(self, claim: Claim, waiting: Waiting, sent: int, done: bool) -> None:
        """Note how many replies the platform took, and whether those are all.

        Raises:
            LeaseLostError: another process has the sender.
        """
        with transaction(self._engine) as connection:
            row = self._hold(connection, claim)
            if row.failures:
                self._alter(connection, claim, failures=0)
            if done:
                self._end(connection, waiting.row_id, "answered")
            else:
                self._change(connection, waiting.row_id, sent=sent)

    def put_off(self, claim: Claim, pause: float | None = None) -> float:
        """Give up the lease until the next try; return in how many seconds that is.

        Args:
            claim: whose.
            pause: what the platform asks for; it is not waited for less than that.

        Raises:
            LeaseLostError: another process has the sender.
        """
        with transaction(self._engine, durable=False) as connection:
            row = self._hold(connection, claim)
            usual = min(_FIRST_PAUSE * 2.0 ** min(row.failures, 20), _LONGEST_PAUSE)
            # Never in step with others, and a little later than the platform asked for.
            wait = max(usual * _random.uniform(0.5, 1.0), (pause or 0.0) * _random.uniform(1, 1.1))
            self._alter(connection, claim, failures=row.failures + 1)
            self._let_go(connection, claim, due_at=time.time() + wait)
        return float(wait)

    def release(self, claim: Claim) -> None:
        """Give up the lease, and leave what waits to the next who looks.

        Raises:
            LeaseLostError: another process has the sender.
        """
        with transaction(self._engine, durable=False) as connection:
            self._hold(connection, claim)
            self._let_go(connection, claim, due_at=time.time())

    def give_up(self, claim: Claim, waiting: Waiting, state: str) -> None:
        """End a message that cannot be answered.

        Args:
            claim: whose.
            waiting: the message.
            state: "refused" by the platform for good, or "dead" after too long.

        Raises:
            LeaseLostError: another process has the sender.
        """
        with transaction(self._engine) as connection:
            self._hold(connection, claim)
            self._end(connection, waiting.row_id, state)

    def _meet(self, connection: Connection, platform: str, sender: str, now: float) -> None:
        """Make a sender's row if there is none, and hold it."""
        connection.execute(
            self._insert(channel_senders)
            .values(
                conversation_id=sender,
                platform=platform,
                lease="",
                leased_until=0.0,
                failures=0,
                private_id="",
                private_until=0.0,
                home="",
                seen_at=now,
            )
            .on_conflict_do_nothing()
        )
        connection.execute(
            sa.select(channel_senders.c.conversation_id)
            .where(channel_senders.c.conversation_id == sender)
            .with_for_update()
        )

    def _add(self, connection: Connection, platform: str, arrival: Arrival, now: float) -> int:
        sender = arrival.conversation_id
        since = (
            sa.select(sa.func.count())
            .select_from(channel_messages)
            .where(channel_messages.c.conversation_id == sender)
            .where(channel_messages.c.received_at > now - _HOUR)
        )
        refused = not arrival.urgent and connection.execute(since).scalar() >= MOST_AN_HOUR
        text = json.dumps(asdict(arrival.incoming))
        added = connection.execute(
            self._insert(channel_messages)
            .values(
                key=message_key(platform, arrival.incoming.message_id),
                conversation_id=sender,
                platform=platform,
                state="refused" if refused else "pending",
                urgent=arrival.urgent,
                position=arrival.incoming.order,
                sealed=None if refused else self._cipher.seal({"message": text}),
                sent=0,
                attempts=0,
                received_at=now,
            )
            .on_conflict_do_nothing()
        ).rowcount
        if added and not refused:
            due = channel_senders.c.due_at
            connection.execute(
                sa.update(channel_senders)
                .where(channel_senders.c.conversation_id == sender)
                # A sender whose last answer failed keeps waiting, but for a red flag.
                .values(due_at=now if arrival.urgent else sa.func.coalesce(due, now), seen_at=now)
            )
        return int(added)

    def _insert(self, table: sa.Table) -> Any:
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        return dialect.insert(table)

    def _hold(self, connection: Connection, claim: Claim) -> Any:
        """Lock the sender's row for this transaction.

        Raises:
            LeaseLostError: the lease is another's.
        """
        row = connection.execute(
            sa.select(channel_senders)
            .where(channel_senders.c.conversation_id == claim.conversation_id)
            .with_for_update()
        ).first()
        if row is None or row.lease != claim.token:
            raise LeaseLostError
        return row

    def _let_go(self, connection: Connection, claim: Claim, due_at: float | None) -> None:
        if due_at is not None and self._has_urgent(connection, claim):
            due_at = min(due_at, time.time() + _LONGEST_PAUSE / 30)
        self._alter(connection, claim, lease="", leased_until=0.0, due_at=due_at)

    def _has_urgent(self, connection: Connection, claim: Claim) -> bool:
        return (
            connection.execute(
                sa.select(channel_messages.c.id)
                .where(channel_messages.c.conversation_id == claim.conversation_id)
                .where(channel_messages.c.state == "pending")
                .where(channel_messages.c.urgent)
            ).first()
            is not None
        )

    def _apply(
        self, connection: Connection, claim: Claim, changes: Changes, private_id: str
    ) -> None:
        values: dict[str, Any] = {"private_id": private_id, "private_until": 0.0, "home": ""}
        if private_id:
            values.update(private_until=changes.private_until, home=self._home)
        if changes.disclosed is not None:
            values["disclosed_at"] = time.time() if changes.disclosed else None
        self._alter(connection, claim, **values)

    def _alter(self, connection: Connection, claim: Claim, **values: Any) -> None:
        connection.execute(
            sa.update(channel_senders)
            .where(channel_senders.c.conversation_id == claim.conversation_id)
            .values(**values)
        )

    def _change(self, connection: Connection, row_id: int, **values: Any) -> None:
        connection.execute(
            sa.update(channel_messages).where(channel_messages.c.id == row_id).values(**values)
        )

    def _end(self, connection: Connection, row_id: int, state: str) -> None:
        """End a message; its words go, its key stays so that it is not taken again."""
        self._change(connection, row_id, state=state, sealed=None, sealed_replies=None)

    def _opened(self, sealed: str | None) -> tuple[Outgoing, ...] | None:
        if sealed is None:
            return None
        replies = json.loads(self._cipher.open(sealed)["replies"])
        return tuple(
            Outgoing(**{**reply, "choices": tuple(Choice(**c) for c in reply["choices"])})
            for reply in replies
        )
