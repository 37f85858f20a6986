"""Runs the parts of the model in their order, one after the other."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rasa.engine.graph import ExecutionContext, GraphNode, GraphNodeHook, GraphSchema
from rasa.engine.runner.interface import GraphRunner
from rasa.engine.storage.storage import ModelStorage


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
        nodes = {
            name: GraphNode.from_schema_node(name, node, model_storage, execution_context, hooks)
            for name, node in graph_schema.nodes.items()
        }
        return cls(graph_schema, nodes)

    def run(
        self, inputs: dict[str, Any] | None = None, targets: list[str] | None = None
    ) -> dict[str, Any]:
        """Return what the targets give for the inputs.

        Args:
            inputs: values by the name under which the graph asks for them.
            targets: names of nodes; those that the graph itself names by default.

        Raises:
            KeyError: an input is missing.
        """
        wanted = tuple(targets or self._graph_schema.target_names)
        done: dict[str, Any] = dict(inputs or {})
        for name in self._order_for(wanted):
            needed = [(need, done[need]) for need in self._graph_schema.nodes[name].needs.values()]
            done[name] = self._nodes[name](*needed)[1]
        return {name: done[name] for name in wanted}

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
