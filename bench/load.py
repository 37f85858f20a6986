"""Traffic: visitors who talk to a server, from a process of their own.

    python -m bench.load < plan.json > what_happened.json

Own code rather than locust: a hundred lines of asyncio keep so little of a core busy that on a small
machine the server is measured and not the load, and messages that are due are sent whether or not
the server keeps up, which locust does not do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import aiohttp

Turn = tuple[str, float, bool]
"""Kind of message, milliseconds until it was answered, and whether the answer had words."""

_ANSWER_SECONDS = 60.0


class Visitor(ABC):
    """One conversation with a server."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address

    async def arrive(self) -> None:  # noqa: B027 - some channels need nothing
        """Do what a browser does before the first message."""

    @abstractmethod
    async def say(self, text: str) -> str:
        """Send a message and return the words of the answer; "" if there are none."""


class WebChatVisitor(Visitor):
    """Talks to our web chat."""

    _headers: dict[str, str]

    async def arrive(self) -> None:
        """Open a session."""
        async with self._http.post(f"{self._address}/webchat/session") as response:
            response.raise_for_status()
            self._headers = {"Authorization": f"Bearer {(await response.json())['token']}"}

    async def say(self, text: str) -> str:
        """Send a message to the web chat."""
        url = f"{self._address}/webchat/messages"
        async with self._http.post(url, json={"text": text}, headers=self._headers) as response:
            response.raise_for_status()
            return " ".join(message["text"] for message in (await response.json())["messages"])


class RestVisitor(Visitor):
    """Talks to Rasa's REST channel."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        super().__init__(http, address)
        self._sender = uuid.uuid4().hex

    async def say(self, text: str) -> str:
        """Send a message to the channel's webhook."""
        url = f"{self._address}/webhooks/rest/webhook"
        body = {"sender": self._sender, "message": text}
        async with self._http.post(url, json=body) as response:
            response.raise_for_status()
            return " ".join(message.get("text", "") for message in await response.json())


VISITORS: dict[str, type[Visitor]] = {"webchat": WebChatVisitor, "rest": RestVisitor}

_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, KeyError, ValueError)


class Traffic:
    """Sends the messages of a plan.

    Args:
        http: the connections.
        plan: `channel` (a key of VISITORS), `addresses` of the servers, among which visitors are
            dealt out in turn, and `conversations`: lists of pairs of kind and text.
    """

    def __init__(self, http: aiohttp.ClientSession, plan: dict[str, Any]) -> None:
        self._http = http
        self._visitor = VISITORS[plan["channel"]]
        self._addresses: Iterator[str] = itertools.cycle(plan["addresses"])
        self._conversations = itertools.cycle(plan["conversations"])
        self.turns: list[Turn] = []

    async def one_conversation(self, until: float = float("inf")) -> None:
        """Hold the next conversation; stop before a message when the time (monotonic) has come."""
        visitor = self._visitor(self._http, next(self._addresses))
        try:
            await visitor.arrive()
        except _FAILURES:
            self.turns.append(("session", 0.0, False))
            return
        for kind, text in next(self._conversations):
            if time.monotonic() >= until:
                return
            await self._turn(visitor, kind, text, time.perf_counter())

    async def in_turn(self, conversations: int) -> None:
        """Hold so many conversations, one after the other."""
        for _ in range(conversations):
            await self.one_conversation()

    async def together(self, visitors: int, seconds: float) -> None:
        """Keep so many visitors talking for some time, each waiting for each answer."""
        end = time.monotonic() + seconds

        async def talk() -> None:
            while time.monotonic() < end:
                await self.one_conversation(until=end)

        await asyncio.gather(*(talk() for _ in range(visitors)))

    async def at_rate(self, rate: float, seconds: float) -> None:
        """Send the first message of a new visitor so many times a second, come what may.

        Times count from when a message was due, so that what waits in a queue is not forgotten.
        """
        count = int(rate * seconds)
        visitors = [self._visitor(self._http, next(self._addresses)) for _ in range(count)]
        # Sessions are opened before, so that each message is one request on all sides.
        for start in range(0, count, 16):
            await asyncio.gather(*(visitor.arrive() for visitor in visitors[start : start + 16]))
        texts = itertools.cycle([turn for talk in self._texts() for turn in talk])
        began = time.perf_counter()

        async def send(place: int, visitor: Visitor) -> None:
            due = began + place / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._turn(visitor, *next(texts), due)

        await asyncio.gather(*(send(place, visitor) for place, visitor in enumerate(visitors)))

    def _texts(self) -> list[list[tuple[str, str]]]:
        first = next(self._conversations)
        rest = itertools.takewhile(lambda talk: talk is not first, self._conversations)
        return [first, *rest]

    async def _turn(self, visitor: Visitor, kind: str, text: str, due: float) -> None:
        try:
            words = (await visitor.say(text)).strip()
        except _FAILURES:
            words = ""
        self.turns.append((kind, 1000 * (time.perf_counter() - due), bool(words)))


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry out a plan.

    Args:
        plan: what `Traffic` takes, and `way`: the name of one of its methods with its `arguments`.

    Returns:
        `turns`, and the `seconds` from the first message to the last answer.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        traffic = Traffic(http, plan)
        began = time.perf_counter()
        await getattr(traffic, plan["way"])(**plan["arguments"])
        return {"turns": traffic.turns, "seconds": time.perf_counter() - began}


def main() -> None:
    """Read a plan from standard input and write what happened to standard output."""
    json.dump(asyncio.run(run(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
