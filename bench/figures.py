"""Arithmetic of the figures: percentiles of a round, median and spread over rounds, ratios."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """A figure over several rounds: its median, and the least and most that was measured."""

    median: float
    least: float
    most: float


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share (0 to 1) of the values does not exceed.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("There is no percentile of no values.")
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def over_rounds(values: Sequence[float]) -> Figure:
    """Return median and spread.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("There is no median of no values.")
    return Figure(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Return ours divided by theirs, round by round.

    What is measured in the same round was measured within minutes, so that what else the machine
    did weighs on both.

    Raises:
        ValueError: the rounds differ in number, or a divisor is zero.
    """
    if len(ours) != len(theirs) or not all(theirs):
        raise ValueError(f"{len(ours)} rounds cannot be divided by {list(theirs)}.")
    return over_rounds([one / other for one, other in zip(ours, theirs, strict=True)])
