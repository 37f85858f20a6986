"""Sends inputs on several connections at once, and keeps what was wrong with the answers."""

from __future__ import annotations

import asyncio
import json
import math
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.fuzz.inputs import (
    BEARER,
    FORM,
    NOWHERE,
    PRIVATE,
    SHARED,
    STEPS,
    TOKENS,
    Input,
    bad_tokens,
)
from tests.fuzz.judge import Judge
from tests.fuzz.visitor import GOOD_ANSWERS, START, NotThereError, Visitor
from tests.fuzz.watch import Watch
from tests.fuzz.wire import Answer, Connection, Request

CONNECTIONS = 4
"""How many inputs are under way at once. One core answers a form's turn in 0.1 s, so with more of
them an answer would be late for no fault of the input."""

CANARY = "Quillon Zanthorpe"
CANARY_MAIL = "quillon.zanthorpe@example.org"
CANARY_NOTE = "the vermilion periscope hums"
CANARIES = ("zanthorpe", "quillon", "vermilion periscope", "marzipan submarine")
"""Words of visitors who talk all the while; nobody else may be shown them."""

_CANARY_PAUSE_SECONDS = 3.0
_LONGEST_CONVERSATION = 25  # messages; then the next visitor comes
_TRIES_PER_STEP = 3  # inputs at a step of the form before it is answered and goes on
_MOST_FINDINGS = 200
_LINES_SECONDS = 5.0


@dataclass
class Finding:
    """What was wrong with one answer, and all that is needed to ask again."""

    name: str
    why: str
    faults: list[str]
    request: dict[str, Any]
    at: str
    said: list[str]
    status: int = 0
    body: str = ""

    @classmethod
    def of(
        cls, sent: Input, faults: list[str], request: Request, said: Iterable[str], answer: Answer
    ) -> Finding:
        """Return the finding of an answer."""
        shown = answer.body[:2000].decode("utf-8", "replace")
        wire = _as_json(request)
        return cls(sent.name, sent.why, faults, wire, sent.at, list(said), answer.status, shown)

    @classmethod
    def plain(cls, name: str, fault: str, at: str = NOWHERE, said: Iterable[str] = ()) -> Finding:
        """Return a finding that no single request made."""
        return cls(name, name, [fault], _as_json(Request()), at, list(said))

    def asked(self) -> Request:
        """Return the request."""
        wire = dict(self.request)
        wire["body"] = b64decode(wire["body"])
        wire["raw"] = None if wire["raw"] is None else b64decode(wire["raw"])
        wire["headers"] = tuple((name, value) for name, value in wire["headers"])
        return Request(**wire)

    def __str__(self) -> str:
        return f"{self.name} ({self.why}): {'; '.join(self.faults)}"


def _as_json(request: Request) -> dict[str, Any]:
    wire = asdict(request)
    wire["body"] = b64encode(request.body).decode()
    wire["raw"] = None if request.raw is None else b64encode(request.raw).decode()
    return wire


@dataclass
class Report:
    """What was sent and what came back.

    Attributes:
        statuses: how often each status came, 0 for none.
        places: how often something was sent in each place, only what was answered with 200.
        slowest: seconds, seconds waited for the machine, and name of the slowest answers.
        findings: what was wrong.
    """

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, float, str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def take(self, sent: Input, answer: Answer, at: str, waited: float) -> None:
        """Count an answer."""
        self.sent += 1
        self.statuses[answer.status] += 1
        self.slowest.append((answer.seconds, waited, sent.name, f"{sent.why} {sent.text[:60]!r}"))
        if len(self.slowest) > 200:
            self.slowest = sorted(self.slowest, reverse=True)[:20]
        said = sent.request.method == "POST" and sent.request.target == "/webchat/messages"
        if said and answer.status == 200:
            self.places[at or "elsewhere"] += 1
            for message in json.loads(answer.body)["messages"][:1]:
                area = str(message["metadata"].get("topic", "")).partition("/")[0]
                self.topics[area or "the form, or no topic"] += 1


