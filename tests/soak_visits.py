"""The visitors of the soak: what they say, and what they were answered.

Every message carries the mark of its conversation: in its id, and in its text wherever that is the
visitor's own (questions, names, notes). So a mark in a wrong place tells that something was mixed up.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from assistant.channels.conversation import TROUBLE, as_messages
from assistant.safety.advice import advice_for

LIVE = 300  # conversations at a time
MOST_TRIES = 12
LONGEST_PAUSE = 30.0  # seconds between two tries, as in the widget
ANSWER_SECONDS = 35.0  # then the widget gives up waiting and sends again

MARK = re.compile(r"qx[bcdfghjklmnpqrstvwxz]{8}", re.IGNORECASE)

QUESTIONS = (
    "what is sciatica", "does acupuncture hurt?", "should I stop eating gluten?",
    "how long does sciatica last", "where is your office?", "do i need an mri",
    "can i get acupuncture while pregnant", "is walking good for me", "which stretches help",
    "how many sessions do i need", "what are your hours", "do you take insurance", "heat or ice?",
    "is it safe and how much does it cost", "blorp the flanges",
)  # fmt: skip
NOT_CLEAR = ("heat or ice?", "blorp the flanges")
"""In the form these are a name or a note as likely as a question: with the mark even more so."""
FOLLOW_UPS = ("why?", "how often?", "tell me more", "is it safe?", "thank you")
RED_FLAGS = (
    "i have crushing chest pain and cant breathe", "numb down there and cant pee", "i want to die",
)  # fmt: skip


def new_mark(chance: random.Random) -> str:
    """Return a word that no other conversation has and that means nothing."""
    return "qx" + "".join(chance.choices("bcdfghjklmnpqrstvwxz", k=8))


@dataclass
class Sent:
    """A message and what became of it.

    Attributes:
        message_id: its id.
        text: what the visitor said.
        kind: what it is an example of.
        due_at: when the visitor sent it, on the monotonic clock.
        answered_at: when its answer was there; 0 without one.
        answer: the messages that the visitor saw.
        tries: how often it was sent.
        quick: which of the messages that were sent at the same moment it is; 0 if it was alone.
    """

    message_id: str
    text: str
    kind: str
    due_at: float
    answered_at: float = 0.0
    answer: list[dict[str, Any]] | None = None
    tries: int = 0
    quick: int = 0

    @property
    def is_apology(self) -> bool:
        """Whether the answer is the channel's apology, which stands in no conversation."""
        return [message["text"] for message in self.answer or []] == [TROUBLE]

    @property
    def is_advice_alone(self) -> bool:
        """Whether the answer is just the advice that a red flag gets whatever fails."""
        return self.answer is not None and self.answer == as_messages(advice_for(self.text) or {})


@dataclass
class Conversation:
    """One visitor's conversation.

    Attributes:
        mark: the word that is in no other conversation.
        plan: the turns to come, each of one or two messages at once: kind and text.
        sent: what was said.
        deleted: "yes" if the visitor was told so, "perhaps" if no answer came.
    """

    mark: str
    plan: deque[list[tuple[str, str]]]
    wants_deletion: bool
    token: str = ""
    conversation_id: str = ""
    sent: list[Sent] = field(default_factory=list)
    deleted: str = ""
    number: str = ""

    @property
    def name(self) -> str:
        """What the visitor gives as a name."""
        return f"Ana {self.mark.capitalize()}"

    @property
    def email(self) -> str:
        """Where the visitor wants to be reached."""
        return f"{self.mark}@example.com"

    @property
    def note(self) -> str:
        """What the visitor wants the office to know."""
        return f"Please ring twice {self.mark}"


TIME = "Tuesday afternoon"


def new_conversation(chance: random.Random) -> Conversation:
    """Return a conversation that begins, with a plan of what will be said."""
    conversation = Conversation(new_mark(chance), deque(), chance.random() < 0.1)
    mark = conversation.mark

    def question(questions: Sequence[str] = QUESTIONS) -> tuple[str, str]:
        return "question", f"{chance.choice(questions)} {mark}"

    turns: list[list[tuple[str, str]]] = []
    for _ in range(chance.randint(2, 6)):
        turns.append([question()])
        if chance.random() < 0.4:
            turns.append([("follow-up", chance.choice(FOLLOW_UPS))])
        if chance.random() < 0.15:
            turns.append([question(), question()])
        if chance.random() < 0.05:
            turns.append([("red flag", f"{chance.choice(RED_FLAGS)} {mark}")])
    if chance.random() < 0.25:
        booking = [
            "I want to book an appointment", "yes", conversation.name, conversation.email, TIME,
            conversation.note,
        ]  # fmt: skip
        form = [[("booking", text)] for text in booking]
        if chance.random() < 0.3:
            clear = [one for one in QUESTIONS if one not in NOT_CLEAR]
            form.insert(chance.randint(2, 5), [question(clear)])
        form.append([("confirmation", "send")])
        # Not in the middle of a red flag, which pauses a form.
        turns = [*turns, *form] if chance.random() < 0.5 else [*form, *turns]
    conversation.plan.extend(turns)
    return conversation


