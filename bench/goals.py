"""Goals of benchmarks: each names a figure, where the results have it, and its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Sign = Literal["<=", ">="]


@dataclass(frozen=True)
class Goal:
    """The bound of a figure.

    place: the keys that lead to the figure in the benchmark's results. unit: "%" shows a share in
    percent, "x" a ratio.
    """

    figure: str
    place: tuple[str, ...]
    sign: Sign
    bound: float
    unit: str = ""

    def find(self, results: Mapping[str, Any]) -> float | None:
        """The figure in these results; None if it was not measured."""
        found: Any = results
        for key in self.place:
            if key not in found:
                return None
            found = found[key]
        return float(found)


def is_reached(value: float, sign: str, bound: float) -> bool:
    """Whether a value is within its bound."""
    return value <= bound if sign == "<=" else value >= bound


def find_figures(goals: Sequence[Goal], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figure of each goal, with the goal, for bench/results/NAME.json."""
    return [
        {
            "figure": goal.figure,
            "value": goal.find(results),
            "sign": goal.sign,
            "goal": goal.bound,
            "unit": goal.unit,
        }
        for goal in goals
    ]


def format_value(value: float, unit: str = "") -> str:
    """A value for people, with its unit."""
    if unit == "%":
        value *= 100
    text = f"{value:,.0f}" if value % 1 == 0 or abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def format_goal(sign: str, bound: float, unit: str = "") -> str:
    """A goal for people, such as "<= 5 %"."""
    return f"{sign} {format_value(bound, unit)}"
