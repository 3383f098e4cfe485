"""The episodes of an experiment, with their keys and seeds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version

from arena.experiment.file import Experiment, GamePlan
from arena.results.keys import identify_players, identify_seat, make_deal, make_episode_key
from arena.results.rows import name_episode


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to play.

    episode: its key. game: OpenSpiel's string with parameters, such as "hex(board_size=5)".
    number: of its deal, from 0. agents: names of participants in seat order. seed: 63 bits, for
    chance events. max_plies: the episode is truncated if the game is not over by then; None: no
    limit. versions: Agent.version of each seat.
    """

    episode: str
    game: str
    number: int
    agents: tuple[str, ...]
    seed: int
    max_plies: int | None = None
    versions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name to read, unique in an experiment: game/number/agents in seat order."""
        return name_episode(self.game, self.number, self.agents)


def schedule(experiment: Experiment) -> list[EpisodeSpec]:
    """All episodes, sorted by game, number and line-up.

    A deal depends only on the experiment's seed, the game and the number. So all line-ups get the
    same cards, in every experiment with this seed, and more episodes, games or players change
    nothing.
    """
    players = {name: player for name, (player, _) in identify_players(experiment.models).items()}
    return [
        spec for game in experiment.games for spec in _list_episodes(game, experiment.seed, players)
    ]


def _list_episodes(game: GamePlan, seed: int, players: dict[str, str]) -> Iterator[EpisodeSpec]:
    seats = {name: identify_seat(players[name], text) for name, text in game.versions.items()}
    versions = {lineup: tuple(game.versions[name] for name in lineup) for lineup in game.lineups}
    engine = _find_engine()
    for number in range(game.episodes):
        deal = make_deal(seed, game.identity, number)
        for lineup in game.lineups:
            yield EpisodeSpec(
                episode=make_episode_key(
                    engine, game.identity, game.max_plies, [seats[name] for name in lineup], deal
                ),
                game=game.spec,
                number=number,
                agents=lineup,
                seed=deal,
                max_plies=game.max_plies,
                versions=versions[lineup],
            )


@cache
def _find_engine() -> str:
    return version("open_spiel")


def turn_seed(deal: int, seat: int, ply: int) -> int:
    """The seed of one turn, 63 bits. It does not depend on who sits in the seat.

    deal: the seed of the episode.
    """
    text = f"{deal},{seat},{ply}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 1
