"""The encoder computes with its 8-bit weights, to the same vectors."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnxruntime
import pytest

from assistant.understanding.encoder_file import EncoderFileError, encoder_content
from assistant.understanding.onnx_format import FLOAT, INT8, Model
from assistant.understanding.small_matrix import SmallMatrix
from assistant.understanding.small_weights import with_small_weights
from tests.test_understanding import ENCODER, SHA256


@pytest.fixture(scope="module")
def original() -> bytes:
    return encoder_content(ENCODER, SHA256)


@pytest.fixture(scope="module")
def rewritten(original: bytes) -> bytes:
    return with_small_weights(original)


def _operators(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in Model.FromString(content).graph.node)


def _vector(content: bytes, pieces: list[int]) -> Any:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    ids = np.array([pieces], dtype=np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    tokens = session.run(None, {**inputs, "token_type_ids": np.zeros_like(ids)})[0][0]
    return tokens.mean(axis=0) / np.linalg.norm(tokens.mean(axis=0))


@pytest.mark.parametrize("length", [1, 9, 60])
def test_the_vectors_are_those_of_the_original(
    original: bytes, rewritten: bytes, length: int
) -> None:
    pieces = [101, *range(2500, 2500 + length), 102]
    likeness = float(_vector(original, pieces) @ _vector(rewritten, pieces))
    assert likeness > 0.999  # with one scale for all numbers: 0.995


def test_no_weight_is_left_to_be_made_four_times_larger(original: bytes, rewritten: bytes) -> None:
    before, after = _operators(original), _operators(rewritten)
    large = {
        constant.name: constant
        for constant in Model.FromString(rewritten).graph.initializer
        if len(constant.raw_data) > 100_000
    }
    assert after["MatMulNBits"] == 36  # six layers: query, key, value, and three dense
    assert after["MatMul"] == before["MatMul"] - 36  # what multiplies attention is no weight
    assert after["Cast"] == before["Cast"] - 36
    assert len(rewritten) < 1.1 * len(original)
    multiplied = {
        name
        for node in Model.FromString(rewritten).graph.node
        if node.op_type in ("MatMulNBits", "Gather")
        for name in node.input
    }
    assert large
    assert set(large) <= multiplied


def test_a_model_without_8_bit_weights_stays_as_it_is(rewritten: bytes) -> None:
    assert with_small_weights(rewritten) == rewritten


def _product(scales: list[int], rows: int = 64, output: str = "y") -> bytes:
    model = Model()
    graph = model.graph
    graph.initializer.add(name="q", data_type=INT8, dims=[rows, 4], raw_data=bytes(rows * 4))
    size = int(np.prod(scales)) * 4
    graph.initializer.add(name="s", data_type=FLOAT, dims=scales, raw_data=bytes(size))
    graph.node.add(op_type="Cast", input=["q"], output=["f"])
    graph.node.add(op_type="Mul", input=["f", "s"], output=["w"])
    graph.node.add(op_type="MatMul", input=["x", "w"], output=["y"])
    graph.output.add(name=output)
    return bytes(model.SerializeToString())


def test_weights_of_another_form_are_multiplied_as_before() -> None:
    assert _operators(with_small_weights(_product([1, 4]))) == {"MatMulNBits": 1}
    as_before = {"Cast": 1, "Mul": 1, "MatMul": 1}
    assert _operators(with_small_weights(_product([1, 1]))) == as_before  # one scale for all
    assert _operators(with_small_weights(_product([64, 1]))) == as_before  # one for each row
    assert _operators(with_small_weights(_product([1, 4], rows=40))) == as_before  # no whole block


def test_weights_that_something_else_reads_are_kept_for_it() -> None:
    kept = with_small_weights(_product([1, 4], output="w"))
    assert _operators(kept) == {"MatMulNBits": 1, "Cast": 1, "Mul": 1}
    assert {"q", "s"} < {constant.name for constant in Model.FromString(kept).graph.initializer}


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(EncoderFileError, match="no ONNX model"):
        with_small_weights(b"\xff\xffsomething else")


@pytest.mark.parametrize("shape", [(1, 32), (7, 5), (500, 384)])
def test_a_small_matrix_multiplies_as_the_large_one(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=shape).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vector = rows[0]
    small = SmallMatrix.of(rows)
    again = SmallMatrix(small.numbers, small.scales)
    for matrix in (small, again):
        found = matrix.products(vector)
        assert found.shape == (shape[0],)
        assert np.abs(found - rows @ vector).max() < 0.01  # cosines


def test_a_small_matrix_of_nothing_multiplies_to_nothing() -> None:
    matrix = SmallMatrix.of(np.zeros((3, 40), dtype=np.float32))
    assert not matrix.products(np.ones(40, dtype=np.float32)).any()
