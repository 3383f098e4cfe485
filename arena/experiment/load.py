"""Reads an experiment's file and reports all of its problems together.

`arena validate` and `arena run` read files with this module alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from arena.agents.registry import find_agent
from arena.agents.settings import (
    AgentSettings,
    LlmSettings,
    RoutingSettings,
    explain_validation_error,
)
from arena.experiment.file import (
    LLM_DEFAULTS,
    Assumptions,
    Experiment,
    ExperimentFile,
    GameEntry,
    GamePlan,
    RayEntry,
    UntilEntry,
    check_model_name,
)
from arena.experiment.players import (
    Player,
    as_llm,
    find_models,
    find_versions,
    list_entrants,
    list_lineups,
    list_players,
)
from arena.experiment.prices import PriceEntry
from arena.games.game import Game, GameError, find_path
from arena.games.sandbox import Sandbox
from arena.results.rows import canonical_json
from arena_llm.yaml_file import YamlError, read_mapping

_TOP_KEYS = (*ExperimentFile.model_fields, *LLM_DEFAULTS)
_NESTED_KEYS: Mapping[str, Sequence[str]] = {
    "games": tuple(GameEntry.model_fields),
    "ray": tuple(RayEntry.model_fields),
    "until": tuple(UntilEntry.model_fields),
    "estimate": tuple(Assumptions.model_fields),
    "routing": tuple(RoutingSettings.model_fields),
    "prices": tuple(PriceEntry.model_fields),
}


#: Further problems of a file are only counted.
_MAX_PROBLEMS = 20


class ExperimentError(Exception):
    """A file that cannot be used: one line "FILE: KEY: problem" for each problem."""


@dataclass(frozen=True, slots=True)
class ModelsFile:
    """A file that names models and has no games, such as configs/hf_models.yaml.

    places: where the file names each model.
    """

    path: Path
    places: Mapping[str, tuple[str, ...]]


def load_experiment(path: Path) -> Experiment:
    """Read and check an experiment's file. Raises ExperimentError."""
    return _Reader(path).read_experiment()


