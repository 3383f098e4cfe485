"""The episodes of an experiment, with their seeds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from arena.experiment.file import Experiment


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to play.

    episode: its readable, unique id: game/number/agents in seat order. game: OpenSpiel's
    string with parameters, such as "hex(board_size=5)". agents: names of participants in
    seat order. seed: 63 bits, for chance events. max_plies: the episode is truncated if
    the game is not over by then; None: no limit.
    """

    episode: str
    game: str
    number: int
    agents: tuple[str, ...]
    seed: int
    max_plies: int | None = None


def schedule(experiment: Experiment) -> list[EpisodeSpec]:
    """All episodes, sorted by game, number and line-up.

    An episode's seed depends only on experiment, game and number. So all line-ups get the
    same cards in every run, also if other games are added to the experiment.
    """
    return [
        EpisodeSpec(
            episode=f"{game.spec}/{number}/{','.join(agents)}",
            game=game.spec,
            number=number,
            agents=agents,
            seed=_seed(experiment.name, experiment.seed, game.spec, number),
            max_plies=game.max_plies,
        )
        for game in experiment.games
        for number in range(game.episodes)
        for agents in game.lineups
    ]


def turn_seed(spec: EpisodeSpec, seat: int, ply: int) -> int:
    """The seed of one turn, 63 bits. It does not depend on who sits in the seat."""
    return _seed(spec.seed, seat, ply)


def _seed(*parts: str | int) -> int:
    """63 bits, which fit into an integer of SQLite and into the seed of a model call."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
