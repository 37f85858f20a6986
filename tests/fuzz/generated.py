"""Generated inputs: hypothesis draws them, from one seed always the same ones in the same order."""

from __future__ import annotations

import base64
import gzip
import json
import queue
import string
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import (
    BEARER,
    FORM,
    NOWHERE,
    OPEN,
    PRIVATE,
    SHARED,
    TOKENS,
    Input,
    curated,
    message,
)
from tests.fuzz.wire import Request

_BATCH = 5_000
"""Examples of one hypothesis run; it slows down with the number that it has seen."""

_BETWEEN = 25
"""After so many drawn inputs comes one of those that depend on the state."""

_AHEAD = 200
_GIVE_UP_SECONDS = 120

# What visitors say, to be cut, joined and spoiled.
_WORDS = [
    "sciatica",
    "pain",
    "numb",
    "groin",
    "leg",
    "back",
    "hurts",
    "acupuncture",
    "needle",
    "stretch",
    "diet",
    "gluten",
    "hours",
    "price",
    "insurance",
    "parking",
    "appointment",
    "book",
    "cancel",
    "yes",
    "no",
    "not",
    "never",
    "if",
    "can't",
    "pee",
    "fever",
    "weak",
    "fell",
    "my",
    "name",
    "is",
    "Ana",
    "818",
    "555",
    "0134",
    "ana@example.com",
    "tuesday",
    "morning",
    "send",
    "change",
    "delete",
    "chest",
    "breathe",
    "kill",
    "myself",
    "what",
    "how",
    "long",
    "does",
    "where",
    "why",
    "?",
    ".",
    ",",
    "!",
    "the",
    "a",
    "and",
    "or",
    "but",
    "since",
    "for",
]


def _texts() -> st.SearchStrategy[str]:
    curated_texts = [one.text for one in curated() if one.text and len(one.text) <= 300]
    spoken = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=30).map(" ".join)
    real = st.sampled_from(curated_texts)
    return st.one_of(
        spoken,
        spoken,
        spoken.flatmap(_spoiled),
        real.flatmap(_spoiled),
        st.tuples(real, spoken).map(" ".join),
        st.text(min_size=1, max_size=60),
        st.text(st.characters(categories=["L", "N", "P", "Z"]), min_size=1, max_size=100),
        st.text(st.characters(categories=["M", "S", "Cf", "Co"]), min_size=1, max_size=60),
        st.tuples(st.sampled_from([*_WORDS, "a", "\u0301", "(", "1-", "\U0001f600"]), st.integers(1, 400)).map(
            lambda pair: (pair[0] * pair[1])[:1000]
        ),
        st.from_regex(r"(?:\+?1[ .-]?)?\(?\d{2,4}\)?[ .-]?\d{2,4}[ .-]?\d{2,5}", fullmatch=True),
        st.from_regex(r"[\w.+-]{1,30}@[\w-]{1,30}(?:\.[\w-]{1,10}){0,3}", fullmatch=True),
        st.from_regex(r"/?[a-z_]{1,20}(?:/[a-z_]{1,20})?(?:@\d\.\d+)?(?:\{\"[a-z]+\": ?\"?\w*\"?\}?)?", fullmatch=True),
    )  # fmt: skip


def _spoiled(text: str) -> st.SearchStrategy[str]:
    """Return a text with something put into it, taken out of it, or changed."""
    place = st.integers(0, len(text))
    return st.one_of(
        st.tuples(place, st.characters(codec="utf-8")).map(lambda p: text[: p[0]] + p[1] + text[p[0] :]),
        st.tuples(place, st.integers(1, 8)).map(lambda p: text[: p[0]] + text[p[0] + p[1] :]),
        st.tuples(place, place).map(lambda p: text[min(p) : max(p)] * 2 + text),
        st.permutations(text.split()).map(" ".join) if " " in text else st.just(text[::-1]),
        st.sampled_from([text.upper(), text.title(), text.replace(" ", ""), text + "?" * 20]),
    ).filter(bool)  # fmt: skip


def _values() -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.just("\ud800"),
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    )  # fmt: skip


_KEYS = st.sampled_from(
    ["text", "postback", "id", "helpful", "reason", "private", "sender", "metadata", ""]
)


