"""How often an experiment will ask each model, and with how many tokens.

The assumptions, each of which the configuration may replace under `estimate:`, for the
whole experiment or in a game's own mapping:

plies              moves of all players in one episode, by chance alone
prompt_tokens      of one call: of the arena's own prompt
completion_tokens  of one call: by `reply`, at most max_tokens, the agent's own or the
                   experiment's; always none where actions are scored

Their defaults are in games.py. Who plays whom is known (lineups.py). Every move is one
call: illegal replies that are asked for again come on top, as do system messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from arena_llm.validation.games import COMPLETION_TOKENS, GAMES, UNKNOWN_GAME
from arena_llm.validation.players import Asked, players_of
from arena_llm.validation.values import invalid, number

_ASSUMPTIONS = ("plies", "prompt_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class Work:
    """The calls of one model in one game, and the tokens of one call."""

    model: str
    game: str
    calls: float
    prompt_tokens: float
    completion_tokens: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All calls of an experiment; `notes` tell what had to be guessed."""

    works: tuple[Work, ...]
    notes: tuple[str, ...] = ()


def plan(config: Mapping[str, Any]) -> Plan:
    """The calls of an experiment, from its models, agents, games and episodes.

    Reads `models`, `opponents`, `agents`, `swap_seats`, `games` (names, or mappings with
    name, params, episodes, max_plies and estimate), `episodes` or `num_episodes` (1),
    `max_tokens`, `reply` (json) and `estimate`. Raises InvalidArgumentError (reason
    INVALID_CONFIG, with the key as `field`).
    """
    players = players_of(config)
    general = _assumptions(config, "")
    works, notes = [], []
    for where, name, entry in _games(config):
        known = GAMES.get(name.partition("(")[0])
        figures = known or UNKNOWN_GAME
        assumed = general | _assumptions(entry, f"{where}.")
        seats = players.seats(name, entry.get("params"), known and known.players)
        plies = assumed.get("plies", figures.moves * seats / figures.players)
        if name not in GAMES and not {"plies", "prompt_tokens"} <= assumed.keys():
            like = "that game's defaults" if known else "an average game"
            notes.append(f"{name}: not measured, counted as {like} with {plies:g} plies an episode")
        plies = min(plies, number(entry, "max_plies", f"{where}.", whole=True) or plies)
        episodes = _episodes(entry, f"{where}.") or _episodes(config, "") or 1
        prompt = assumed.get("prompt_tokens", figures.prompt_tokens)
        try:
            sittings = players.sittings(seats)
        except ValueError as error:
            raise invalid(where, f"{name} {error}") from error
        for asked, times in sittings.items():
            completion = _completion(asked, assumed.get("completion_tokens"))
            calls = episodes * times * plies / seats
            works.append(Work(asked.model, name, calls, prompt, completion))
    return Plan(tuple(works), tuple(notes))


def _completion(asked: Asked, assumed: float | None) -> float:
    usual = COMPLETION_TOKENS[asked.reply]
    # Where nothing is generated, no assumption can hold.
    tokens = assumed if usual and assumed is not None else usual
    return min(tokens, asked.max_tokens or tokens)


def _games(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Where each game stands, its name, and its own mapping."""
    games = config.get("games")
    if not isinstance(games, list) or not games:
        raise invalid("games", "must be a list of games, for an estimate")
    for index, game in enumerate(games):
        entry = game if isinstance(game, Mapping) else {"name": game}
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise invalid(f"games[{index}]", "must be a game's name, or a mapping with a name")
        yield f"games[{index}]", name, entry


def _episodes(mapping: Mapping[str, Any], where: str) -> float | None:
    for key in ("episodes", "num_episodes"):
        if (count := number(mapping, key, where, whole=True)) is not None:
            return count
    return None


def _assumptions(mapping: Mapping[str, Any], where: str) -> dict[str, float]:
    given = mapping.get("estimate")
    where += "estimate"
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise invalid(where, f"must be a mapping with any of {', '.join(_ASSUMPTIONS)}")
    for key in given:
        if key not in _ASSUMPTIONS:
            raise invalid(f"{where}.{key}", f"is none of {', '.join(_ASSUMPTIONS)}")
    numbers = {key: number(given, key, f"{where}.") for key in given}
    return {key: value for key, value in numbers.items() if value is not None}
