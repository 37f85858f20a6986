"""A visitor of the fuzz: a session, what was said in it, and where its contact form stands."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from assistant.channels.sent_messages import is_message_id
from tests.fuzz.inputs import BEARER, STEPS
from tests.fuzz.wire import Answer, Connection, Request

GOOD_ANSWERS = {
    "consent": "Yes, that's okay",
    "name": "my name is Ana Lopez",
    "reach": "(818) 555-0134",
    "time": "Tuesday mornings",
    "note": "the gate code is on the door",
    "decision": "send",
}
"""What leads on from each step of the form."""

START = "I want to book an appointment"
_MOST_TURNS = 10


class NotThereError(Exception):
    """The contact form did not come to a step, though it was answered as it asked."""


@dataclass
class Visitor:
    """One session.

    Attributes:
        connection: where it talks.
        session: what the server returned for it.
        said: everything that was sent in it as a message, in order.
        ids: the ids of its messages.
        asks: what the last answer asked for; "" if it asked for nothing.
        over: whether it was ended.
        offered: what the buttons of the last answer send.
        messages: how many messages were answered.
    """

    connection: Connection
    session: dict[str, Any]
    said: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    asks: str = ""
    over: bool = False
    offered: list[str] = field(default_factory=list)
    messages: int = 0

    @classmethod
    async def open(cls, connection: Connection, private: bool = False) -> Visitor:
        """Start a session.

        Raises:
            NotThereError: the server did not give one.
        """
        body = b'{"private": true}' if private else b""
        answer = await connection.ask(Request("POST", "/webchat/session", body=body))
        if answer.status != 201:
            raise NotThereError(
                f"no session: {answer.status} {answer.trouble} {answer.body[:200]!r}"
            )
        session = json.loads(answer.body)
        visitor = cls(connection, session)
        visitor._take(session["messages"])
        return visitor

    @property
    def token(self) -> str:
        """The session's token."""
        return str(self.session["token"])

    def filled(self, request: Request) -> Request:
        """Return a request with the places for the token and for the last message's id filled."""
        headers = tuple((n, v.replace("{token}", self.token)) for n, v in request.headers)
        body = request.body
        if b"{message_id}" in body:
            last = self.ids[-1] if self.ids else "no-message-yet"
            body = body.replace(b"{message_id}", last.encode())
        if b"{offered}" in body:
            offered = json.dumps(self.offered[-1] if self.offered else "nothing")[1:-1]
            body = body.replace(b"{offered}", offered.encode())
        return replace(request, headers=headers, body=body)

    def is_to_say(self, request: Request) -> None:
        """Keep what a request says in this session, before it is sent."""
        if not _says(request):
            return
        try:
            sent = json.loads(request.body)
            self.said.append(str(sent.get("text") or sent.get("postback") or ""))
            if is_message_id(sent.get("id")):
                self.ids.append(sent["id"])
        except (ValueError, AttributeError, RecursionError):
            self.said.append(request.body.decode("utf-8", "replace"))

    def was_told(self, request: Request, answer: Answer) -> None:
        """Keep what the answer to a request asks."""
        if _says(request) and answer.status == 200:
            self.messages += 1
            self._take(json.loads(answer.body)["messages"])

    def _take(self, messages: list[dict[str, Any]]) -> None:
        asked = [str(message["metadata"].get("asks", "")) for message in messages]
        self.asks = next((step for step in reversed(asked) if step in STEPS), "")
        self.offered = [button["payload"] for message in messages for button in message["buttons"]]

    async def say(self, text: str) -> Answer:
        """Send a message under an id of its own."""
        message_id = f"fuzz-{secrets.token_urlsafe(9)}"
        body = json.dumps({"text": text, "id": message_id}).encode()
        request = self.filled(Request("POST", "/webchat/messages", (BEARER,), body))
        self.is_to_say(request)
        answer = await self.connection.ask(request)
        self.was_told(request, answer)
        return answer

    async def go_to(self, step: str) -> None:
        """Answer the contact form until it asks for a step.

        Raises:
            NotThereError: it never does.
        """
        for _ in range(_MOST_TURNS):
            if self.asks == step:
                return
            await self.say(GOOD_ANSWERS.get(self.asks, START))
        raise NotThereError(f"the form does not come to '{step}' after {self.said[-_MOST_TURNS:]}")

    async def strangers(self) -> list[str]:
        """Return what stands in the conversation though this visitor did not send it."""
        request = self.filled(Request("GET", "/webchat/messages", (BEARER,)))
        answer = await self.connection.ask(request)
        if answer.status != 200:
            return [f"the conversation cannot be read: {answer.status} {answer.trouble}"]
        messages = json.loads(answer.body)["messages"]
        shown = Counter(m["id"] for m in messages if m.get("from") == "visitor" and m["id"])
        # Messages without an id of ours get one from Rasa: 32 hexadecimal digits.
        known = set(self.ids)
        return [
            f"a message that this visitor did not send: {one}"
            for one in shown
            if one not in known and not _is_rasas(one)
        ]

    async def end(self) -> Answer:
        """Erase the conversation and end the session."""
        request = self.filled(Request("DELETE", "/webchat/session", (BEARER,)))
        return await self.connection.ask(request)


def _says(request: Request) -> bool:
    return request.method == "POST" and request.target.startswith("/webchat/messages")


def _is_rasas(message_id: str) -> bool:
    return len(message_id) == 32 and set(message_id) <= set("0123456789abcdef")
