"""The type, range and meaning of an option of a completion, and the check of its values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Parameter:
    """The type, range and meaning of one option of a completion.

    path: the field of a GenerateRequest, such as "config.temperature".
    type: int, float, bool, str, or an enum of strings; of each value, for a list or a mapping.
    help: the meaning, without the range.
    minimum, maximum: the bounds; None means no bound. exclusive_minimum: the minimum itself is
    not allowed. max_items: the most values of a list or a mapping; 0 for a single value.
    keyed: a mapping from token ids to values.
    """

    path: str
    type: type[int] | type[float] | type[bool] | type[str] | type[StrEnum]
    help: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    max_items: int = 0
    keyed: bool = False

    @property
    def range(self) -> str:
        """The allowed values in words, such as "over 0 and at most 1"; empty if there is none."""
        if self.keyed:
            return f"at most {self.max_items} token ids with values {self._bounds()}"
        if self.max_items:
            values = "strings, none empty" if self.type is str else "token ids"
            return f"at most {self.max_items} {values}"
        if issubclass(self.type, StrEnum):
            return f"one of {', '.join(self.type)}"
        return "" if self.type is bool else self._bounds()

    def problem(self, value: object) -> str:
        """Return what is wrong with a value, such as "must be from 0 to 100", or ""."""
        if self.keyed:
            return self._problem_of_mapping(value)
        return self._problem_of_list(value) if self.max_items else self._problem_of_one(value)

    def _bounds(self) -> str:
        low, high = self.minimum, self.maximum
        if high is None:
            return f"{'over' if self.exclusive_minimum else 'at least'} {low:.16g}"
        if self.exclusive_minimum:
            return f"over {low:g} and at most {high:.16g}"
        return f"from {low:g} to {high:.16g}"

    def _problem_of_one(self, value: object) -> str:
        if issubclass(self.type, StrEnum):
            return "" if value in list(self.type) else f"must be {self.range}"
        if self.type is bool:
            return "" if isinstance(value, bool) else "must be true or false"
        if self.type is str:
            return "must not be empty" if value == "" else self._problem_of_text(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if self.type is int and not isinstance(value, int):
            return "must be an integer"
        low, high = self.minimum, self.maximum
        inside = (
            (isinstance(value, int) or math.isfinite(value))
            and (low is None or (low < value if self.exclusive_minimum else low <= value))
            and (high is None or value <= high)
        )
        return "" if inside else f"must be {self._bounds()}"

    @staticmethod
    def _problem_of_text(value: object) -> str:
        return "" if isinstance(value, str) else "must be a string"

    def _problem_of_list(self, values: object) -> str:
        kind = "strings" if self.type is str else "token ids"
        if isinstance(values, str) or not isinstance(values, Sequence):
            return f"must be a list of {kind}"
        if len(values) > self.max_items:
            return f"must hold at most {self.max_items} {kind}"
        if self.type is not str:
            return self._problem_of_ids(values)
        if not all(isinstance(item, str) for item in values):
            return "must hold strings only"
        return "" if all(values) else "must not hold an empty string"

    def _problem_of_mapping(self, values: object) -> str:
        if not isinstance(values, Mapping):
            return "must map token ids to numbers"
        if len(values) > self.max_items:
            return f"must hold at most {self.max_items} token ids"
        problems = map(self._problem_of_one, values.values())
        return self._problem_of_ids(values) or next(filter(None, problems), "")

    @staticmethod
    def _problem_of_ids(values: Collection[object]) -> str:
        if all(type(item) is int and 0 <= item < 2**31 for item in values):
            return ""
        return "must hold token ids only: integers of at least 0"
