"""Each message of a visitor is handled once, however often it arrives.

A browser that got no answer cannot know whether its message was taken, so it sends it again under
the same id. The id stands in the stored conversation, too, so this holds after a restart.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial

from cachetools import TTLCache

from assistant.channels.conversation import Message

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_SECONDS = 15 * 60  # a browser gives up long before
_MOST = 10_000


def is_message_id(value: object) -> bool:
    """Whether a value can name a message."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class SentMessages:
    """The answers of the last minutes, and those under way."""

    def __init__(self) -> None:
        self._answers: TTLCache[tuple[str, str], asyncio.Future[list[Message]]] = TTLCache(
            maxsize=_MOST, ttl=_SECONDS
        )

    async def answer(
        self,
        conversation_id: str,
        message_id: str,
        make: Callable[[], Awaitable[list[Message]]],
    ) -> list[Message]:
        """Return the answer to a message; make it if it is the first time that the message comes.

        The making goes on if the browser hangs up, so that the same message finds its answer when it
        comes again.

        Args:
            conversation_id: whose conversation.
            message_id: the id that the browser gave.
            make: makes the answer. What it raises is raised, and the message may come again.
        """
        key = (conversation_id, message_id)
        answer = self._answers.get(key)
        if answer is None:
            answer = asyncio.ensure_future(make())
            answer.add_done_callback(partial(self._drop_if_failed, key))
            self._answers[key] = answer
        return await asyncio.shield(answer)

    def _drop_if_failed(self, key: tuple[str, str], answer: asyncio.Future[list[Message]]) -> None:
        if answer.cancelled() or answer.exception():
            self._answers.pop(key, None)

    def forget(self, conversation_id: str) -> None:
        """Drop the answers of a conversation."""
        for key in [key for key in self._answers if key[0] == conversation_id]:
            self._answers.pop(key, None)
