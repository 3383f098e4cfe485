"""Reads a results file for the report."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from arena.results.columns import Episodes, Numbers, read_answers, read_episodes
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
    replies but have not ended. columns: all episodes. answers: see read_answers. own_games:
    dotted paths of games that may be imported.
    """

    def __init__(self, connection: sqlite3.Connection, query: Query | None = None) -> None:
        self.reader = Reader(connection, query)
        self.name = self.reader.name
        self.config = self.reader.config
        self.own_games = query.games if query else ()
        self.answers = read_answers(self.reader)
        self.columns: Episodes = read_episodes(self.reader, self.answers)
        self.participants: Mapping[str, ModelRow] = self.reader.participants
        self.unfinished = self.reader.count_unfinished()

    @cached_property
    def episodes(self) -> tuple[EpisodeRow, ...]:
        """All episodes, by game, number and line-up."""
        return tuple(self.reader.episodes())

    def first(self, count: int | None) -> Iterator[EpisodeRow]:
        """Yield the first episodes, by the number of their deal; None: all."""
        rows = self.reader.select(
            "SELECT id FROM episodes WHERE {wanted} ORDER BY number, key LIMIT ?",
            -1 if count is None else count,
        )
        return self.reader.pick([number for (number,) in rows])

    def find_places(self, episodes: Iterable[EpisodeRow]) -> Numbers:
        """Return the places of stored episodes in the columns."""
        numbers = [
            number
            for episode in episodes
            for (number,) in self.reader.select(
                "SELECT id FROM episodes WHERE key = ?", episode.episode
            )
        ]
        return self.columns.find(np.array(numbers, np.int64))

    def moves(
        self, episode: EpisodeRow, *, light: bool = False, legal: bool = False
    ) -> list[MoveRow]:
        """Return the moves of an episode in the order of play.

        light: without the TEXTS. legal: but with the legal actions.
        """
        left_out = tuple(name for name in TEXTS if not (legal and name == "legal_actions"))
        return self.reader.moves(episode, left_out if light else ())

    def failed_calls(self) -> Iterator[tuple[EpisodeRow, FailedCallRow]]:
        """Yield the calls that failed although they took something, of the stored episodes."""
        for call in self.reader.failed_calls():
            episode = self.reader.find(call.episode)
            if episode is not None and 0 <= call.seat < len(episode.agents):
                yield episode, call


@contextmanager
def open_results(path: Path, query: Query | None = None) -> Iterator[Results]:
    """Open a results file to read it. Raises ResultsError naming the file.

    query: reads only the episodes of an experiment.
    """
    with open_to_read(path) as connection, raise_results_errors(path):
        # Text that is not UTF-8 must not make the rest unreadable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        yield Results(connection, query)
