"""Rasa's agent, loaded the way this assistant needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasa.core.agent import Agent
from rasa.core.lock_store import LockStore
from rasa.core.tracker_store import InMemoryTrackerStore, TrackerStore
from rasa.core.utils import AvailableEndpoints
from rasa.utils.endpoints import EndpointConfig

from assistant.answers.generator import AnswerGenerator
from assistant.in_process_actions import InProcessActions
from assistant.processor import TurnProcessor


class ModelError(RuntimeError):
    """The model cannot be loaded. Rasa itself would start without one and answer nothing."""


def read_endpoints(
    project: Path, action_endpoint: str = "", action_secret: str = ""
) -> AvailableEndpoints:
    """Read `endpoints.yml`.

    Args:
        project: the project folder.
        action_endpoint: address of an action server; "" runs the actions in this process.
        action_secret: what that server wants to hear; "" if it has none.
    """
    endpoints = AvailableEndpoints.read_endpoints(str(project / "endpoints.yml"))
    headers = {"Authorization": f"Bearer {action_secret}"} if action_secret else {}
    endpoints.action = (
        EndpointConfig(action_endpoint, headers=headers) if action_endpoint else InProcessActions()
    )
    return endpoints


class ConversationAgent(Agent):
    """Rasa's agent with our processor, and without the fail-safe wrapper around the tracker store.

    When the database fails the wrapper keeps the turn in memory, never reads it back, and lets the
    conversation start anew without a word. Our store raises, and the channel tells the visitor.
    """

    def load_model(self, model_path: str | Path, fingerprint: str | None = None) -> None:
        """Load a model."""
        self.processor = TurnProcessor(
            model_path=model_path,
            tracker_store=self.tracker_store,
            lock_store=self.lock_store,
            action_endpoint=self.action_endpoint,
            generator=self.nlg,
            http_interpreter=self.http_interpreter,
        )
        self.domain = self.processor.domain
        self.tracker_store.domain = self.domain
        self._set_fingerprint(fingerprint)

    def read_ahead(self, text: str) -> None:
        """Begin to understand a message that will be handled in a moment, while its turn comes."""
        if self.processor is not None:
            self.processor.read_ahead(text)

    def is_stuck(self, seconds: float) -> bool:
        """Whether one message has been looked at for longer than so many seconds."""
        return self.processor is not None and self.processor.understanding_seconds > seconds

    @staticmethod
    def _create_tracker_store(store: TrackerStore | None, domain: Any) -> TrackerStore:
        return store or InMemoryTrackerStore(domain)


def load_agent(
    model: Path,
    endpoints: AvailableEndpoints,
    tracker_store: TrackerStore | None = None,
) -> ConversationAgent:
    """Load a model with the stores, actions and answers of the endpoints.

    Args:
        model: the model file.
        endpoints: what `read_endpoints` returned.
        tracker_store: where conversations go; the endpoints' store by default.

    Raises:
        ModelError: the model cannot be loaded.
        StorageError: the database cannot be reached.
    """
    agent = ConversationAgent(
        generator=AnswerGenerator(),
        tracker_store=tracker_store or TrackerStore.create(endpoints.tracker_store),
        lock_store=LockStore.create(endpoints.lock_store),
        action_endpoint=endpoints.action,
    )
    try:
        agent.load_model(str(model))
    except Exception as error:  # Rasa raises many kinds; each means: do not start
        raise ModelError(f"The model {model.name} cannot be loaded: {error}") from error
    return agent