class Visitors:
    """All visitors of a run, and the workers that they can reach.

    Args:
        addresses: of the workers.
        chance: what decides of everything that is left to chance.
    """

    def __init__(self, addresses: list[str], chance: random.Random) -> None:
        self._addresses = addresses
        self._chance = chance
        self.conversations: list[Conversation] = []
        self.troubles: Counter[str] = Counter()
        self.violations: list[str] = []
        self._idle: list[Conversation] = []
        self._live = 0
        self._marks: set[str] = set()
        self._http: aiohttp.ClientSession | None = None

    async def visit(self, seconds: float, rate: float, say: Callable[[str], None]) -> None:
        """Send messages at a rate, however long the answers take, until the time is over.

        Args:
            seconds: how long.
            rate: messages a second, all visitors together.
            say: takes lines of progress.
        """
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as self._http:
            began = time.monotonic()
            under_way: set[asyncio.Task[None]] = set()
            sent, shown = 0, began
            due = began
            while due < began + seconds:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                conversation = self._next()
                turn = conversation.plan.popleft()
                task = asyncio.create_task(self._take_turn(conversation, turn, due))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                task.add_done_callback(self._note_failure)
                sent += len(turn)
                due += sum(self._chance.expovariate(rate) for _ in turn)
                if time.monotonic() - shown > 30:
                    shown = time.monotonic()
                    say(
                        f"{shown - began:5.0f} s: {sent} messages, {self._live} conversations, "
                        f"{len(under_way)} turns under way"
                    )
            while under_way:
                await asyncio.wait(under_way)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception():
            self.violations.append(f"a visitor met {task.exception()!r}")

    def _next(self) -> Conversation:
        """Return a conversation that waits for its visitor, or a new one."""
        is_full = self._live >= LIVE
        if self._idle and (is_full or self._chance.random() < 0.5):
            place = self._chance.randrange(len(self._idle))
            self._idle[place], self._idle[-1] = self._idle[-1], self._idle[place]
            return self._idle.pop()
        conversation = new_conversation(self._chance)
        while conversation.mark in self._marks:
            conversation = new_conversation(self._chance)
        self._marks.add(conversation.mark)
        self._live += 1
        self.conversations.append(conversation)
        return conversation

    async def _take_turn(
        self, conversation: Conversation, turn: list[tuple[str, str]], due: float
    ) -> None:
        if not conversation.token:
            if not await self._open(conversation):
                self.troubles["session not opened"] += 1
                self._live -= 1
                return
            due = time.monotonic()
        messages = [
            Sent(
                f"{conversation.mark}-{len(conversation.sent) + place:03}",
                text,
                kind,
                due,
                quick=place + 1 if len(turn) > 1 else 0,
            )
            for place, (kind, text) in enumerate(turn)
        ]
        conversation.sent.extend(messages)
        await asyncio.gather(*(self._send(conversation, sent) for sent in messages))
        if conversation.plan:
            if self._chance.random() < 0.05:
                await self._reload(conversation)
            self._idle.append(conversation)
            return
        if conversation.wants_deletion:
            await self._delete(conversation)
        self._live -= 1

    async def _open(self, conversation: Conversation) -> bool:
        status, body = await self._insist("POST", "/webchat/session")
        if status == 201:
            conversation.token = body["token"]
            conversation.conversation_id = body["conversation_id"]
        return status == 201

    async def _send(self, conversation: Conversation, sent: Sent) -> None:
        """Send a message until it is answered; some visitors hang up at first and send it again."""
        body = {"id": sent.message_id, "text": sent.text}
        hurried = self._chance.random() < 0.02
        status, answer = await self._insist(
            "POST", "/webchat/messages", conversation.token, body, sent, hurried
        )
        if status != 200:
            self.troubles[f"message given up, status {status}"] += 1
            if 400 <= status < 500:
                self.violations.append(f"{sent.message_id} was refused: {status} {answer}")
            return
        sent.answered_at = time.monotonic()
        sent.answer = answer["messages"]
        if not sent.answer:
            self.violations.append(f"{sent.message_id} got an empty answer")
        if sent.kind == "red flag" and not any("urgency" in m["metadata"] for m in sent.answer):
            self.violations.append(f"{sent.message_id} got no advice on a red flag")
        self._check_marks(conversation, repr(sent.answer))
        if sent.kind == "confirmation":
            number = re.search(r"R-\w{4}-\w{4}", repr(sent.answer))
            if number:
                conversation.number = number.group()

    async def _reload(self, conversation: Conversation) -> None:
        """Look at the conversation as a page that was loaded anew does."""
        status, body = await self._insist("GET", "/webchat/messages", conversation.token)
        if status != 200:
            self.troubles["reload given up"] += 1
            return
        self._check_marks(conversation, repr(body))
        shown = [one["id"] for one in body["messages"] if one.get("from") == "visitor"]
        missing = [
            sent.message_id
            for sent in conversation.sent
            if sent.answer
            and not sent.is_apology
            and not sent.is_advice_alone
            and sent.message_id not in shown
        ]
        if missing:
            self.violations.append(f"a reload does not show {missing}")

    async def _delete(self, conversation: Conversation) -> None:
        """Delete the conversation and look whether its token is over at every worker."""
        conversation.deleted = "perhaps"
        status, _ = await self._insist("DELETE", "/webchat/session", conversation.token)
        if status == 401:  # deleted by a try whose answer was lost
            status = 204
        if status != 204:
            self.troubles["deletion given up"] += 1
            return
        conversation.deleted = "yes"
        for address in self._addresses:
            status, _ = await self._once(address, "GET", "/webchat/messages", conversation.token)
            if status not in (401, 0, 502, 503):
                self.violations.append(f"{conversation.mark} was deleted, but its token is good")

    def _check_marks(self, conversation: Conversation, words: str) -> None:
        foreign = {mark.lower() for mark in MARK.findall(words)} - {conversation.mark}
        if foreign:
            self.violations.append(f"{conversation.mark} was shown words of {foreign}")

    async def _insist(
        self,
        method: str,
        path: str,
        token: str = "",
        body: dict[str, str] | None = None,
        sent: Sent | None = None,
        hurried: bool = False,
    ) -> tuple[int, Any]:
        """Call a worker, and after a failure the other, as often as a patient visitor would.

        As behind our nginx a call that no worker took goes to the other at once; otherwise the
        visitor waits as the widget does.
        """
        place = self._chance.randrange(len(self._addresses))
        pauses = 0
        for number in range(1, MOST_TRIES + 1):
            if sent:
                sent.tries = number
            seconds = self._chance.uniform(0.005, 0.1) if hurried and number == 1 else 0.0
            address = self._addresses[place]
            status, answer = await self._once(address, method, path, token, body, seconds)
            if status and status < 500 and status != 429:
                return status, answer
            place = (place + 1) % len(self._addresses)
            if answer == "hung up":
                continue
            self.troubles[f"{method} {path.rsplit('/')[-1]}: {status or answer}"] += 1
            if answer == "not reached" and number == 1:
                continue
            asked = answer.get("retry_after", 0) if isinstance(answer, dict) else 0
            await asyncio.sleep(asked or min(2.0**pauses, LONGEST_PAUSE))
            pauses += 1
        return status, answer

    async def _once(
        self,
        address: str,
        method: str,
        path: str,
        token: str = "",
        body: dict[str, str] | None = None,
        seconds: float = 0.0,
    ) -> tuple[int, Any]:
        """Call a worker; return status and answer, or 0 and why there is none."""
        assert self._http
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = aiohttp.ClientTimeout(total=seconds or ANSWER_SECONDS)
        try:
            async with self._http.request(
                method, address + path, headers=headers, json=body, timeout=timeout
            ) as response:
                if response.status == 204:
                    return 204, {}
                answer = await response.json(content_type=None)
                if response.status >= 400 and isinstance(answer, dict):
                    answer["retry_after"] = int(response.headers.get("Retry-After", 0))
                return response.status, answer
        except aiohttp.ClientConnectorError:
            return 0, "not reached"
        except asyncio.TimeoutError:
            return 0, "hung up" if seconds else "no answer in time"
        except (aiohttp.ClientError, ValueError) as error:
            return 0, f"connection lost ({type(error).__name__})"
