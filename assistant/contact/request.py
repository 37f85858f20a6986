"""What a visitor asks of the office, as plain data."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field

_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that are taken for one another


def new_key() -> str:
    """Return a new idempotency key for a draft."""
    return secrets.token_urlsafe(18)


def new_number() -> str:
    """Return a new public reference (`R-7K3M-92QF`): random, so it tells nothing."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return f"R-{letters[:4]}-{letters[4:]}"


@dataclass(frozen=True)
class Draft:
    """What a visitor has said so far; what is not known yet is "".

    Attributes:
        name: as the visitor wrote it.
        phone: in E.164 (`+18185550134`).
        email: the address.
        preferred_time: in the visitor's own words.
        note: in the visitor's own words.
        key: the same for every try to send this draft, so that it makes one request.
    """

    name: str = ""
    phone: str = ""
    email: str = ""
    preferred_time: str = ""
    note: str = ""
    key: str = field(default_factory=new_key)


@dataclass(frozen=True)
class Receipt:
    """What may be shown and logged of a request: nothing personal.

    Attributes:
        number: the public reference.
        status: one of `STATUSES`.
        created_at: when the request was stored, in UTC.
    """

    number: str
    status: str
    created_at: dt.datetime


STATUSES = ("new", "in_progress", "handled", "withdrawn")
"""`new` waits for the office, which takes it up (`in_progress`) and is done with it (`handled`);
`withdrawn` was deleted for the visitor."""

ENDED = ("handled", "withdrawn")
"""Statuses after which a request is deleted soon."""


@dataclass(frozen=True)
class Request:
    """A request as the office sees it.

    Attributes:
        receipt: number, status and when it was stored.
        changed_at: when its status changed last, in UTC.
        conversation_id: where it was made; "" once that was erased.
        wishes: what the visitor wrote, all "" once withdrawn; None if no key can read it.
    """

    receipt: Receipt
    changed_at: dt.datetime
    conversation_id: str
    wishes: Draft | None
