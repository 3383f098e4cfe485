"""How often an experiment will ask each model, and with how many tokens.

The assumptions, each of which the configuration may replace under `estimate:`, for the
whole experiment or in a game's own mapping:

plies              moves of all players in one episode: GAMES, measured at random
prompt_tokens      of one call: the position (GAMES) and RULES_TOKENS
completion_tokens  of one call: COMPLETION_TOKENS, at most max_tokens, the agent's own or
                   the experiment's

Who plays whom is known (lineups.py). Every move is one call: illegal replies that are
asked for again come on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from arena_llm.errors import InvalidArgumentError
from arena_llm.validation.experiment import shown
from arena_llm.validation.games import GAMES, UNKNOWN_GAME
from arena_llm.validation.players import players_of

#: The rules of a game and the format of the reply, beside the position.
RULES_TOKENS = 200
#: A short reasoning and an action in JSON. Models that think at length take far more.
COMPLETION_TOKENS = 150

#: No count of an experiment that will end.
_ENDLESS = 1e12

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
    `max_tokens` and `estimate`. Raises InvalidArgumentError (reason INVALID_CONFIG, with
    the key as `field`).
    """
    players = players_of(config)
    general, most = _assumptions(config, ""), _number(config, "max_tokens", whole=True)
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
        plies = min(plies, _number(entry, "max_plies", f"{where}.", whole=True) or plies)
        episodes = _episodes(entry, f"{where}.") or _episodes(config, "") or 1
        prompt = assumed.get("prompt_tokens", figures.position_tokens + RULES_TOKENS)
        completion = assumed.get("completion_tokens", COMPLETION_TOKENS)
        try:
            sittings = players.sittings(seats)
        except ValueError as error:
            raise _invalid(where, f"{name} {error}") from error
        for asked, times in sittings.items():
            own = _number(asked._asdict(), "max_tokens", f"{asked.model}.", whole=True)
            tokens = min(completion, own or most or completion)
            works.append(Work(asked.model, name, episodes * times * plies / seats, prompt, tokens))
    return Plan(tuple(works), tuple(notes))


def _games(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Where each game stands, its name, and its own mapping."""
    games = config.get("games")
    if not isinstance(games, list) or not games:
        raise _invalid("games", "must be a list of games, for an estimate")
    for index, game in enumerate(games):
        entry = game if isinstance(game, Mapping) else {"name": game}
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise _invalid(f"games[{index}]", "must be a game's name, or a mapping with a name")
        yield f"games[{index}]", name, entry


def _episodes(mapping: Mapping[str, Any], where: str) -> float | None:
    for key in ("episodes", "num_episodes"):
        if (count := _number(mapping, key, where, whole=True)) is not None:
            return count
    return None


def _assumptions(mapping: Mapping[str, Any], where: str) -> dict[str, float]:
    given = mapping.get("estimate")
    where += "estimate"
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _invalid(where, f"must be a mapping with any of {', '.join(_ASSUMPTIONS)}")
    for key in given:
        if key not in _ASSUMPTIONS:
            raise _invalid(f"{where}.{key}", f"is none of {', '.join(_ASSUMPTIONS)}")
    numbers = {key: _number(given, key, f"{where}.") for key in given}
    return {key: number for key, number in numbers.items() if number is not None}


def _number(
    mapping: Mapping[str, Any], key: str, where: str = "", *, whole: bool = False
) -> float | None:
    """The number under a key; where: the path of the mapping, up to its last dot."""
    value = mapping.get(key)
    if value is None:
        return None
    kind = int if whole else (int, float)
    # A bool is an int to Python, and to nobody else.
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < _ENDLESS:
        wanted = "a whole number of at least 1" if whole else "a number over 0"
        raise _invalid(where + key, f"must be {wanted}, not {shown(value)}")
    return value


def _invalid(where: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{where}: {problem}", reason="INVALID_CONFIG", field=where)