def _bodies() -> st.SearchStrategy[bytes]:
    objects = st.dictionaries(_KEYS | st.text(max_size=8), _values(), max_size=4).map(
        lambda value: json.dumps(value).encode()
    )
    almost = st.sampled_from(
        [
            b'{"text": "hello"}',
            b'{"postback": "hi"}',
            b'{"id": "abcdefgh", "helpful": true}',
            b'{"private": true}',
        ]
    )
    broken = st.tuples(almost | objects, st.integers(0, 40), st.binary(max_size=4)).map(
        lambda part: part[0][: part[1]] + part[2] + part[0][part[1] + 1 :]
    )
    return st.one_of(
        objects,
        objects,
        broken,
        broken,
        _values().map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=200),
        st.sampled_from(["utf-16", "utf-32", "utf-8-sig"]).flatmap(
            lambda codec: almost.map(lambda body: body.decode().encode(codec))
        ),
        almost.map(partial(gzip.compress, mtime=0)),
        st.tuples(st.sampled_from([b"[", b'{"a":', b'"', b" ", b"\\u0000"]), st.integers(1, 4000)).map(
            lambda part: part[0] * part[1]
        ),
    )  # fmt: skip


_ROUTES = st.sampled_from(
    [
        ("POST", "/webchat/messages"), ("POST", "/webchat/messages"), ("POST", "/webchat/feedback"),
        ("POST", "/webchat/session"), ("GET", "/webchat/messages"), ("DELETE", "/webchat/session"),
    ]
)  # fmt: skip

_HEADER_VALUE = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=80),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40),
    st.sampled_from(["", "null", "*", "http://[", "https://practice.example", "localhost:99999", "::1", "a,b;c=\"d"]),
    st.tuples(st.sampled_from(["a", ", ", "1.1.1.1, ", "%00"]), st.integers(1, 900)).map(lambda p: p[0] * p[1]),
)  # fmt: skip

_HEADER_NAME = st.sampled_from(
    [
        "Origin", "Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded",
        "Content-Type", "Content-Encoding", "Accept", "Accept-Encoding", "Cookie", "User-Agent",
        "Referer", "If-None-Match", "Range", "Upgrade", "TE", "Expect", "X-Real-IP", "Authorization",
        "Access-Control-Request-Method", "Access-Control-Request-Headers", "X-Request-ID",
    ]
) | st.text(string.ascii_letters + string.digits + "-_!#$%&'*+.^`|~", min_size=1, max_size=30)  # fmt: skip


def _tokens() -> st.SearchStrategy[str]:
    part = st.one_of(
        st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()),
        _values().map(
            lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        ),
        st.just("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"),
        st.sampled_from(
            [
                json.dumps({"alg": alg, "typ": "JWT", **more})
                for alg in ("none", "HS256", "RS256", "hs256", "", "HS512")
                for more in ({}, {"kid": "../../x"}, {"jku": "http://x"}, {"crit": ["b"]}, {"b64": False})
            ]
        ).map(lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()),
    )  # fmt: skip
    return st.one_of(
        st.lists(part, min_size=1, max_size=5).map(".".join),
        st.lists(part, min_size=3, max_size=3).map(".".join),
        st.sampled_from([f"{{{name}}}" for name in TOKENS]),
        st.text(
            st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"),
            max_size=60,
        ),
    )


def _paths() -> st.SearchStrategy[str]:
    piece = st.one_of(
        st.sampled_from(
            [
                "webchat", "webchat", "health", "live", "ready", "messages", "session", "feedback",
                "widget.js", "index.html", "..", ".", "%2e%2e", "%2f", "%00", "%252e", "conversations",
                "webhooks", "rest", "model", "metrics", "", "*", ";", "~", "widget.000000000000.js",
            ]
        ),
        st.text(string.printable.strip().replace(" ", ""), max_size=12),
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), max_size=6),
        st.binary(max_size=4).map(lambda data: "".join(f"%{byte:02x}" for byte in data)),
    )  # fmt: skip
    return st.tuples(st.lists(piece, max_size=6), st.sampled_from(["", "", "?", "?a=1", "?%zz", "#x"])).map(
        lambda parts: "/" + "/".join(parts[0]) + parts[1]
    )  # fmt: skip


