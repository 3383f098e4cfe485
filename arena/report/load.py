"""Reads a results file for the report."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from arena.results.database import raise_results_errors
from arena.results.reader import Query, Reader
from arena.results.rows import EpisodeRow, FailedCallRow, ModelRow, MoveRow
from arena.results.upgrade import open_to_read

#: Columns that may be long, and that the tables do not need.
TEXTS = ("problem", "legal_actions", "board", "prompt", "reply", "reasoning", "tokens")


class Results:
    """A snapshot of a results file, even if another process is writing to it.

    name, config: of the experiment, its file as JSON; empty if the file has several. participants:
    all agents by name, including agents that have not played. unfinished: episodes that have
    replies but have not ended.
    """

    def __init__(self, connection: sqlite3.Connection, query: Query | None = None) -> None:
        self.reader = Reader(connection, query)
        self.name = self.reader.name
        self.config = self.reader.config
        self.episodes = tuple(self.reader.episodes())
        self.participants: Mapping[str, ModelRow] = self.reader.participants
        self.unfinished = self.reader.count_unfinished()

    def light_moves(self) -> Iterator[tuple[EpisodeRow, list[MoveRow]]]:
        """Yield each episode with its moves in the order of play, without the columns in TEXTS."""
        for episode in self.episodes:
            yield episode, self.reader.moves(episode, TEXTS)

    def failed_calls(self) -> Iterator[tuple[EpisodeRow, FailedCallRow]]:
        """Yield the calls that failed although they took something, of the stored episodes."""
        episodes = {episode.episode: episode for episode in self.episodes}
        for call in self.reader.failed_calls():
            episode = episodes.get(call.episode)
            if episode is not None and 0 <= call.seat < len(episode.agents):
                yield episode, call

    def moves(self, episode: str) -> list[MoveRow]:
        """Return the moves of one episode in the order of play, with all columns."""
        found = self._by_key.get(episode)
        return self.reader.moves(found) if found else []

    @cached_property
    def _by_key(self) -> Mapping[str, EpisodeRow]:
        return {episode.episode: episode for episode in self.episodes}


@contextmanager
def open_results(path: Path, query: Query | None = None) -> Iterator[Results]:
    """Open a results file to read it. Raises ResultsError naming the file.

    query: reads only the episodes of an experiment.
    """
    with open_to_read(path) as connection, raise_results_errors(path):
        # Text that is not UTF-8 must not make the rest unreadable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        yield Results(connection, query)
