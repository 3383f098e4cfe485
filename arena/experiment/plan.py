"""How often an experiment calls each model, and with how many tokens.

The plan assumes that every move is one call. Retries after illegal replies and system
messages come on top. A file can replace these assumptions with `estimate:`, for all games
or for one game:

plies              moves of all players in one episode: those of random players
prompt_tokens      of one call: the mean of the arena's prompts with reply json
completion_tokens  of one call: by reply format, at most max_tokens; none for reply score
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from arena.agents.settings import LlmSettings
from arena.experiment.file import Experiment, GamePlan
from arena.experiment.measure import guess_size, measure_games
from arena.games.text import Playout

#: Completion tokens of one call: a short reasoning and an action in JSON; an action alone,
#: which hosted models wrap in JSON. Models that reason at length use far more.
COMPLETION_TOKENS = {"json": 150, "free": 150, "choices": 10, "score": 0}


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
    """All calls of an experiment. notes: which games could not be measured, and why."""

    works: tuple[Work, ...]
    notes: tuple[str, ...] = ()


def make_plan(experiment: Experiment) -> Plan:
    """Plan the calls of all models. Games with unusual parameters are measured first."""
    assumed = {game.spec for game in experiment.games if _is_assumed(game)}
    sizes = measure_games(game.spec for game in experiment.games if game.spec not in assumed)
    works: list[Work] = []
    notes: list[str] = []
    for game in experiment.games:
        seats = len(game.lineups[0])
        size = sizes.get(game.spec, "")
        if isinstance(size, str):
            problem, size = size, guess_size(game.spec, seats)
            if game.spec not in assumed:
                plies = game.assumed.plies or size.moves
                notes.append(f"{game.spec}: assumed {plies:g} moves an episode ({problem})")
        works += _plan_game(experiment, game, size)
    return Plan(tuple(works), tuple(notes))


def _is_assumed(game: GamePlan) -> bool:
    """Whether the file itself says how long the game and its prompts are."""
    return game.assumed.plies is not None and game.assumed.prompt_tokens is not None


def _plan_game(experiment: Experiment, game: GamePlan, size: Playout) -> list[Work]:
    assumed = game.assumed
    plies = assumed.plies or size.moves
    plies = min(plies, game.max_plies or plies)
    prompt_tokens = assumed.prompt_tokens or size.prompt_tokens
    seats = len(game.lineups[0])
    calls: Counter[tuple[str, float]] = Counter()
    for name, times in Counter(name for lineup in game.lineups for name in lineup).items():
        settings = experiment.participants[name]
        if isinstance(settings, LlmSettings):
            tokens = _count_completion_tokens(settings, assumed.completion_tokens)
            calls[settings.model, tokens] += times
    return [
        Work(model, game.spec, game.episodes * times * plies / seats, prompt_tokens, tokens)
        for (model, tokens), times in calls.items()
    ]


def _count_completion_tokens(settings: LlmSettings, assumed: float | None) -> float:
    usual = COMPLETION_TOKENS[settings.reply]
    if not usual:
        return 0  # nothing is generated, so no assumption applies
    tokens = assumed or usual
    return min(tokens, settings.sampling.get("max_tokens") or tokens)
