"""Lets ONNX Runtime compute with a model's 8-bit weights as they are.

A file may hold its weights as 8-bit integers beside scales and turn them into 32-bit floats before it
computes. ONNX Runtime would do that once, at loading, and then read four times as many bytes for every
message. It multiplies the integers themselves if the file asks for that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from assistant.understanding.encoder_file import EncoderFileError
from assistant.understanding.onnx_format import FLOAT, INT8, Model, Node
from assistant.understanding.small_matrix import BLOCK, ONNX_RUNTIME, product_of_blocks


def with_small_weights(content: bytes) -> bytes:
    """Return an ONNX model that multiplies and looks up its 8-bit weights as they are.

    The weights keep their values. What they are multiplied with is rounded to 8 bits in blocks of
    32 numbers, each with a scale of its own, so vectors hardly change (docs/understanding.md).

    Args:
        content: an ONNX model; one without 8-bit weights comes back with the same meaning.

    Raises:
        EncoderFileError: it is no ONNX model.
    """
    try:
        model = Model.FromString(content)
    except DecodeError as error:
        raise EncoderFileError(
            f"The sentence encoder is no ONNX model ({error}). Name another file in config.yml."
        ) from error
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    nodes = []
    for node in graph.node:
        if node.op_type == "MatMul" and (weights := _weights(node.input[1], constants, makers)):
            nodes += _multiplied(node, weights, graph.initializer)
        elif node.op_type == "Gather" and (weights := _weights(node.input[0], constants, makers)):
            nodes += _looked_up(node, weights)
        else:
            nodes.append(node)
    results = {output.name for output in graph.output}
    nodes = _without_unread("Cast", _without_unread("Mul", nodes, results), results)
    read = _read(nodes) | results
    nodes = [Node.FromString(node.SerializeToString()) for node in nodes]  # what is cleared is gone
    graph.ClearField("node")
    graph.node.extend(nodes)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in read:
            del graph.initializer[place]
    if not any(operators.domain == ONNX_RUNTIME for operators in model.opset_import):
        model.opset_import.add(domain=ONNX_RUNTIME, version=1)
    return bytes(model.SerializeToString())


class _Weights(NamedTuple):
    """A matrix of 8-bit integers, cast to floats and multiplied by scales of one row or column."""

    integers: Any  # a constant of shape (rows, columns)
    scales: Any  # a constant of shape (rows, 1) or (1, columns)
    cast: Any  # the node


def _weights(name: str, constants: dict[str, Any], makers: dict[str, Any]) -> _Weights | None:
    scaled = makers.get(name)
    if scaled is None or scaled.op_type != "Mul":
        return None
    cast, scales = makers.get(scaled.input[0]), constants.get(scaled.input[1])
    if cast is None or cast.op_type != "Cast" or scales is None or scales.data_type != FLOAT:
        return None
    integers = constants.get(cast.input[0])
    if integers is None or integers.data_type != INT8 or len(integers.dims) != 2:
        return None
    if not (integers.raw_data and scales.raw_data):  # a form that exporters of large models leave
        return None
    return _Weights(integers, scales, cast)


def _multiplied(node: Any, weights: _Weights, constants: Any) -> list[Any]:
    """Return the product as ONNX Runtime's own operator; its weights join the constants."""
    rows, columns = weights.integers.dims
    if list(weights.scales.dims) != [1, columns] or rows % BLOCK:
        return [node]
    name, blocks = node.output[0], rows // BLOCK
    integers = np.frombuffer(weights.integers.raw_data, dtype=np.int8).reshape(rows, columns)
    unsigned = (integers.view(np.uint8) ^ np.uint8(0x80)).T  # the operator takes 128 for zero
    scales = (
        np.frombuffer(weights.scales.raw_data, dtype="<f4").repeat(blocks).reshape(columns, blocks)
    )
    product, *its_constants = product_of_blocks(
        node.input[0], name, unsigned.reshape(columns, blocks, BLOCK), scales
    )
    product.name = node.name
    constants.extend(its_constants)
    return [product]


def _looked_up(node: Any, weights: _Weights) -> list[Any]:
    """Return the look-up of rows before they are cast and scaled, instead of the whole table."""
    rows, _ = weights.integers.dims
    of_rows = all(setting.i == 0 for setting in node.attribute)  # the axis, its only setting
    if list(weights.scales.dims) != [rows, 1] or not of_rows:
        return [node]
    found, places = node.output[0], node.input[1]

    def looked_up(table: str, output: str) -> Any:
        rows_of = Node(op_type="Gather", name=output, input=[table, places], output=[output])
        rows_of.attribute.extend(node.attribute)
        return rows_of

    cast = Node(op_type="Cast", name=f"{found}_cast", input=[f"{found}_integers"])
    cast.output.append(f"{found}_floats")
    cast.attribute.extend(weights.cast.attribute)
    return [
        looked_up(weights.integers.name, f"{found}_integers"),
        cast,
        looked_up(weights.scales.name, f"{found}_scales"),
        Node(
            op_type="Mul",
            name=node.name,
            input=[f"{found}_floats", f"{found}_scales"],
            output=[found],
        ),
    ]


def _read(nodes: list[Any]) -> set[str]:
    return {name for node in nodes for name in node.input}


def _without_unread(operator: str, nodes: list[Any], results: set[str]) -> list[Any]:
    read = _read(nodes) | results
    return [node for node in nodes if node.op_type != operator or read.intersection(node.output)]
