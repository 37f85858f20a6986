"""Runs the parts of the model in their order, one after the other."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from rasa.core.policies.rule_policy import RulePolicy
from rasa.engine.graph import (
    ExecutionContext,
    GraphComponent,
    GraphNode,
    GraphNodeHook,
    GraphSchema,
)
from rasa.engine.runner.interface import GraphRunner
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.graph_components.providers.domain_provider import DomainProvider
from rasa.shared.core.domain import Domain
from ruamel.yaml import YAML

from assistant.rules import IntentRules


class StoredDomain(DomainProvider):
    """Provides the domain of a model.

    Rasa reads the file three times, with its slow reader, and validates it as it did at training. That
    is a tenth of the time until the server is ready.
    """

    @classmethod
    def load(
        cls,
        config: dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
        **kwargs: Any,
    ) -> StoredDomain:
        """Read the domain as training stored it."""
        with model_storage.read_from(resource) as folder:
            text = (folder / "domain.yml").read_text(encoding="utf-8")
        domain = Domain.from_dict(YAML(typ="safe", pure=False).load(text))
        return cls(model_storage, resource, domain)


_QUICKER: dict[type[GraphComponent], type[GraphComponent]] = {
    DomainProvider: StoredDomain,
    RulePolicy: IntentRules,
}
"""What runs in place of a part of Rasa's: the same result from the same trained model."""


class OrderedGraphRunner(GraphRunner):
    """Runs a graph whose order is found once.

    Rasa hands its graph to Dask, which plans it anew three times for each message, and the plan
    never changes.

    Args:
        graph_schema: the graph.
        nodes: what runs each of its nodes, by name.
    """

    def __init__(self, graph_schema: GraphSchema, nodes: dict[str, GraphNode]) -> None:
        self._graph_schema = graph_schema
        self._nodes = nodes
        self._order_for = lru_cache(maxsize=None)(self._ordered)

    @classmethod
    def create(
        cls,
        graph_schema: GraphSchema,
        model_storage: ModelStorage,
        execution_context: ExecutionContext,
        hooks: list[GraphNodeHook] | None = None,
    ) -> OrderedGraphRunner:
        """Load the nodes of a graph."""
        nodes = {}
        for name, node in graph_schema.nodes.items():
            ours = replace(node, uses=_QUICKER.get(node.uses, node.uses))
            nodes[name] = GraphNode.from_schema_node(
                name, ours, model_storage, execution_context, hooks
            )
        return cls(graph_schema, nodes)

    def run(
        self, inputs: dict[str, Any] | None = None, targets: list[str] | None = None
    ) -> dict[str, Any]:
        """Return what the targets give for the inputs.

        Args:
            inputs: values by the name under which the graph asks for them; among them may be what
                `run_ahead` returned.
            targets: names of nodes; those that the graph itself names by default.

        Raises:
            KeyError: an input is missing.
        """
        wanted = tuple(targets or self._graph_schema.target_names)
        done: dict[str, Any] = dict(inputs or {})
        for name in self._order_for(wanted):
            if name not in done:
                needed = self._graph_schema.nodes[name].needs.values()
                done[name] = self._nodes[name](*((need, done[need]) for need in needed))[1]
        return {name: done[name] for name in wanted}

    def run_ahead(self, inputs: dict[str, Any], targets: list[str]) -> dict[str, Any]:
        """Run what can be run before the other inputs are there; return all that is done.

        The first part that must wait for an input is asked to `prepare`, if it can, with those that
        it has.

        Args:
            inputs: some of the inputs.
            targets: as `run` will be asked for.
        """
        done = dict(inputs)
        for name in self._order_for(tuple(targets)):
            needs = self._graph_schema.nodes[name].needs
            if all(need in done for need in needs.values()):
                done[name] = self._nodes[name](*((need, done[need]) for need in needs.values()))[1]
                continue
            prepare = getattr(self._nodes[name]._component, "prepare", None)
            if prepare is not None:
                prepare(**{key: done[need] for key, need in needs.items() if need in done})
            break
        return done

    def _ordered(self, targets: tuple[str, ...]) -> list[str]:
        """Return the nodes that the targets need, each after those that it needs itself."""
        order: dict[str, None] = {}

        def visit(name: str) -> None:
            node = self._graph_schema.nodes.get(name)
            if node is None or name in order:  # no node: an input
                return
            for need in node.needs.values():
                visit(need)
            order[name] = None

        for target in targets:
            visit(target)
        return list(order)
