"""The keys of an experiment's file, with their types and defaults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class _Strict(BaseModel):
    """Unknown keys are errors, a value is of its type already, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _name(text: str) -> str:
    if not re.fullmatch(r"[^\s,/\\][^,/\\\x00-\x1f]{0,99}", text):
        raise ValueError(
            "must be 1 to 100 characters, the first no blank, without , / \\ and line breaks"
        )
    return text


#: A label of accounting, a part of episodes' ids, a file's name.
_Name = Annotated[str, AfterValidator(_name)]


class _Repeated(_Strict):
    """episodes: of each line-up; num_episodes is another name of it."""

    episodes: PositiveInt | None = None
    num_episodes: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.episodes and self.num_episodes:
            raise ValueError("episodes and num_episodes are the same: give one of them")
        return self

    @property
    def times(self) -> int | None:
        return self.episodes or self.num_episodes


class GameConfig(_Repeated):
    """A game of the experiment; in YAML its bare name will do.

    params: OpenSpiel's. episodes: in place of the experiment's. max_plies: an episode
    that has not ended by then is truncated: the returns so far are its result, which is
    a draw in games whose rewards come at the end.
    """

    name: str
    params: dict[str, bool | int | float | str] = {}
    max_plies: PositiveInt | None = None
    estimate: Any = None


class RayConfig(_Strict):
    """Where Ray is; None: it is started here."""

    address: str | None = None


def _named(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry


def _model(entry: Any) -> dict[str, Any]:
    """Name and own settings of a model."""
    settings: dict[str, Any] = _named(entry) if isinstance(entry, str | dict) else {}
    name = settings.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[^\s,]{1,256}", name):
        raise ValueError("must be a model's full name, or a mapping with a name")
    if settings.keys() & {"type", "model"}:
        raise ValueError("type and model are not to be given: its name is the model")
    return settings


class Settings(_Repeated):
    """The keys of the file, but for the settings of llm agents and the agents' own.

    results: a file that ends in .sqlite, or a folder for <name>.sqlite, from the working
    directory. episodes_in_flight: how many are played at once. Both budgets hold for all
    runs of the experiment together; see UnderWay for what is foreseen.
    """

    name: _Name
    description: str = ""
    games: Annotated[list[Annotated[GameConfig, BeforeValidator(_named)]], Field(min_length=1)]
    seed: int = 0
    swap_seats: bool | None = None
    agents: dict[_Name, dict[str, Any]] = {}
    models: list[Annotated[dict[str, Any], BeforeValidator(_model)]] = []
    opponents: dict[_Name, dict[str, Any]] = {}
    episodes_in_flight: PositiveInt = 64
    max_cost_usd: PositiveFloat | None = None
    max_tokens_total: PositiveInt | None = None
    results: str = "results"
    estimate: Any = None
    ray: RayConfig = RayConfig()
