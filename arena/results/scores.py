"""Stores the scores of information states, from which a model's whole policy follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from arena.results.database import raise_results_errors, transaction
from arena.results.opening import OpenFile
from arena.results.reader import Reader, make_query
from arena.results.rows import ExperimentRow, ModelRow, ScoreRow
from arena.results.writer import Writer


class ScoreStore:
    """The scores of players in a results file that is open to be written to.

    What `put` has stored survives the end of the process. Raises ResultsError.
    """

    def __init__(
        self, path: Path, opened: OpenFile, experiment: str, players: Sequence[ModelRow]
    ) -> None:
        """experiment: the name of what calls the players so."""
        self._path = path
        self._connection = opened.connection
        self._writer = Writer(self._connection)
        self._query = make_query(ExperimentRow(experiment, "{}"), (), players)
        with raise_results_errors(path), transaction(self._connection):
            self._players = self._writer.put_players(experiment, players)

    def read(self) -> list[ScoreRow]:
        """Return the stored scores of the players."""
        with raise_results_errors(self._path):
            try:
                return list(Reader(self._connection, self._query).scores())
            finally:
                self._connection.execute("DROP TABLE IF EXISTS temp.wanted")

    def put(self, rows: Iterable[ScoreRow]) -> None:
        """Store scores that are not stored yet."""
        with raise_results_errors(self._path), transaction(self._connection):
            self._writer.put_scores(rows, self._players)
