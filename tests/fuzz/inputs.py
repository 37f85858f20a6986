"""What is sent: one input with what must come back, and the curated ones from `inputs/`."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from jwt.warnings import InsecureKeyLengthWarning

from assistant.channels.message_text import LONGEST_MESSAGE, UnreadableTextError, clean
from tests.fuzz.wire import Header, Request

# That a key is too short is what is tried. Once, as the filters belong to all threads of a process.
warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)

FOLDER = Path(__file__).parent / "inputs"

STEPS = ("consent", "name", "reach", "time", "note", "decision")
"""What the contact form asks for, in order."""

NOWHERE, OPEN, FORM, SHARED, PRIVATE = "", "open", "form", "shared", "private"
"""Where an input is sent: without a session; in one outside the form; wherever the form stands;
in one that all connections use at once; in one of which nothing is stored."""

BEARER: Header = ("Authorization", "Bearer {token}")


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        name: where it comes from: file and line, or the number in the run.
        why: what is tried.
        request: what is sent. `{token}` in a header stands for the session's token, `{message_id}` in
            the body for the id of the session's last message, `{expired}` and the others of `TOKENS`
            for tokens that must not work.
        at: a step of the form, or one of the places above.
        statuses: what may come back; empty for anything that is no failure.
    """

    name: str
    why: str
    request: Request
    at: str = NOWHERE
    statuses: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        """What a visitor would have said with it; "" if it says nothing."""
        try:
            body = json.loads(self.request.body)
            return str(body.get("text") or body.get("postback") or "")
        except (ValueError, AttributeError, RecursionError):
            return ""


def message(
    name: str,
    why: str,
    body: dict[str, Any],
    at: str = OPEN,
    statuses: frozenset[int] | None = None,
) -> Input:
    """Return the input that posts a message's body in a session."""
    if statuses is None:
        statuses = frozenset({status_of(body.get("text", ""))})
    request = Request("POST", "/webchat/messages", (BEARER,), json.dumps(body).encode())
    return Input(name, why, request, at, statuses)


def status_of(text: str) -> int:
    """Return the status that the contract has for a text."""
    try:
        length = len(clean(text))
    except UnreadableTextError:
        return 400
    # Red flags are answered whatever the length; no input without one is too long by less.
    return 200 if length <= LONGEST_MESSAGE else 413


def curated() -> list[Input]:
    """Return all curated inputs; those for the same step of the form stand together.

    Raises:
        ValueError: a line cannot be read; says which.
    """
    found: list[Input] = []
    for path in sorted(FOLDER.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            name = f"{path.stem}:{number}"
            try:
                found += _read(name, json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: {error!r}") from error
    return sorted(found, key=lambda one: STEPS.index(one.at) if one.at in STEPS else -1)


def _read(name: str, entry: dict[str, Any]) -> Iterator[Input]:
    """Return the inputs of a line: one for each place where it is sent."""
    why = entry.pop("why")
    places = entry.pop("at", None)
    statuses = frozenset(entry.pop("status", []))
    if "text" in entry:
        text = _long(entry.pop("text"))
        for place in places or [OPEN]:
            yield message(name, why, {"text": text}, place, statuses or None)
    elif "raw" in entry:
        request = Request(
            raw=_long(entry.pop("raw")).encode("latin-1"), unfinished=entry.pop("unfinished", False)
        )
        yield Input(name, why, request, NOWHERE, statuses)
    else:
        body = _long(entry.pop("body", ""))
        request = Request(
            entry.pop("method", "POST"),
            _long(entry.pop("target", "/webchat/messages")),
            tuple((key, _long(value)) for key, value in entry.pop("headers", [BEARER])),
            # Bytes are written as the characters of the same number.
            body.encode("latin-1" if all(ord(letter) < 256 for letter in body) else "utf-8"),
        )
        needs_session = any("{token}" in value for _, value in request.headers)
        for place in places or [OPEN if needs_session else NOWHERE]:
            yield Input(name, why, request, place, statuses)
    if entry:
        raise ValueError(f"unknown keys: {', '.join(entry)}")


def _long(value: Any) -> str:
    """Return a text: a string, `{"repeat": ..., "times": ...}` or a list of these."""
    if isinstance(value, list):
        return "".join(map(_long, value))
    if isinstance(value, dict):
        return str(value["repeat"]) * int(value["times"])
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r}")
    return value


def bad_tokens(secret: str, conversation_id: str) -> dict[str, str]:
    """Return tokens for somebody's conversation that must not be accepted.

    Args:
        secret: what the server signs with.
        conversation_id: a conversation that exists.
    """
    now = dt.datetime.now(dt.timezone.utc)
    later, before = now + dt.timedelta(hours=1), now - dt.timedelta(hours=1)
    good = {"sub": conversation_id, "aud": "webchat", "iat": now, "exp": later}

    def signed(claims: dict[str, Any], key: str = secret, algorithm: str = "HS256") -> str:
        return jwt.encode(claims, key, algorithm=algorithm)

    def without(key: str) -> dict[str, Any]:
        return {name: value for name, value in good.items() if name != key}

    head, claims, signature = signed(good).split(".")
    return {
        "expired": signed({**good, "exp": before}),
        "not_yet": signed({**good, "nbf": later}),
        "other_audience": signed({**good, "aud": "staff"}),
        "no_audience": signed(without("aud")),
        "no_subject": signed(without("sub")),
        "no_end": signed(without("exp")),
        "odd_end": signed({**good, "exp": "tomorrow"}),
        "endless": signed({**good, "exp": "Infinity"}),
        "other_key": signed(good, "k" * 48),
        "empty_key": signed(good, "x"),
        "unsigned": jwt.encode(good, None, algorithm="none"),
        "other_algorithm": signed(good, algorithm="HS512"),
        "no_signature": f"{head}.{claims}.",
        "cut": f"{head}.{claims}.{signature[:-4]}",
        "longer": f"{head}.{claims}.{signature}AAAA",
        "two_parts": f"{head}.{claims}",
        "four_parts": f"{head}.{claims}.{signature}.{signature}",
        "swapped": f"{claims}.{head}.{signature}",
        "upper": signed(good).upper(),
        "reversed": signed(good)[::-1],
    }


TOKENS = tuple(bad_tokens("s" * 32, "none"))
"""The names of the tokens that must not work."""