_METHOD = st.sampled_from(
    [
        "GET",
        "GET",
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "HEAD",
        "TRACE",
        "FOO",
        "get",
    ]
)


def _wire() -> st.SearchStrategy[bytes]:
    """Return strategies of heads that are no HTTP, or say of the body what is not so."""
    length = st.one_of(
        st.integers(-(10**20), 10**20).map(str),
        st.text(max_size=6),
        st.just("2"),
        st.floats().map(str),
    )
    coding = st.sampled_from(
        ["chunked", "Chunked", "gzip", "chunked, gzip", "", "identity", "xchunked"]
    )
    frame = st.one_of(
        length.map(lambda value: f"Content-Length: {value}\r\n"),
        coding.map(lambda value: f"Transfer-Encoding: {value}\r\n"),
        st.tuples(length, coding).map(lambda p: f"Content-Length: {p[0]}\r\nTransfer-Encoding: {p[1]}\r\n"),
        st.tuples(length, length).map(lambda p: f"Content-Length: {p[0]}\r\nContent-Length: {p[1]}\r\n"),
    )  # fmt: skip
    chunks = st.lists(
        st.tuples(st.integers(-5, 40), st.binary(max_size=20)).map(lambda p: b"%x\r\n%b\r\n" % p),
        max_size=4,
    ).map(lambda parts: b"".join(parts) + b"0\r\n\r\n")
    whole = st.tuples(_METHOD, frame, chunks | st.just(b"{}") | st.binary(max_size=40)).map(
        lambda p: f"{p[0]} /webchat/session HTTP/1.1\r\nHost: x\r\n{p[1]}\r\n".encode() + p[2]
    )
    good = b"GET /webchat/ HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n"
    broken = st.tuples(st.integers(0, len(good)), st.binary(min_size=1, max_size=6)).map(
        lambda p: good[: p[0]] + p[1] + good[p[0] :]
    )
    return st.one_of(
        whole, whole, broken, st.binary(max_size=120).map(lambda data: data + b"\r\n\r\n")
    )


def _kinds() -> list[tuple[int, str, st.SearchStrategy[Input]]]:
    """Return what is generated: of a hundred inputs so many, what it is, and how it is drawn."""
    texts, bodies = _texts(), _bodies()
    message_id = st.text(string.ascii_letters + string.digits + "-_", min_size=8, max_size=24)

    def said(why: str, at: str) -> st.SearchStrategy[Input]:
        return st.builds(
            lambda text, key: message("", why, {"text": text, **({"id": key} if key else {})}, at, frozenset({200, 413})),
            texts.filter(_is_text), st.one_of(st.just(""), message_id),
        )  # fmt: skip

    def sent(
        why: str, at: str, statuses: frozenset[int] = frozenset(), **parts: Any
    ) -> st.SearchStrategy[Input]:
        return st.builds(lambda **drawn: Input("", why, Request(**drawn), at, statuses), **parts)  # fmt: skip

    def routed(
        why: str,
        headers: st.SearchStrategy[Any],
        body: st.SearchStrategy[bytes],
        at: str,
        **more: Any,
    ) -> st.SearchStrategy[Input]:
        return st.builds(
            lambda route, head, content: Input("", why, Request(*route, tuple(head), content if route[0] == "POST" else b""), at, **more),
            _ROUTES, headers, body,
        )  # fmt: skip

    odd_headers = st.lists(st.tuples(_HEADER_NAME, _HEADER_VALUE), min_size=1, max_size=4)
    bearer = st.just((BEARER,))
    no_deleting = _ROUTES.filter(lambda route: route[0] != "DELETE")
    return [
        (11, "a message", said("a message", OPEN)),
        (2, "a message of a private chat", said("a message of a private chat", PRIVATE)),
        (1, "a message, several at once", said("a message, several at once", SHARED)),
        (2, "a message in the form", said("a message in the form", FORM)),
        (
            2,
            "a postback",
            sent(
                "a postback", OPEN, method=st.just("POST"), target=st.just("/webchat/messages"), headers=bearer,
                body=texts.map(lambda text: json.dumps({"postback": text}).encode()),
            ),
        ),
        (
            2,
            "feedback",
            sent(
                "feedback", OPEN, method=st.just("POST"), target=st.just("/webchat/feedback"), headers=bearer,
                body=st.fixed_dictionaries(
                    {"id": st.just("{message_id}") | message_id, "helpful": st.booleans() | _values()},
                    optional={"reason": st.sampled_from(["unclear", "wrong", "nonsense"]) | _values()},
                ).map(lambda value: json.dumps(value).encode()),
            ),
        ),
        (
            18,
            "a body",
            st.builds(lambda route, body: Input("", "a body", Request(*route, (BEARER,), body if route[0] == "POST" else b""), OPEN), no_deleting, bodies),
        ),
        (5, "a body without a session", routed("a body without a session", st.just(()), bodies, NOWHERE)),
        (15, "a token", routed("a token", _tokens().map(lambda token: [("Authorization", f"Bearer {token}")]), st.just(b'{"text": "hi"}'), NOWHERE)),
        (15, "headers", routed("headers", odd_headers, st.just(b""), NOWHERE)),
        (14, "an address", sent("an address", NOWHERE, method=_METHOD, target=_paths())),
        (10, "the wire", sent("the wire", NOWHERE, raw=_wire(), unfinished=st.just(True))),
    ]  # fmt: skip


