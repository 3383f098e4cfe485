"""The players that an experiment's file names, and what each of them plays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from arena.agents.registry import find_agent
from arena.agents.settings import AgentSettings
from arena.experiment.conditions import cross_conditions
from arena.experiment.file import ExperimentFile
from arena.experiment.lineups import lineups
from arena.games.game import Game, needs_trial
from arena.games.sandbox import Sandbox


class Player(NamedTuple):
    """An entry of models, agents, opponents or anchors. where: its path in the file."""

    where: str
    name: str
    settings: Mapping[str, Any]


def list_players(
    settings: ExperimentFile, defaults: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Player]:
    """Yield every player of a file. defaults: of llm agents."""
    prompt = defaults.get("prompt") or {}
    for index, entry in enumerate(settings.models):
        own = {key: value for key, value in entry.items() if key not in ("name", "as")}
        name = entry["name"]
        crossed = cross_conditions(entry.get("as", name), own, settings.conditions, prompt)
        for player, values in crossed:
            yield Player(f"models[{index}]", player, values | as_llm(name))
    groups = {
        "agents": settings.agents,
        "opponents": settings.opponents,
        "anchors": settings.anchors,
    }
    for key, group in groups.items():
        for name, agent in group.items():
            yield Player(f"{key}.{name}", name, agent)


def as_llm(model: str) -> dict[str, str]:
    """Return the settings of a model that is listed by its name alone."""
    return {"type": "llm", "model": model}


def list_entrants(settings: ExperimentFile) -> list[str]:
    """Return who plays all against all: each model in each condition, and the anchors."""
    models = (one.name for one in list_players(settings) if one.where.startswith("models"))
    return [*models, *settings.anchors]


def list_lineups(settings: ExperimentFile, game: Game) -> tuple[tuple[str, ...], ...]:
    """Return who plays whom. Raises ValueError if the players do not fit the game's seats."""
    swap = settings.swap_seats
    return lineups(
        game.players,
        agents=list(settings.agents),
        models=list_entrants(settings),
        opponents=list(settings.opponents),
        swap_seats=bool(settings.models) if swap is None else swap,
    )


def find_versions(
    game: Game, participants: Mapping[str, AgentSettings], sandbox: Sandbox
) -> dict[str, str]:
    """Return the version of each participant in a game. Raises GameError.

    Agents may play the game to find it, so a game that might end the process is played in
    the sandbox.
    """
    settings = tuple(participants.values())
    if needs_trial(game.spec, {}):
        versions = sandbox.call(_list_versions, game.spec, settings)
    else:
        versions = _list_versions(game.spec, settings, game)
    return dict(zip(participants, versions, strict=True))


def _list_versions(
    spec: str, participants: Sequence[AgentSettings], game: Game | None = None
) -> list[str]:
    """game: the game of this spec, if it is loaded."""
    game = game or Game.load(spec)
    return [find_agent(one.type).version(one, game) for one in participants]


def find_models(players: Sequence[Player]) -> dict[str, tuple[str, ...]]:
    """Return each model, and the places that name it, in the order of the file."""
    places: dict[str, tuple[str, ...]] = {}
    for where, _, entry in players:
        if isinstance(entry, Mapping) and isinstance(model := entry.get("model"), str):
            place = where if where.startswith("models") else f"{where}.model"
            places[model] = (*places.get(model, ()), place)
    return places
