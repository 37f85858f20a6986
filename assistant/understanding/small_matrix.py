"""A matrix in 8-bit numbers: a quarter as much to read, which is what a product with a vector waits for.

ONNX Runtime multiplies such numbers as they are, without turning them into floats before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from assistant.understanding.onnx_format import FLOAT, INTEGER, UINT8, Model, Node, Tensor

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BLOCK = 32
"""Numbers that share a scale. What the matrix is multiplied with is rounded in such blocks too."""

ONNX_RUNTIME = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
# https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits

_INTEGERS_MULTIPLIED = 4  # MatMulNBits' accuracy_level
_FORMAT_VERSION, _OPERATORS_VERSION = 8, 17  # of ONNX
_LEAST = 1e-12


def product_of_blocks(factor: str, name: str, numbers: Bytes, scales: Floats) -> tuple[Any, ...]:
    """Return ONNX Runtime's operator for the product with a matrix, and the constants of the matrix.

    Args:
        factor: the name of what is multiplied; its rows are as long as the matrix's.
        name: of the product.
        numbers: the matrix's, shape (rows, blocks, 32), with 128 for zero.
        scales: of the blocks, shape (rows, blocks).
    """
    rows, blocks, _ = numbers.shape
    matrix = Tensor(
        name=f"{name}_blocks",
        data_type=UINT8,
        dims=numbers.shape,
        raw_data=numbers.tobytes(),
    )
    of_blocks = Tensor(
        name=f"{name}_scales",
        data_type=FLOAT,
        dims=(rows, blocks),
        raw_data=scales.astype("<f4").tobytes(),
    )
    settings = {
        "K": blocks * BLOCK,
        "N": rows,
        "bits": 8,
        "block_size": BLOCK,
        "accuracy_level": _INTEGERS_MULTIPLIED,
    }
    node = Node(
        op_type="MatMulNBits",
        domain=ONNX_RUNTIME,
        input=[factor, matrix.name, of_blocks.name],
        output=[name],
        attribute=[{"name": key, "i": value, "type": INTEGER} for key, value in settings.items()],
    )
    return node, matrix, of_blocks


class SmallMatrix:
    """A matrix in 8-bit numbers that is multiplied with one vector at a time.

    Reading it is what takes the time, and it is a quarter as large. Each row is rounded in blocks
    of 32 numbers that share a scale, as is the vector.

    Args:
        numbers: shape (rows, blocks, 32), with 128 for zero.
        scales: of the blocks, shape (rows, blocks).
    """

    def __init__(self, numbers: Bytes, scales: Floats) -> None:
        self.numbers = numbers
        self.scales = scales
        node, *constants = product_of_blocks("vector", "products", numbers, scales)
        floats = {"tensor_type": {"elem_type": FLOAT}}
        model = Model(ir_version=_FORMAT_VERSION)
        model.opset_import.add(domain="", version=_OPERATORS_VERSION)
        model.opset_import.add(domain=ONNX_RUNTIME, version=1)
        model.graph.name = "product"
        model.graph.input.add(name="vector", type=floats)
        model.graph.output.add(name="products", type=floats)
        model.graph.node.append(node)
        model.graph.initializer.extend(constants)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def of(cls, rows: Floats) -> SmallMatrix:
        """Return a matrix of shape (rows, columns) in 8-bit numbers."""
        count, length = rows.shape
        blocks = np.pad(rows, ((0, 0), (0, -length % BLOCK))).reshape(count, -1, BLOCK)
        scales = np.maximum(np.abs(blocks).max(axis=2), _LEAST) / 127
        numbers = np.rint(blocks / scales[:, :, np.newaxis]) + 128
        return cls(numbers.astype(np.uint8), scales.astype(np.float32))

    def products(self, vector: Floats) -> Floats:
        """Return each row's product with a vector, shape (rows,).

        Args:
            vector: as long as the rows.
        """
        missing = self.scales.shape[1] * BLOCK - len(vector)
        factor = np.pad(vector, (0, missing)) if missing else vector
        return np.asarray(self._session.run(None, {"vector": factor[np.newaxis]})[0][0])