class Fuzz:
    """One run against one server."""

    def __init__(self, watch: Watch, judge: Judge, secret: str, say: Callable[[str], None]) -> None:
        self._watch = watch
        self._judge = judge
        self._say = say
        self._secret = secret
        self._bad: dict[str, str] = {}
        self._shared: Visitor | None = None
        self._renewing = asyncio.Lock()
        self.report = Report()

    def connection(self) -> Connection:
        """Return a new connection to the server."""
        parts = urlsplit(self._watch.server.url)
        return Connection(str(parts.hostname), int(parts.port or 80))

    async def run(self, inputs: AsyncIterator[Input], connections: int = CONNECTIONS) -> Report:
        """Send all inputs; stop early if the server is gone or answers nothing right."""
        somebody = await Visitor.open(self.connection())
        await somebody.say("what is sciatica?")
        self._bad = bad_tokens(self._secret, somebody.session["conversation_id"])
        self._shared = await Visitor.open(self.connection())
        canaries = [await self._planted(private) for private in (False, True)]
        lock = asyncio.Lock()

        async def following() -> Input | None:
            async with lock:
                return await anext(inputs, None)

        aside = [self._tell(), *(self._keep_talking(visitor) for visitor in canaries)]
        beside = [asyncio.create_task(task) for task in aside]
        try:
            await asyncio.gather(*(self._work(following) for _ in range(connections)))
            await self._look_into(self._shared, "the shared conversation")
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        return self.report

    async def _planted(self, private: bool) -> Visitor:
        """Return a visitor whose words nobody else may see: in the conversation and in the form."""
        visitor = await Visitor.open(self.connection(), private)
        await visitor.say("a marzipan submarine makes my sciatica worse")
        await visitor.go_to("name")
        for text in (f"my name is {CANARY}", CANARY_MAIL, "mondays", CANARY_NOTE):
            await visitor.say(text)
        if visitor.asks != "decision":
            raise NotThereError(f"the planted form asks for '{visitor.asks}'")
        return visitor

    async def _keep_talking(self, visitor: Visitor) -> None:
        """Read and speak in a planted conversation, so that its words are always under way."""
        while True:
            await asyncio.sleep(_CANARY_PAUSE_SECONDS)
            request = visitor.filled(Request("GET", "/webchat/messages", (BEARER,)))
            shown = (await visitor.connection.ask(request)).body.decode("utf-8", "replace")
            if "marzipan submarine" not in shown:
                self._find_plain("a planted conversation", f"it lost its words: {shown[:300]}")
            if visitor.messages < _LONGEST_CONVERSATION:
                await visitor.say("does the marzipan submarine hurt?")

    async def hurry(self, inputs: list[Input]) -> Report:
        """Send what needs no form as fast as possible; whoever is too fast must be told so."""
        visitor = await Visitor.open(self.connection())
        self._bad = bad_tokens(self._secret, visitor.session["conversation_id"])

        async def send(part: list[Input]) -> None:
            connection = self.connection()
            for sent in part:
                # A refusal for haste goes before what an input would get else.
                await self._send(
                    replace(sent, at=NOWHERE, statuses=frozenset()), visitor, connection
                )
            connection.close()

        chosen = [one for one in inputs if one.request.method != "DELETE"]
        await asyncio.gather(*(send(chosen[n::CONNECTIONS]) for n in range(CONNECTIONS)))
        return self.report

    async def calm(self) -> list[Finding]:
        """Return what is wrong when somebody comes back after a pause: nothing may be."""
        try:
            visitor = await Visitor.open(self.connection())
            answer = await visitor.say("what is sciatica?")
        except NotThereError as error:
            return [Finding.plain("after a pause", str(error))]
        if answer.status != 200:
            return [Finding.plain("after a pause", f"status {answer.status}")]
        return []

    async def _tell(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(_LINES_SECONDS)
            report, seconds = self.report, time.monotonic() - began
            self._say(
                f"  {report.sent} inputs in {seconds:.0f} s, {sum(report.places.values())} answered "
                f"by Rasa, {len(report.findings)} findings, {self._watch.memory():.0f} MB"
            )

    async def _work(self, following: Callable[[], Any]) -> None:
        """Take inputs until there are no more."""
        connection = self.connection()
        visitors: dict[str, Visitor] = {}
        tries = 0
        while self._watch.is_alive() and len(self.report.findings) < _MOST_FINDINGS:
            sent = await following()
            if sent is None:
                break
            try:
                visitor = await self._visitor(sent.at, visitors, connection)
                if sent.at == FORM:
                    tries += 1
                    if tries > _TRIES_PER_STEP or not visitor.asks:
                        await visitor.say(GOOD_ANSWERS.get(visitor.asks, START))
                        tries = 0
            except NotThereError as error:
                self._find(Finding.plain(sent.name, str(error), sent.at))
                visitors.clear()
                continue
            await self._send(sent, visitor, connection)
        for visitor in visitors.values():
            await self._look_into(visitor, "a conversation at the end")
        connection.close()

    async def _visitor(
        self, at: str, visitors: dict[str, Visitor], connection: Connection
    ) -> Visitor | None:
        """Return who sends an input: a session that stands where it shall."""
        if at == NOWHERE:
            return None
        if at == SHARED:
            async with self._renewing:
                if self._shared.messages > _LONGEST_CONVERSATION:
                    before, self._shared = self._shared, await Visitor.open(self.connection())
                    await self._look_into(before, "the shared conversation")
            # Each on a connection of its own, all in one conversation.
            return self._shared
        home = "form" if at in STEPS else at
        visitor = visitors.get(home)
        is_long = visitor is not None and visitor.messages > _LONGEST_CONVERSATION
        if visitor is not None and is_long and not visitor.over:
            await self._look_into(visitor, "a conversation")
            answer = await visitor.end()
            if answer.status != 204:
                self._find_plain("erasing a conversation", f"status {answer.status}")
            visitor = None
        if visitor is None or visitor.over:
            visitor = await Visitor.open(connection, private=at == PRIVATE)
            visitors[home] = visitor
        if at in STEPS:
            try:
                await visitor.go_to(at)
            except NotThereError:
                # What was sent before may have led elsewhere for good; a new visitor gets there.
                visitors[home] = visitor = await Visitor.open(connection)
                await visitor.go_to(at)
        return visitor

    async def _send(self, sent: Input, visitor: Visitor | None, connection: Connection) -> None:
        request = sent.request
        for name in TOKENS:
            marker = "{" + name + "}"
            if any(marker in value for _, value in request.headers):
                headers = tuple((n, v.replace(marker, self._bad[name])) for n, v in request.headers)
                request = Request(request.method, request.target, headers, request.body)
        at = sent.at
        if visitor is not None:
            if visitor.asks:
                at = visitor.asks
            request = visitor.filled(request)
            visitor.is_to_say(request)
        before = self._watch.waited()
        answer = await connection.ask(request)
        waited = self._watch.waited() - before
        said = (*visitor.said, *visitor.ids) if visitor else ()
        try:
            faults = self._judge.faults(sent, answer, said, waited)
            self.report.take(sent, answer, at, waited)
            if faults:
                self._find(Finding.of(sent, faults, request, said, answer))
            if visitor is not None:
                visitor.was_told(request, answer)
                if request.method == "DELETE" and answer.status == 204:
                    visitor.over = True
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._find(Finding.of(sent, [f"cannot be judged: {error!r}"], request, said, answer))
        for line in self._watch.new_errors():
            self._find(
                Finding.of(sent, [f"the log, about then: {line[:300]}"], request, said, answer)
            )

    async def _look_into(self, visitor: Visitor, name: str) -> None:
        if visitor.over:
            return
        for fault in await visitor.strangers():
            self._find_plain(name, fault, visitor.said)

    def _find_plain(self, name: str, fault: str, said: Iterable[str] = ()) -> None:
        self._find(Finding.plain(name, fault, said=said))

    def _find(self, finding: Finding) -> None:
        self.report.findings.append(finding)
        self._say(f"  FOUND {finding}")


async def each(inputs: Iterable[Input], seconds: float = math.inf) -> AsyncIterator[Input]:
    """Return inputs one by one, for so many seconds."""
    end = time.monotonic() + seconds
    following = iter(inputs)
    while time.monotonic() < end:
        # Drawing takes seconds at times, in which answers must not wait to be read.
        one = await asyncio.to_thread(next, following, None)
        if one is None:
            return
        yield one


def keep(findings: Iterable[Finding], folder: Path) -> list[Path]:
    """Write findings to files that `--repeat` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, finding in enumerate(findings, 1):
        path = folder / f"finding-{number}.json"
        path.write_text(json.dumps(asdict(finding), indent=1), encoding="utf-8")
        paths.append(path)
    return paths


async def repeat(finding: Finding, connection: Connection) -> Answer:
    """Say what was said before a finding, in a new session, and send its request again."""
    visitor = await Visitor.open(connection)
    for text in finding.said:
        await visitor.say(text)
    request = finding.asked()
    headers = tuple(
        (name, f"Bearer {visitor.token}" if finding.at and name == "Authorization" else value)
        for name, value in request.headers
    )
    return await connection.ask(
        Request(
            request.method, request.target, headers, request.body, request.raw, request.unfinished
        )
    )