def _change(why: str, method: str, target: str, body: bytes, at: str, *statuses: int) -> Input:
    return Input("", why, Request(method, target, (BEARER,), body), at, frozenset(statuses))


_OFFERED = b'{"postback": "{offered}"}'
_HELPFUL = b'{"id": "{message_id}", "helpful": true}'
_CHANGES = (
    _change("the conversation", "GET", "/webchat/messages", b"", OPEN, 200),
    _change("an offered button", "POST", "/webchat/messages", _OFFERED, OPEN, 200, 400),
    _change(
        "feedback on the last message", "POST", "/webchat/feedback", _HELPFUL, OPEN, 204, 404, 400
    ),
    _change("an offered button in the form", "POST", "/webchat/messages", _OFFERED, FORM, 200, 400),
    _change("the conversation, several at once", "GET", "/webchat/messages", b"", SHARED, 200),
    _change("a private conversation", "GET", "/webchat/messages", b"", PRIVATE, 200),
    _change("erasing", "DELETE", "/webchat/session", b"", OPEN, 204),
    _change(
        "an offered button in private", "POST", "/webchat/messages", _OFFERED, PRIVATE, 200, 400
    ),
    _change("erasing in the form", "DELETE", "/webchat/session", b"", FORM, 204),
    _change("erasing in private", "DELETE", "/webchat/session", b"", PRIVATE, 204),
)
"""What only makes sense in the state that a conversation has come to."""


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def generated(count: int, number: int) -> Iterator[Input]:
    """Return so many generated inputs.

    Args:
        count: how many.
        number: the seed.
    """
    drawn: queue.Queue[Input | BaseException] = queue.Queue(_AHEAD)

    def draw() -> None:
        try:
            _draw(count, number, drawn.put)
        except BaseException as error:
            drawn.put(error)

    threading.Thread(target=draw, daemon=True).start()
    for _ in range(count):
        one = drawn.get(timeout=_GIVE_UP_SECONDS)
        if isinstance(one, BaseException):
            raise one
        yield one


def _draw(count: int, number: int, put: Callable[[Input], None]) -> None:
    """Draw inputs, no two alike, each kind in its share; between them what changes the state."""
    wheel = [strategy for share, _, strategy in _kinds() for _ in range(share)]
    seen: set[tuple[Request, str]] = set()
    done = 0

    def hand_on(one: Input) -> None:
        nonlocal done
        if done < count:
            done += 1
            put(replace(one, name=f"generated:{done}"))

    batch = 0
    while done < count:

        @seed(number * 1000 + batch)
        @settings(
            max_examples=_BATCH,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.sampled_from(wheel).flatmap(lambda strategy: strategy))
        def take(one: Input) -> None:
            if done >= count or (one.request, one.at) in seen:
                return
            seen.add((one.request, one.at))
            hand_on(one)
            if done % _BETWEEN == 0:
                hand_on(_CHANGES[done // _BETWEEN % len(_CHANGES)])

        take()
        batch += 1