def load_file(path: Path) -> Experiment | ModelsFile:
    """Read a file that is an experiment, or that only names models. Raises ExperimentError."""
    reader = _Reader(path)
    return reader.read_experiment() if reader.is_experiment else reader.read_models_file()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[str] = []
        self._wrong_keys: set[str] = set()
        try:
            self._config = read_mapping(path)
        except YamlError as error:
            raise ExperimentError(str(error)) from error

    @property
    def is_experiment(self) -> bool:
        """Whether the file has the key games, perhaps misspelled."""
        unknown = [str(key) for key in self._config if key not in _TOP_KEYS]
        return "games" in self._config or bool(get_close_matches("games", unknown))

    def read_experiment(self) -> Experiment:
        defaults = self._read_llm_defaults()
        settings = self._read_settings()
        self._check_groups()
        if settings:
            self._check_pairing(settings)
        # With wrong settings, check what can be checked without them.
        checked = settings or self._read_valid_settings()
        players = list(list_players(checked, defaults)) if checked else []
        participants = dict(self._read_participants(players, defaults))
        games: list[GamePlan] = []
        if checked and players:
            own = {find_path(entry.name) for entry in checked.games}
            with closing(Sandbox(own=own)) as sandbox:
                games = list(self._read_games(checked, participants, sandbox))
        text = self._make_json()
        if settings is None or self._problems:
            raise self._error()
        places = find_models(players)
        for player in participants.values():
            for model in (isinstance(player, LlmSettings) and player.fallback_models) or ():
                places.setdefault(model, ("fallback_models",))
        return Experiment(self._path, settings, tuple(games), participants, places, text)

    def read_models_file(self) -> ModelsFile:
        entries = self._config.get("models") or []
        if not isinstance(entries, list):
            self._add("models", "must be a list")
            entries = []
        players = []
        for index, entry in enumerate(entries):
            name = entry.get("name") if isinstance(entry, Mapping) else entry
            try:
                check_model_name(name)
            except ValueError as error:
                self._add(f"models[{index}]", str(error))
            else:
                players.append(Player(f"models[{index}]", str(name), as_llm(str(name))))
        for key in ("agents", "opponents", "anchors"):
            agents = self._config.get(key) or {}
            if not isinstance(agents, Mapping):
                self._add(key, "must be a mapping")
                continue
            players += [Player(f"{key}.{name}", name, agent) for name, agent in agents.items()]
        dict(self._read_participants(players, self._read_llm_defaults()))
        places = find_models(players)
        if not places and not self._problems:
            self._add("models, agents", "the file names no model")
        if self._problems:
            raise self._error()
        return ModelsFile(self._path, places)

    def _add(self, where: str, problem: str) -> None:
        # Texts from the file can contain line breaks; an error is one line.
        line = " ".join(f"{where}: {problem}".split())
        if line not in self._problems:
            self._problems.append(line)

    def _error(self) -> ExperimentError:
        problems = self._problems[:_MAX_PROBLEMS]
        if more := len(self._problems) - len(problems):
            problems.append(f"and {more} more")
        return ExperimentError("\n".join(f"{self._path}: {problem}" for problem in problems))

    def _add_all(self, error: ValidationError, keys: Sequence[str], prefix: str = "") -> None:
        """Add the problems that pydantic found. prefix: the path of what it checked."""
        for problem in error.errors():
            parts = [part for part in problem["loc"] if part != "[key]"]
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
            parents = [part for part in parts[:-1] if isinstance(part, str)]
            valid = _NESTED_KEYS.get(parents[-1], keys) if parents else keys
            where = (prefix + path).lstrip(".") or "the file"
            self._add(where, explain_validation_error(problem, valid))

    def _read_llm_defaults(self) -> dict[str, Any]:
        """The valid defaults of llm agents."""
        defaults = {key: self._config[key] for key in LLM_DEFAULTS if key in self._config}
        try:
            LlmSettings.model_validate({"type": "llm", "model": "any", **defaults})
        except ValidationError as error:
            self._add_all(error, _TOP_KEYS)
            for problem in error.errors():
                defaults.pop(str(problem["loc"][0]), None)
        return defaults

    def _settings_keys(self) -> dict[str, Any]:
        own = {key: value for key, value in self._config.items() if key not in LLM_DEFAULTS}
        return {"name": self._path.stem, **own}

    def _read_settings(self) -> ExperimentFile | None:
        try:
            return ExperimentFile.model_validate(self._settings_keys())
        except ValidationError as error:
            self._add_all(error, _TOP_KEYS)
            self._wrong_keys = {
                str(problem["loc"][0]) for problem in error.errors() if problem["loc"]
            }
            return None

    def _read_valid_settings(self) -> ExperimentFile | None:
        """The settings without the wrong keys; None if games or players are among these."""
        if self._wrong_keys & {"games", "agents", "models", "opponents", "anchors"}:
            return None
        keys = self._settings_keys()
        valid = {key: value for key, value in keys.items() if key not in self._wrong_keys}
        try:
            return ExperimentFile.model_validate({"name": "any", **valid})
        except ValidationError:
            return None

    def _check_groups(self) -> None:
        agents, models = bool(self._config.get("agents")), bool(self._config.get("models"))
        if agents and models:
            self._add("agents, models", "give only one of the two")
        elif not agents and not models:
            self._add("agents, models", "one of the two is required")
        if self._config.get("conditions") and not models:
            self._add("conditions", "need models: that play with them")
        if self._config.get("opponents") and not models:
            self._add("opponents", "need models: to play against")
        if self._config.get("anchors") and not models:
            self._add("anchors", "need models: to play with")
        if self._config.get("anchors") and self._config.get("opponents"):
            self._add("anchors, opponents", "give only one of the two")

    def _check_pairing(self, settings: ExperimentFile) -> None:
        if settings.pairing == "all":
            return
        if settings.until is None:
            self._add("pairing", "adaptive needs until:, which says when the ratings are known")
        if settings.opponents or len(list_entrants(settings)) < 3:
            self._add(
                "pairing",
                "adaptive needs three or more players, all against all: models, each in all of "
                "its conditions, and anchors",
            )

    def _read_participants(
        self, players: Sequence[Player], defaults: Mapping[str, Any]
    ) -> Iterator[tuple[str, AgentSettings]]:
        """The name and the settings of each player whose entry is valid."""
        names: set[str] = set()
        for where, name, entry in players:
            if name in names:
                self._add(where, _explain_duplicate(where, name))
            names.add(name)
            if not isinstance(entry, Mapping):
                self._add(where, "must be a mapping, such as {type: llm, model: ...}")
                continue
            try:
                kind = find_agent(entry.get("type")).Settings
            except ValueError as error:
                self._add(f"{where}.type", str(error))
                continue
            values = {**defaults, **entry} if issubclass(kind, LlmSettings) else entry
            try:
                yield name, kind.model_validate(dict(values))
            except ValidationError as error:
                self._add_all(error, tuple(kind.model_fields), where)

    def _read_games(
        self,
        settings: ExperimentFile,
        participants: Mapping[str, AgentSettings],
        sandbox: Sandbox,
    ) -> Iterator[GamePlan]:
        specs: set[str] = set()
        for index, entry in enumerate(settings.games):
            where = f"games[{index}]"
            try:
                game = sandbox.load(entry.name, entry.params)
            except GameError as error:
                self._add(where, str(error))
                continue
            if game.spec in specs:
                self._add(where, f"{game.spec} is listed twice")
            specs.add(game.spec)
            self._check_players(where, game, participants)
            if settings.pairing == "adaptive" and game.players != 2:
                self._add(
                    where, f"{game.spec} has {game.players} players; adaptive pairing needs 2"
                )
            try:
                tables = list_lineups(settings, game)
            except ValueError as error:
                self._add(where, f"{game.spec} {error}")
                continue
            assumed = settings.estimate.model_dump(exclude_none=True)
            assumed |= entry.estimate.model_dump(exclude_none=True)
            repeats = entry.repeats or settings.repeats or 1
            try:
                versions = find_versions(game, participants, sandbox)
            except GameError as error:
                self._add(where, f"{game.spec}: {error}")
                continue
            yield GamePlan(
                game.spec,
                repeats,
                entry.max_plies,
                tables,
                Assumptions.model_validate(assumed),
                game.identity,
                versions,
            )

    def _check_players(
        self, where: str, game: Game, participants: Mapping[str, AgentSettings]
    ) -> None:
        for settings in participants.values():
            try:
                find_agent(settings.type).check_game(settings, game)
            except GameError as error:
                self._add(where, str(error))

    def _make_json(self) -> str:
        try:
            return canonical_json(self._config, allow_nan=False)
        except (TypeError, ValueError) as error:
            if not self._problems:
                self._add("the file", f"must contain only values that JSON can hold: {error}")
            return ""


def _explain_duplicate(where: str, name: str) -> str:
    if where.startswith("models"):
        return (
            f"{name} is listed twice; to play it with two settings, name one of them: "
            f"{{name: {name}, as: another-name, ...}}"
        )
    return f"{name} is the name of another player"
