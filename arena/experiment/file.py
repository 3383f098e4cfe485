"""The schema of an experiment's file, and the checked experiment that it describes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from arena.agents.settings import AgentSettings, LlmSettings, StrictModel
from arena.experiment.budget import Budget
from arena.experiment.conditions import check_conditions
from arena.experiment.prices import PriceEntry
from arena.results.rows import ExperimentRow, ModelRow, canonical_json
from arena_llm.connection import parse_hosts
from arena_llm.types import Price

#: Settings of llm agents that a file may also set once for the whole experiment.
LLM_DEFAULTS = tuple(LlmSettings.model_fields.keys() - {"type", "model"})

#: The results file in a folder: one for all experiments, which share their episodes.
RESULTS_NAME = "arena.sqlite"

_NAME = re.compile(r"[^\s,/\\][^,/\\\x00-\x1f]{0,99}")
_MODEL = re.compile(r"[^\s,]{1,256}")


def name_results(path: Path) -> Path:
    """The results file of a path: a file that ends in .sqlite, or a folder for one."""
    return path if path.suffix == ".sqlite" else path / RESULTS_NAME


def _check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "must have 1 to 100 characters, must not start with a space, and must not contain "
            "line breaks or any of , / \\"
        )
    return text


#: Part of episode ids, file names and accounting labels.
_Name = Annotated[str, AfterValidator(_check_name)]


class Assumptions(StrictModel):
    """`estimate:` replaces what an estimate assumes; None: measured.

    plies: moves of all players in one episode. prompt_tokens, completion_tokens: of one call.
    """

    plies: PositiveFloat | None = None
    prompt_tokens: PositiveFloat | None = None
    completion_tokens: PositiveFloat | None = None


class _Episodes(StrictModel):
    """episodes: how often each line-up plays; num_episodes is another name for it."""

    episodes: PositiveInt | None = None
    num_episodes: PositiveInt | None = None
    estimate: Assumptions = Assumptions()

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.episodes and self.num_episodes:
            raise ValueError("episodes and num_episodes mean the same: give only one of them")
        return self

    @property
    def repeats(self) -> int | None:
        return self.episodes or self.num_episodes


def _check_scalar(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, text, true or false")
    return value


class GameEntry(_Episodes):
    """A game of the experiment. In the file, a bare name is enough.

    params: OpenSpiel's parameters. episodes, estimate: replace the experiment's. max_plies:
    an episode that is not over by then is truncated. Its result is the returns so far: a
    draw in games whose rewards come at the end.
    """

    name: Annotated[str, Field(min_length=1)]
    params: dict[str, Annotated[Any, AfterValidator(_check_scalar)]] = Field({})
    max_plies: PositiveInt | None = None


def _check_address(address: str | None) -> str | None:
    if (address or "").startswith("ray://"):
        raise ValueError(
            "must be auto or host:port of a cluster that this machine is a node of; with ray:// "
            "the results would be written on another machine"
        )
    return address


def _check_target(target: str | None) -> str | None:
    if target is not None:
        try:
            parse_hosts(target)
        except ValueError as error:
            raise ValueError(f"{error}: write HOST:PORT") from None
    return target


class UntilEntry(StrictModel):
    """When a run ends because its results are enough; `episodes:` is then the upper limit.

    width: all ratings have 95 % intervals narrower than this many points. decided: the better
    player of every pair is known. If both are given, one of them is enough.
    """

    width: PositiveFloat | None = None
    decided: bool = False

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.width is None and not self.decided:
            raise ValueError("needs width: POINTS or decided: true")
        return self


class RayEntry(StrictModel):
    """address: of a running Ray cluster; None: `arena run --runner ray` starts Ray here.

    target: the router's address for the nodes of the cluster; None: the one of the command.
    """

    address: Annotated[str | None, AfterValidator(_check_address)] = None
    target: Annotated[str | None, AfterValidator(_check_target)] = None


def _to_mapping(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry


def _read_model(entry: Any) -> dict[str, Any]:
    """The mapping of an entry of models: name, perhaps `as`, and its own settings."""
    settings: Any = _to_mapping(entry)
    check_model_name(settings.get("name") if isinstance(settings, dict) else None)
    if extra := sorted(settings.keys() & {"type", "model"}):
        raise ValueError(f"must not contain {' or '.join(extra)}: its name is the model")
    if not isinstance(alias := settings.get("as", "x"), str):
        raise ValueError(f"as: must be text, not {alias!r}")
    _check_name(alias)
    return dict(settings)


def check_model_name(name: object) -> None:
    """Raise ValueError unless this is the name of a model."""
    if not (isinstance(name, str) and _MODEL.fullmatch(name)):
        example = "openrouter_openai/gpt-4o-mini"
        raise ValueError(f"must be a model's full name, such as {example}, or a mapping with name")


#: By setting, the values that each model plays with.
_Conditions = dict[str, Annotated[list[Any], Field(min_length=1)]]


def _check_conditions(conditions: _Conditions) -> _Conditions:
    check_conditions(conditions)
    return conditions


class ExperimentFile(_Episodes):
    """The keys of the file, except the defaults of llm agents (LLM_DEFAULTS).

    models: names, or mappings with name, own settings, and perhaps `as`, the name under
    which the model plays. agents, opponents, anchors: the settings of each player, by name; anchors
    play in the round robin of the models, and ratings are relative to the first by name. results:
    a file that ends in .sqlite, or a folder for arena.sqlite, relative to the working
    directory; several experiments can share it. conditions: see conditions.py. until: see
    UntilEntry. pairing: adaptive: each deal goes to the two players whose games narrow the ratings
    most. episodes_in_flight: how many episodes are played at the same time. The two budgets hold
    for all runs of the experiment together. prices: by model, where no service knows the price.
    patience: seconds for which a run waits for a model that is not available; after that its
    episodes stay open.
    """

    name: _Name
    description: str = ""
    games: Annotated[list[Annotated[GameEntry, BeforeValidator(_to_mapping)]], Field(min_length=1)]
    seed: int = 0
    swap_seats: bool | None = None
    agents: dict[_Name, dict[str, Any]] = Field({})
    models: list[Annotated[dict[str, Any], BeforeValidator(_read_model)]] = Field([])
    opponents: dict[_Name, dict[str, Any]] = Field({})
    anchors: dict[_Name, dict[str, Any]] = Field({})
    conditions: Annotated[_Conditions, AfterValidator(_check_conditions)] = Field({})
    until: UntilEntry | None = None
    pairing: Literal["all", "adaptive"] = "all"
    episodes_in_flight: PositiveInt = 64
    max_cost_usd: PositiveFloat | None = None
    max_tokens_total: PositiveInt | None = None
    prices: dict[str, PriceEntry] = Field({})
    patience: Annotated[float, Field(ge=0)] = 300
    results: str = "results"
    ray: RayEntry = RayEntry()


@dataclass(frozen=True, slots=True)
class GamePlan:
    """A game of the experiment, and who plays it how often.

    spec: OpenSpiel's string with parameters. assumed: the game's `estimate:`, with the
    experiment's where the game has none. identity: see Game.identity. versions: Agent.version of
    each participant in this game.
    """

    spec: str
    episodes: int
    max_plies: int | None
    lineups: tuple[tuple[str, ...], ...]
    assumed: Assumptions
    identity: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A checked experiment. It can be pickled.

    participants: the settings of each player, with the experiment's defaults. places: where
    the file names each model. config: the file as canonical JSON.
    """

    path: Path
    settings: ExperimentFile
    games: tuple[GamePlan, ...]
    participants: Mapping[str, AgentSettings]
    places: Mapping[str, tuple[str, ...]]
    config: str

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def budget(self) -> Budget:
        return Budget(self.settings.max_cost_usd, self.settings.max_tokens_total)

    @property
    def prices(self) -> dict[str, Price]:
        """The prices that the file gives, by model."""
        return {model: entry.price for model, entry in self.settings.prices.items()}

    @property
    def results(self) -> Path:
        """The results file that the experiment's file names."""
        return name_results(Path(self.settings.results))

    @property
    def row(self) -> ExperimentRow:
        """Its row in the results."""
        return ExperimentRow(self.name, self.config)

    @property
    def models(self) -> list[ModelRow]:
        """A row for every participant, without its time limit, which does not affect games."""
        return [
            ModelRow(
                name,
                settings.type,
                settings.model if isinstance(settings, LlmSettings) else None,
                canonical_json(settings.model_dump(exclude={"timeout_seconds"}, exclude_none=True)),
            )
            for name, settings in self.participants.items()
        ]
