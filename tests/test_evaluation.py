"""Measuring: what the figures mean, and the typing errors that are put into messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from rapidfuzz.distance import OSA

from assistant.evaluation import (
    EvaluationFileError,
    Outcome,
    Row,
    figures,
    read_rows,
    with_typing_errors,
)


def outcome(labels: str, topics: str = "", away: bool = False, likeliest: str = "") -> Outcome:
    row = Row("1", "text", tuple(labels.split("|")))
    return Outcome(row, tuple(topics.split()), away, tuple(likeliest.split()))


def test_the_figures_count_what_visitors_got() -> None:
    result = figures(
        [
            outcome("diet/gluten", "diet/gluten"),
            outcome("diet/gluten|diet/overview", "office/price diet/overview"),
            outcome("diet/gluten", "out_of_scope", away=True, likeliest="diet/gluten"),
            outcome("office/price", "office/hours"),
            outcome("out_of_scope", "out_of_scope", away=True),
            outcome("out_of_scope|office/services", "office/services"),
            outcome("out_of_scope", "diet/gluten"),
        ]
    )
    assert (result["in_scope"], result["out_of_scope"]) == (4, 3)
    assert result["in_scope_accuracy"] == 0.5
    assert result["in_scope_top3"] == 0.75
    assert result["out_of_scope_recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert result["out_of_scope_precision"] == 0.5
    assert {miss["given"] for miss in result["misses"]} == {
        "out_of_scope",
        "office/hours",
        "diet/gluten",
    }
    assert result["areas"]["office"]["in_scope_accuracy"] == 0


def test_each_message_gets_one_typing_error_the_same_for_a_seed() -> None:
    rows = [Row(str(n), f"does acupuncture help number {n}", ("bot/x",)) for n in range(200)]
    wrong = with_typing_errors(rows, seed=3)
    errors = [OSA.distance(a.text, b.text) for a, b in zip(rows, wrong, strict=True)]
    assert max(errors) == 1
    assert sum(errors) > 180  # a letter may be replaced by itself or swapped with its like
    assert [row.text for row in wrong] == [row.text for row in with_typing_errors(rows, seed=3)]
    assert [row.text for row in wrong] != [row.text for row in with_typing_errors(rows, seed=4)]
    assert with_typing_errors([Row("1", "ok", ("affirm",))], seed=1)[0].text == "ok"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id\ttext\n1\thello\n", "has no column label"),
        ("id\ttext\tlabel\n", "holds no rows"),
        (None, "cannot be read"),
    ],
)
def test_data_that_cannot_be_measured_is_refused(
    tmp_path: Path, content: str | None, reason: str
) -> None:
    path = tmp_path / "data.tsv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationFileError, match=reason):
        read_rows(path)
