"""Which episodes an experiment has: a pure function of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from arena.experiment.config import Experiment


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to play.

    episode: its id, readable and unique: game/number/agents in seat order.
    game: OpenSpiel's string with parameters, such as "hex(board_size=5)".
    agents: names of participants in seat order. seed: of chance, 63 bits.
    max_plies: the episode is truncated if the game has not ended by then; None: no bound.
    """

    episode: str
    game: str
    number: int
    agents: tuple[str, ...]
    seed: int
    max_plies: int | None = None


def schedule(experiment: Experiment) -> list[EpisodeSpec]:
    """All episodes: by game, then number, then line-up.

    An episode's seed comes from experiment, game and number alone, so that all line-ups
    are dealt the same cards, whoever plays them, when, and beside what.
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
    """The seed of one turn, 63 bits: it does not depend on who sits where either."""
    return _seed(spec.seed, seat, ply)


def _seed(*parts: str | int) -> int:
    """63 bits, as SQLite and the models' seeds can hold them."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest()) >> 1
