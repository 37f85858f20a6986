"""Rasa's agent, loaded the way this assistant needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasa.core.agent import Agent
from rasa.core.lock_store import LockStore
from rasa.core.tracker_store import FailSafeTrackerStore, TrackerStore
from rasa.core.utils import AvailableEndpoints
from rasa.utils.endpoints import EndpointConfig

from assistant.answers.generator import AnswerGenerator
from assistant.in_process_actions import InProcessActions


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


def load_agent(
    model: Path,
    endpoints: AvailableEndpoints,
    tracker_store: TrackerStore | None = None,
) -> Agent:
    """Load a model with the stores, actions and answers of the endpoints.

    Args:
        model: the model file.
        endpoints: what `read_endpoints` returned.
        tracker_store: where conversations go; the endpoints' store by default.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if tracker_store is None:
        tracker_store = TrackerStore.create(endpoints.tracker_store)
    try:
        agent = Agent.load(
            model_path=str(model),
            generator=AnswerGenerator(),
            tracker_store=tracker_store,
            lock_store=LockStore.create(endpoints.lock_store),
            action_endpoint=endpoints.action,
        )
    except Exception as error:  # Rasa raises many kinds; each means: do not start
        raise ModelError(f"The model {model.name} cannot be loaded: {error}") from error
    _without_fail_safe(agent)
    return agent


def _without_fail_safe(agent: Agent) -> None:
    """Take Rasa's fail-safe wrapper off the tracker store.

    When the database fails the wrapper keeps the turn in memory, never reads it back, and lets the
    conversation start anew without a word. Ours raises, and the channel tells the visitor.
    """
    store: Any = agent.tracker_store
    if isinstance(store, FailSafeTrackerStore):
        agent.tracker_store = store._tracker_store
        agent.processor.tracker_store = store._tracker_store
