"""An experiment's file: read, checked, and made into what is to be played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from arena.agents.config import AgentConfig, LlmConfig, agent_config
from arena.agents.registry import check_game
from arena.experiment.budget import Budget
from arena.experiment.settings import GameConfig, RayConfig, Settings
from arena.games.game import GameError
from arena.games.sandbox import Sandbox
from arena.problems import told
from arena.results.codec import canonical
from arena.results.rows import ExperimentRow, ModelRow
from arena_llm import ArenaError
from arena_llm.validation import lineups, plan, read_config

#: Settings of llm agents that may stand for the whole experiment as well.
LLM_SETTINGS = tuple(LlmConfig.model_fields.keys() - {"type", "model"})


#: Keys of the file, and of the mappings under some of them.
_TOP_KEYS = (*Settings.model_fields, *LLM_SETTINGS)
_KEYS = {"games": GameConfig.model_fields, "ray": RayConfig.model_fields}


class ConfigError(Exception):
    """A file that describes no experiment: one line each, with file, key and reason."""


@dataclass(frozen=True, slots=True)
class GamePlan:
    """A game of the experiment: OpenSpiel's string, and who plays it how often."""

    spec: str
    episodes: int
    max_plies: int | None
    lineups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is to be played. It pickles.

    participants: settings of each, with the experiment's defaults, by name. config: the
    file as canonical JSON.
    """

    path: Path
    settings: Settings
    games: tuple[GamePlan, ...]
    participants: Mapping[str, AgentConfig]
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
    def results(self) -> Path:
        """The results file that the experiment's own configuration names."""
        path = Path(self.settings.results)
        return path if path.suffix == ".sqlite" else path / f"{self.name}.sqlite"

    @property
    def row(self) -> ExperimentRow:
        """Its fingerprint: of all that decides the games, and of nothing else."""
        games = [[game.spec, game.episodes, game.max_plies, game.lineups] for game in self.games]
        players = {
            name: one.model_dump(exclude={"timeout_seconds"})
            for name, one in self.participants.items()
        }
        decides = canonical([self.name, self.seed, games, players])
        return ExperimentRow(self.name, self.config, sha256(decides.encode()).hexdigest())

    @property
    def models(self) -> list[ModelRow]:
        """Every participant."""
        return [
            ModelRow(
                name,
                one.type,
                one.model if isinstance(one, LlmConfig) else None,
                canonical(one.model_dump(exclude_none=True)),
            )
            for name, one in self.participants.items()
        ]


def load_experiment(path: Path) -> Experiment:
    """Read an experiment's file. Raises ConfigError."""
    try:
        config = read_config(path)
        experiment = _experiment(path, config)
        plan(config)  # checks `estimate:`
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in _lines(error))) from error
    except _Wrong as error:
        raise ConfigError(f"{path}: {error}") from error
    except ArenaError as error:
        where = "" if str(path) in error.message else f"{path}: "
        raise ConfigError(where + " ".join(error.message.split())) from error
    return experiment


class _Wrong(Exception):
    """A key and the reason."""


def _experiment(path: Path, config: Mapping[str, Any]) -> Experiment:
    general = {key: config[key] for key in LLM_SETTINGS if key in config}
    own = {key: value for key, value in config.items() if key not in LLM_SETTINGS}
    settings = Settings.model_validate({"name": path.stem, **own})
    _agent("", {"type": "llm", "model": "any", **general})
    participants = dict(_participants(settings, general))
    with closing(Sandbox()) as sandbox:
        games = tuple(_games_to_play(settings, participants, sandbox))
    try:
        text = canonical(config, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _Wrong(f"provider_options: are to be JSON: {error}") from error
    return Experiment(path, settings, games, participants, text)


def _agent(where: str, settings: Mapping[str, Any]) -> AgentConfig:
    """where: the path of the settings in the file, up to its last dot."""
    try:
        return agent_config(settings)
    except ValueError as error:
        raise _Wrong(f"{where}{str(error).splitlines()[0]}") from error


def _lines(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]]
        where = "".join(parts).lstrip(".") or "the file"
        known = _KEYS.get(str(problem["loc"][0])) if len(problem["loc"]) > 1 else None
        yield f"{where}: {told(problem, known or _TOP_KEYS)}"


def _participants(
    settings: Settings, general: Mapping[str, Any]
) -> Iterator[tuple[str, AgentConfig]]:
    """Name and settings of all who play."""
    if bool(settings.agents) == bool(settings.models):
        raise _Wrong("agents, models: give one of the two, and not both")
    if settings.opponents and not settings.models:
        raise _Wrong("opponents: are those of models:, which is not there")
    entries = [(f"agents.{name}", name, one) for name, one in settings.agents.items()]
    for index, model in enumerate(settings.models):
        own = {key: value for key, value in model.items() if key != "name"}
        own |= {"type": "llm", "model": model["name"]}
        entries.append((f"models[{index}]", model["name"], own))
    entries += [(f"opponents.{name}", name, one) for name, one in settings.opponents.items()]
    seen: set[str] = set()
    for where, name, one in entries:
        if name in seen:
            raise _Wrong(f"{where}: {name} appears twice")
        seen.add(name)
        yield name, _agent(f"{where}.", {**(general if one.get("type") == "llm" else {}), **one})


def _games_to_play(
    settings: Settings, participants: Mapping[str, AgentConfig], sandbox: Sandbox
) -> Iterator[GamePlan]:
    swap = bool(settings.models) if settings.swap_seats is None else settings.swap_seats
    models = [one["name"] for one in settings.models]
    seen: set[str] = set()
    for index, entry in enumerate(settings.games):
        try:
            game = sandbox.load(entry.name, entry.params)
            tables = lineups(
                game.players,
                agents=list(settings.agents),
                models=models,
                opponents=list(settings.opponents),
                swap_seats=swap,
            )
            for one in participants.values():
                check_game(one, game)
        except GameError as error:
            raise _Wrong(f"games[{index}]: {error}") from error
        except ValueError as error:
            raise _Wrong(f"games[{index}]: {game.spec} {error}") from error
        if game.spec in seen:
            raise _Wrong(f"games[{index}]: {game.spec} appears twice")
        seen.add(game.spec)
        yield GamePlan(game.spec, entry.times or settings.times or 1, entry.max_plies, tables)
