"""One visitor's message in, the assistant's messages out: never nothing, never an exception.

The web chat, the messaging channels and the evaluation all go through here, so that what is measured
is what visitors get.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rasa.core.channels.channel import OutputChannel, UserMessage

from assistant.logs import keep_out_of_logs
from assistant.metrics import process_metrics
from assistant.processor import ActionFailedError, TurnNotStoredError
from assistant.safety.advice import advice_for
from assistant.storage.daily_counts import process_counter
from assistant.storage.database import StorageError
from assistant.storage.kept_events import STORED_TEXT

logger = logging.getLogger(__name__)

Message = dict[str, Any]
"""A message of the web chat contract: text, buttons, image, metadata."""

WEBCHAT = "webchat"
TROUBLE = (
    "I'm sorry, something went wrong on my side and I could not answer. Please try again, or "
    "contact the office. In an emergency, call 911."
)
_ADVICE_SECONDS = 3.0
_STORING_SECONDS = 5.0  # more for a turn that is answered and being stored
EMPTY = "I got an empty message. Please type your question."


class CollectedReplies(OutputChannel):
    """Collects what Rasa says in one turn, in the shape of the web chat contract."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @classmethod
    def name(cls) -> str:
        """Return the channel's name, as trackers show it."""
        return WEBCHAT

    async def send_response(self, recipient_id: str, message: dict[str, Any]) -> None:
        """Take one response of Rasa's."""
        self.messages.extend(as_messages(message))


def as_messages(response: dict[str, Any]) -> list[Message]:
    """Turn a response of Rasa's into messages, one for each bubble.

    A blank line in the text parts two bubbles. All carry the topic; the buttons, the image and the
    sources stand at the last.
    """
    bubbles = [part.strip() for part in (response.get("text") or "").split("\n\n") if part.strip()]
    if not bubbles and not response.get("image"):
        return []
    metadata = dict(response.get("metadata") or {})
    metadata.pop(STORED_TEXT, None)
    shared = {key: metadata[key] for key in ("topic", "urgency", "step") if key in metadata}
    messages: list[Message] = [
        {"text": bubble, "buttons": [], "metadata": dict(shared)} for bubble in bubbles or [""]
    ]
    last = messages[-1]
    last["buttons"] = [
        {"title": str(button.get("title", "")), "payload": str(button.get("payload", ""))}
        for button in response.get("buttons") or []
    ]
    last["metadata"] = metadata
    if response.get("image"):
        last["image"] = response["image"]
    return messages


def notice(text: str) -> list[Message]:
    """Return a message from the channel itself, outside the conversation that Rasa keeps."""
    return [{"text": text, "buttons": [], "metadata": {}}]


async def converse(
    handle: Callable[[UserMessage], Awaitable[Any]],
    conversation_id: str,
    text: str,
    seconds: float,
    message_id: str | None = None,
    channel: str = WEBCHAT,
) -> list[Message]:
    """Hand a visitor's text to Rasa and return its answer: always at least one message.

    Args:
        handle: Rasa's message handler.
        conversation_id: whose conversation.
        text: the cleaned text; may be empty.
        seconds: how long Rasa may take before the visitor gets an apology.
        message_id: what the conversation knows the message by; made up if there is none.
        channel: where it came from, one of `assistant.metrics.CHANNELS`.
    """
    metrics = process_metrics()
    metrics.received(channel)
    began = time.perf_counter()
    with keep_out_of_logs(text):
        messages = await _reply(handle, conversation_id, text, seconds, message_id, channel)
    metrics.answered(channel, time.perf_counter() - began, messages)
    process_counter().answered(messages)
    return messages


async def _reply(
    handle: Callable[[UserMessage], Awaitable[Any]],
    conversation_id: str,
    text: str,
    seconds: float,
    message_id: str | None,
    channel: str,
) -> list[Message]:
    if not text:
        return notice(EMPTY)
    advice = advice_for(text)
    replies = CollectedReplies()
    message = UserMessage(
        text,
        replies,
        conversation_id,
        input_channel=channel,
        message_id=message_id,
    )
    if advice:  # it is known already, so nothing may keep the visitor waiting for it
        seconds = min(seconds, _ADVICE_SECONDS)
    try:
        await _within(seconds, handle(message), replies)
        if not replies.messages:
            process_metrics().empty_reply(channel)
    except asyncio.TimeoutError:
        process_metrics().failed("timeout")
        logger.error("No answer within %s seconds.", seconds)
        replies.messages.clear()  # nobody knows whether it is stored, and the next turn builds on it
    except ActionFailedError as error:
        process_metrics().failed("error")
        logger.error("%s The turn is not stored.", error)
    except TurnNotStoredError as error:
        process_metrics().failed("storage")
        # The answer is right all the same, unless the next turn would build on it.
        logger.error("An answer could not be stored. %s", error)
        if error.in_form:
            replies.messages.clear()
    except StorageError as error:
        process_metrics().failed("storage")
        logger.error("A conversation could not be read. %s", error)
    except Exception:
        process_metrics().failed("error")
        # Whatever it was, the visitor is told; the log has the reason, without the text.
        logger.exception("A message could not be answered.")
    if advice and not any("urgency" in message["metadata"] for message in replies.messages):
        # Whatever else was said or failed: the advice is what counts.
        return as_messages(advice)
    return replies.messages or notice(TROUBLE)


async def _within(seconds: float, turn: Awaitable[Any], replies: CollectedReplies) -> None:
    """Wait for a turn, and longer for one that only has to be stored; then give it up.

    Raises:
        asyncio.TimeoutError: it took too long.
    """
    task = asyncio.ensure_future(turn)
    try:
        # Not wait_for: on Python 3.10 it may lose a cancellation.
        await asyncio.wait({task}, timeout=seconds)
        if not task.done() and replies.messages:
            await asyncio.wait({task}, timeout=_STORING_SECONDS)
        if not task.done():
            raise asyncio.TimeoutError
        task.result()
    finally:
        task.cancel()
