"""Which episodes an experiment has: a pure function of its configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to play.

    episode: its id, readable and unique: game/number/agents in seat order.
    game: OpenSpiel's string with parameters, such as "hex(board_size=5)".
    agents: names of participants in seat order. seed: of chance, 63 bits.
    """

    episode: str
    game: str
    number: int
    agents: tuple[str, ...]
    seed: int
