"""One turn of a conversation: Rasa's processor, which answers each message once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import get_ident
from typing import Any, TypeVar

from cachetools import LRUCache
from rasa.core.actions.action import Action, ActionExecutionRejection, RemoteAction
from rasa.core.channels.channel import UserMessage
from rasa.core.processor import MessageProcessor
from rasa.engine.constants import PLACEHOLDER_MESSAGE, PLACEHOLDER_TRACKER
from rasa.engine.loader import load_predict_graph_runner
from rasa.engine.runner.interface import GraphRunner
from rasa.engine.storage.local_model_storage import LocalModelStorage
from rasa.engine.storage.storage import ModelMetadata
from rasa.shared.core.events import BotUttered, SessionStarted, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.nlu.training_data.message import Message

from assistant.graph_runner import OrderedGraphRunner
from assistant.in_process_actions import InProcessActions
from assistant.storage.daily_counts import process_counter
from assistant.storage.database import StorageError

_MOST_AHEAD = 64  # messages that were begun and are not handled yet
_AT_ONCE = 2  # messages; a third won nothing, since Python's own part is done one at a time

Result = TypeVar("Result")


class TurnNotStoredError(Exception):
    """The turn was answered and could not be stored.

    Attributes:
        in_form: whether the answer belongs to a form, which would not know of it in the next turn.
    """

    def __init__(self, reason: str, in_form: bool) -> None:
        super().__init__(reason)
        self.in_form = in_form


class ActionFailedError(Exception):
    """An action failed, so the turn is not stored: the conversation stands where it was before."""


class TurnProcessor(MessageProcessor):
    """Rasa's processor, with these changes:

    * When an action fails, Rasa goes on as if it had done nothing, so that a form may be over whose
      request was never confirmed. Here the turn ends and is not stored; the visitor may try again.
    * A message that comes again under its id is not handled again: its answer is sent once more. The
      caller holds the conversation's lock, so this holds across processes.
    * Its steps that concern end-to-end training and anonymization, which are not used here, are left
      out. So is comparing the domain with an empty one in each turn, for a warning.
    * The model's parts are run by `OrderedGraphRunner`.
    * Messages are understood in threads of their own. Half of that time the sentence encoder computes
      without Python's lock, and other visitors' messages and turns go on meanwhile. What needs only
      the message's words can begin before its conversation is found (`read_ahead`).
    """

    graph_runner: OrderedGraphRunner

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._understanding = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="understanding")
        self._understanding_since: dict[int, float] = {}  # by thread
        self._ahead: LRUCache[str, Future[dict[str, Any]]] = LRUCache(_MOST_AHEAD)

    def read_ahead(self, text: str) -> None:
        """Begin to understand a message that will be handled or parsed in a moment.

        Args:
            text: its text, exactly as it will come.
        """
        if text not in self._ahead:
            self._ahead[text] = self._understanding.submit(self._timed, self._begin, text)

    async def parse_message(
        self,
        message: UserMessage,
        tracker: DialogueStateTracker | None = None,
        only_output_properties: bool = True,
    ) -> dict[str, Any]:
        """Return what a message means, given the conversation before it."""
        conversation = tracker or DialogueStateTracker.from_events(message.sender_id, [])
        inputs = {PLACEHOLDER_MESSAGE: [message], PLACEHOLDER_TRACKER: conversation}
        begun = self._ahead.pop(message.text, None) if only_output_properties else None
        understood = await asyncio.get_running_loop().run_in_executor(
            self._understanding, self._timed, self._understand, inputs, begun
        )
        parsed: dict[str, Any] = {
            "text": "",
            "intent": {"name": None, "confidence": 0.0},
            "entities": [],
            **understood.as_dict(only_output_properties=only_output_properties),
        }
        self._update_full_retrieval_intent(parsed)
        return parsed

    @property
    def understanding_seconds(self) -> float:
        """How long the oldest message at hand has been looked at; 0 if there is none."""
        now = time.monotonic()
        return now - min(list(self._understanding_since.values()), default=now)

    def _begin(self, text: str) -> dict[str, Any]:
        inputs = {PLACEHOLDER_MESSAGE: [UserMessage(text)]}
        return self.graph_runner.run_ahead(inputs, [self.model_metadata.nlu_target])

    def _understand(self, inputs: dict[str, Any], begun: Future[dict[str, Any]] | None) -> Message:
        # What failed ahead fails again, and is then told to whoever waits for it.
        done = {**begun.result(), **inputs} if begun and not begun.exception() else inputs
        target = self.model_metadata.nlu_target
        message: Message = self.graph_runner.run(done, [target])[target][0]
        return message

    def _timed(self, work: Callable[..., Result], *arguments: Any) -> Result:
        thread = get_ident()
        self._understanding_since[thread] = time.monotonic()
        try:
            return work(*arguments)
        finally:
            del self._understanding_since[thread]

    @staticmethod
    def _load_model(model_path: str | Path) -> tuple[str, ModelMetadata, GraphRunner]:
        path = Path(model_path)
        with TemporaryDirectory() as folder:
            metadata, runner = load_predict_graph_runner(
                Path(folder), path, LocalModelStorage, OrderedGraphRunner
            )
        return path.name, metadata, runner

    async def handle_message(self, message: UserMessage) -> list[dict[str, Any]] | None:
        """Answer a message through its output channel.

        Raises:
            StorageError: the conversation could not be read; nothing was answered.
            ActionFailedError: what was answered so far stands, but the turn is not stored.
            TurnNotStoredError: the turn was answered and not stored.
        """
        tracker = await self.fetch_tracker_and_update_session(
            message.sender_id, message.output_channel, message.metadata
        )
        known = answer_to(tracker, message.message_id)
        if known is not None:
            for event in known:
                await message.output_channel.send_response(message.sender_id, event.message())
            return None
        if _is_beginning(tracker):
            process_counter().conversation_began()
        await self._handle_message_with_tracker(message, tracker)
        tracker = await self.run_action_extract_slots(message.output_channel, tracker)
        await self._run_prediction_loop(message.output_channel, tracker)
        try:
            await self.save_tracker(tracker)
        except StorageError as error:
            raise TurnNotStoredError(str(error), tracker.active_loop_name is not None) from error
        return None

    async def _run_action(self, action: Action, *arguments: Any, **named: Any) -> bool:
        if type(action) is RemoteAction and isinstance(action.action_endpoint, InProcessActions):
            action = _OurAction(action.name(), action.action_endpoint)
        watched = _WatchedAction(action)
        goes_on = await super()._run_action(watched, *arguments, **named)
        if watched.error is not None:
            raise ActionFailedError(f"The action {action.name()} failed.") from watched.error
        return bool(goes_on)


class _OurAction(RemoteAction):
    """A custom action in this process: what it returns is not validated against a schema."""

    def _validate_action_result(self, result: dict[str, Any]) -> bool:
        return True


class _WatchedAction:
    """An action whose error is kept, since Rasa only logs it."""

    def __init__(self, action: Action) -> None:
        self._action = action
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    async def run(self, *arguments: Any, **named: Any) -> Any:
        try:
            return await self._action.run(*arguments, **named)
        except ActionExecutionRejection:  # it declines; that is no error
            raise
        except Exception as error:
            self.error = error
            raise


def _is_beginning(tracker: DialogueStateTracker) -> bool:
    """Whether the visitor has said nothing yet, or nothing since Rasa took it for a new session."""
    for event in reversed(tracker.events):
        if isinstance(event, UserUttered):
            return False
        if isinstance(event, SessionStarted):
            return True
    return True


def answer_to(
    tracker: DialogueStateTracker | None, message_id: str | None
) -> list[BotUttered] | None:
    """Return what was answered to a message of that id; None if it has not come before."""
    answer: list[BotUttered] | None = None
    for event in tracker.events if tracker and message_id else []:
        if isinstance(event, UserUttered):
            if answer is not None:
                break
            answer = [] if event.message_id == message_id else None
        elif isinstance(event, BotUttered) and answer is not None:
            answer.append(event)
    return answer
