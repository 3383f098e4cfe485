"""What every format of `arena export` for other programs reads: who played, and what it earned."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from arena.games.scale import GameScale
from arena.report.count import Summary, summarise
from arena.report.load import Results
from arena.results.rows import PLAYED, EpisodeRow, ModelRow, MoveRow
from arena.statistics.intervals import Mean

#: The developer of a model whose name does not say it.
UNKNOWN = "unknown"

#: Columns of moves that no format for other programs needs.
_UNUSED = ("legal_actions",)


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote. notes: what it left out, in sentences."""

    files: Sequence[Path]
    notes: Sequence[str] = ()


class PlayedSeat(NamedTuple):
    """A seat of a stored episode, with its own moves and all moves of the episode.

    reward: the seat's return; the lowest of the game if it forfeited; None if the episode gave
    it none, because it failed or because another seat forfeited.
    """

    episode: EpisodeRow
    seat: int
    reward: float | None
    moves: Sequence[MoveRow]
    own: Sequence[MoveRow]

    @property
    def id(self) -> str:
        """Identifies the seat in every file: the episode's key and the seat's number."""
        return f"{self.episode.episode}-{self.seat}"


class GameResult(NamedTuple):
    """A player's result in a game: the score, or the mean return in a game without winners."""

    game: str
    competitive: bool
    scale: GameScale
    mean: Mean

    @property
    def quantity(self) -> str:
        """What the mean is of."""
        return "score" if self.competitive else "return"

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest possible value."""
        return (0.0, 1.0) if self.competitive else (self.scale.low, self.scale.high)


class Source:
    """A results file as other programs see it. Computes the report's figures on first use."""

    def __init__(self, results: Results) -> None:
        self._results = results
        # Replays show and judge moves; neither is exported.
        self.summary: Summary = summarise(results, replays=0)

    @property
    def name(self) -> str:
        """The experiment's name; "arena" for a file with several."""
        return self._results.name or "arena"

    @property
    def models(self) -> list[ModelRow]:
        """The language models that played, by name."""
        rows = self._results.participants
        return [rows[name] for name in sorted(rows) if rows[name].model]

    @property
    def ended(self) -> datetime:
        """When the last episode ended; 1970 if the file does not say it."""
        seconds = max((episode.ended for episode in self._results.episodes), default=0)
        return datetime.fromtimestamp(seconds, UTC)

    def results(self, agent: str) -> Iterator[GameResult]:
        """Yield the report's result of a player in each game that it played."""
        for game in self.summary.games:
            if (mean := self.summary.result(agent, game)) is not None:
                competitive = self.summary.is_competitive(game)
                yield GameResult(game, competitive, self.summary.scales[game], mean)

    def seats(self, agent: str = "") -> Iterator[PlayedSeat]:
        """Yield the seats of one player, or of all language models, episode by episode."""
        wanted = {agent} if agent else {model.agent for model in self.models}
        for episode in self._results.episodes:
            places = [seat for seat, name in enumerate(episode.agents) if name in wanted]
            if not places:
                continue
            moves = self._results.reader.moves(episode, _UNUSED)
            scale = self.summary.scales[episode.game]
            for seat in places:
                own = [move for move in moves if move.seat == seat]
                yield PlayedSeat(episode, seat, find_reward(episode, seat, scale), moves, own)


def find_reward(episode: EpisodeRow, seat: int, scale: GameScale) -> float | None:
    """Return what a seat earned; see PlayedSeat. The same rule as the report's strict mean."""
    if episode.status in PLAYED and episode.returns is not None:
        return episode.returns[seat]
    if episode.status == "forfeited" and episode.loser in (seat, None):
        return scale.low
    return None


def make_file_name(name: str) -> str:
    """Return a name with only characters that every file system has."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".") or "_"


def split_name(model: str) -> tuple[str, str]:
    """Return the developer and the name of a model without its backend's prefix.

    "openrouter_openai/gpt-4o" is ("openai", "gpt-4o"). The developer is "unknown" if the name does
    not say it.
    """
    developer, _, name = (model.partition("_")[2] or model).rpartition("/")
    return developer.rpartition("/")[2] or UNKNOWN, name
