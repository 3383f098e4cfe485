"""The options of a completion: sampling parameters and constraints.

`arena_llm.types` exports these names. A new sampling parameter needs a field of Sampling and
of GenerateOptions here, and a field of the message GenerationConfig.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypedDict


@dataclass(frozen=True, slots=True)
class Parameter:
    """The type, range and meaning of one sampling parameter.

    kind: int, float, or str for a list of strings. help: the meaning, without the range.
    minimum, maximum: the bounds; None means no bound. exclusive_minimum: the minimum itself is
    not allowed. max_items: the longest list, for kind str.
    """

    kind: type[int] | type[float] | type[str]
    help: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    max_items: int = 0

    @property
    def range(self) -> str:
        """The allowed values in words, such as "over 0 and at most 1"."""
        if self.kind is str:
            return f"at most {self.max_items} strings, none empty"
        if self.maximum is None:
            return f"{'over' if self.exclusive_minimum else 'at least'} {self.minimum:g}"
        if self.exclusive_minimum:
            return f"over {self.minimum:g} and at most {self.maximum:g}"
        return f"from {self.minimum:g} to {self.maximum:g}"

    def problem(self, value: object) -> str:
        """Return what is wrong with a value, such as "must be from 0 to 100", or ""."""
        if self.kind is str:
            return self._problem_of_strings(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if self.kind is int and not isinstance(value, int):
            return "must be an integer"
        low, high = self.minimum, self.maximum
        inside = (
            (isinstance(value, int) or math.isfinite(value))
            and (low is None or (low < value if self.exclusive_minimum else low <= value))
            and (high is None or value <= high)
        )
        return "" if inside else f"must be {self.range}"

    def _problem_of_strings(self, value: object) -> str:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return "must be a list of strings"
        if len(value) > self.max_items:
            return f"must hold at most {self.max_items} strings"
        if not all(isinstance(item, str) for item in value):
            return "must hold strings only"
        return "" if all(value) else "must not hold an empty string"


def _parameter(default: Any, kind: type[Any], help: str, **limits: Any) -> Any:
    """Return a dataclass field that carries its Parameter as metadata."""
    return field(default=default, metadata={"parameter": Parameter(kind, help, **limits)})


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. None, or no stop string, means the backend's default.

    This is the only place that states what a parameter means and which values it may
    have: the client's options, the command line, the services and experiments read it
    from SAMPLING_PARAMETERS.
    """

    temperature: float | None = _parameter(
        None,
        float,
        "scales the randomness; at 0 the likeliest token is always taken",
        minimum=0,
        maximum=100,
    )
    top_p: float | None = _parameter(
        None,
        float,
        "sample from the likeliest tokens that together have this probability",
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
    )
    top_k: int | None = _parameter(
        None, int, "sample from this many likeliest tokens; 0 turns it off", minimum=0
    )
    max_tokens: int | None = _parameter(
        None, int, "the largest number of completion tokens", minimum=1
    )
    seed: int | None = _parameter(None, int, "the seed of the sampling", minimum=0)
    stop: tuple[str, ...] = _parameter(
        (), str, "the text ends before the first of these strings", max_items=16
    )
    presence_penalty: float | None = _parameter(
        None,
        float,
        "lowers the logit of each token that the completion already contains",
        minimum=-2,
        maximum=2,
    )
    frequency_penalty: float | None = _parameter(
        None,
        float,
        "lowers the logit of a token each time that the completion already contains it",
        minimum=-2,
        maximum=2,
    )
    logprobs: int | None = _parameter(
        None,
        int,
        "return the log-probability of each token and of this many alternatives to it",
        minimum=0,
        maximum=20,
    )


#: No parameter is set.
DEFAULT_SAMPLING = Sampling()

#: Each field of Sampling, by its name.
SAMPLING_PARAMETERS: Mapping[str, Parameter] = {
    f.name: f.metadata["parameter"] for f in fields(Sampling)
}


@dataclass(frozen=True, slots=True)
class Choices:
    """The text is exactly one of these strings."""

    name: ClassVar[str] = "choices"

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The text is JSON that this schema (JSON text) accepts."""

    name: ClassVar[str] = "json_schema"

    schema: str


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole text matches this pattern."""

    name: ClassVar[str] = "regex"

    pattern: str


Constraint = Choices | JsonSchema | Regex

#: Each kind of constraint by its name, which is also the name of the client's option, of the
#: message's field (constraint.NAME), and of a model's capability.
CONSTRAINTS: Mapping[str, type[Constraint]] = {
    kind.name: kind for kind in (Choices, JsonSchema, Regex)
}


class GenerateOptions(TypedDict, total=False):
    """Options of generate, stream and generate_many.

    Absent or None means the backend's default. A backend raises UnsupportedError for an
    option that it cannot honour; no option is dropped in silence.

    The sampling parameters (max_tokens to logprobs): see Sampling.
    stop: a list of strings, or one string.
    choices: 1 to 4096 strings; the text is exactly one of them.
    json_schema: a JSON Schema (dict or JSON text); the text is JSON that it accepts. If
        max_tokens ends the text earlier, it is cut off JSON: check that finish_reason is
        not LENGTH before parsing it.
    regex: a pattern that the whole text matches.
        Only one of choices, json_schema and regex can be given.
    session: the name of a game; the calls of a session share a prefix cache.
    labels: for accounting, such as {"experiment": "e1"}; at most 16.
    provider_options: passed to the provider unchanged (JSON types).
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logprobs: int | None
    choices: Sequence[str] | None
    json_schema: Mapping[str, Any] | str | None
    regex: str | None
    session: str
    labels: Mapping[str, str] | None
    provider_options: Mapping[str, Any] | None
