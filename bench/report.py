"""The report: a Markdown table and a picture, made from the results as often as one likes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from html import escape
from typing import Any

from bench.assistants import OURS, RULES, STOCK
from bench.figures import Figure, over_rounds, ratio

_ASSISTANTS = (OURS, STOCK, RULES)
_COLOURS = {OURS: "#2f6f4f", STOCK: "#b9770e", RULES: "#7f8c8d"}


@dataclass(frozen=True)
class Target:
    """What a figure must be beside another assistant's: at most, or where more is better at least."""

    against: str
    ratio: float


TARGETS: dict[str, tuple[Target, ...]] = {
    "FAQ p50, ms": (Target(STOCK, 1 / 3.5), Target(RULES, 1.3)),
    "FAQ p95, ms": (Target(STOCK, 1 / 3.5), Target(RULES, 1.3)),
    "throughput, 16 visitors, messages/s": (Target(STOCK, 3.5), Target(RULES, 0.9)),
    "memory when ready, MB": (Target(STOCK, 0.6), Target(RULES, 1.25)),
    "start until ready, s": (Target(STOCK, 0.45), Target(RULES, 1.15)),
    "training from nothing, s": (Target(STOCK, 1 / 15),),
    "installed packages, MB": (Target(STOCK, 0.6),),
}
"""The budget, which docs/performance.md explains."""

LIMITS = {
    "last turns beside the first, times": 1.5,
    "growth of memory between them, %": 2.0,
}
"""Budget of figures that are no ratio between assistants."""

_IN_PICTURE = tuple(TARGETS)


class Results:
    """All figures of a run.

    Args:
        results: the JSON that `bench.beside_stock` writes.
    """

    def __init__(self, results: dict[str, Any]) -> None:
        self.circumstances: dict[str, str] = results["circumstances"]
        self._values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        self._cut: set[tuple[str, str]] = set()
        self.figures: list[str] = []
        for entry in results["values"]:
            key = entry["figure"], entry["assistant"]
            self._values[key][entry["round"]] = entry["value"]
            if entry.get("at_least"):
                self._cut.add(key)
            if entry["figure"] not in self.figures:
                self.figures.append(entry["figure"])

    def figure(self, name: str, assistant: str) -> Figure | None:
        """Return a figure over all rounds; None if it was not measured."""
        values = self._values.get((name, assistant))
        return over_rounds(list(values.values())) if values else None

    def is_at_least(self, name: str, assistant: str) -> bool:
        """Whether a figure was cut off, so that the true one is larger."""
        return (name, assistant) in self._cut

    def ratio(self, name: str, against: str) -> Figure | None:
        """Return ours divided by another assistant's, over the rounds in which both were measured."""
        ours = self._values.get((name, OURS), {})
        theirs = self._values.get((name, against), {})
        both = [number for number in ours if theirs.get(number)]
        if not both:
            return None
        return ratio([ours[number] for number in both], [theirs[number] for number in both])

    def keeps(self, name: str) -> bool | None:
        """Whether a figure keeps its budget; None if it has none or that cannot be told."""
        verdicts = []
        limit = LIMITS.get(name)
        ours = self.figure(name, OURS)
        if limit is not None and ours is not None:
            verdicts.append(ours.median <= limit)
        for target in TARGETS.get(name, ()):
            found = self.ratio(name, target.against)
            if found is not None:
                kept = (
                    found.median >= target.ratio
                    if name.startswith("throughput")
                    else found.median <= target.ratio
                )
                if kept or not self.is_at_least(name, target.against):
                    verdicts.append(kept)
        return all(verdicts) if verdicts else None


def markdown(results: Results, picture: str) -> str:
    """Return the report.

    Args:
        results: the figures.
        picture: the file name of the picture, beside the report.
    """
    heads = [*_ASSISTANTS, "ours / stock", "ours / rules-only", "budget"]
    lines = [
        f"![Ours and rules-only beside stock Rasa]({picture})",
        "",
        "Median of the rounds, and in brackets the least and the most.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" + "|---:" * len(heads) + "|",
        *("| " + " | ".join(_row(results, name)) + " |" for name in results.figures),
        "",
        *(f"- {name}: {value}" for name, value in results.circumstances.items()),
    ]
    return "\n".join(lines) + "\n"


def _row(results: Results, name: str) -> list[str]:
    cells = [
        _shown(results.figure(name, assistant), results.is_at_least(name, assistant))
        for assistant in _ASSISTANTS
    ]
    # Ours over a lower bound is an upper bound.
    ratios = [
        _shown(results.ratio(name, against), results.is_at_least(name, against), "at most ")
        for against in (STOCK, RULES)
    ]
    if name in LIMITS:
        ratios = ["", ""]  # they are ratios themselves
    return [name, *cells, *ratios, {None: "", True: "kept", False: "missed"}[results.keeps(name)]]


def _shown(figure: Figure | None, bounded: bool, bound: str = "at least ") -> str:
    if figure is None:
        return ""
    words = _number(figure.median)
    if _number(figure.least) != _number(figure.most):
        words += f" ({_number(figure.least)} to {_number(figure.most)})"
    return f"{bound}{words}" if bounded else words


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def picture(results: Results) -> str:
    """Return an SVG: for each figure of the budget, a bar for each assistant; the longest is full."""
    names = [name for name in _IN_PICTURE if results.figure(name, STOCK)]
    left, width, bar, gap = 270, 470, 14, 16
    parts: list[str] = []
    top = 58
    for name in names:
        parts.append(_text(left - 10, top + 1.5 * bar + 4, name, "end"))
        shares = _shares(results, name)
        for place, (who, share) in enumerate(shares.items()):
            figure = results.figure(name, who)
            if figure is None:
                continue
            y = top + place * bar
            length = width * share / max(shares.values())
            parts.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" '
                f'fill="{_COLOURS[who]}"/>'
            )
            parts.append(_text(left + length + 5, y + bar - 4, _number(figure.median), "start"))
        top += len(_ASSISTANTS) * bar + gap
    legend = "".join(
        f'<rect x="{left + 150 * place}" y="30" width="12" height="12" fill="{_COLOURS[who]}"/>'
        + _text(left + 150 * place + 18, 40, who, "start")
        for place, who in enumerate(_ASSISTANTS)
    )
    title = _text(16, 20, "Shorter is better; of throughput, longer", "start")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{top}" role="img" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{title}{legend}{"".join(parts)}</svg>\n'
    )


def _shares(results: Results, name: str) -> dict[str, float]:
    """Return each assistant's figure divided by stock Rasa's."""
    stock = results.figure(name, STOCK)
    shares = {}
    for who in _ASSISTANTS:
        figure = results.figure(name, who)
        shares[who] = figure.median / stock.median if figure and stock and stock.median else 0.0
    return shares


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
