"""Finds episodes that an experiment would count if its prompts had not changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from arena.results.database import connect, raise_results_errors, read_version
from arena.results.integrity import VERSION
from arena.results.keys import hash_text, identify_players
from arena.results.reader import Reader
from arena.results.rows import ModelRow


def count_other_versions(
    path: Path,
    models: Sequence[ModelRow],
    lineups: Iterable[tuple[str, Sequence[str], Sequence[str]]],
) -> int:
    """Return how many episodes of these line-ups have prompts or a reader of another version.

    lineups: game, players and the version of each, in seat order. Raises ResultsError.
    """
    count = 0
    with (
        raise_results_errors(path),
        closing(connect(path, thorough=False, empty=True)) as connection,
    ):
        if read_version(connection) != VERSION:
            return 0  # of an earlier release: none of its episodes counts for a run
        reader = Reader(connection)
        stored = dict(reader.select("SELECT key, id FROM players"))
        games = dict(reader.select("SELECT game, id FROM games"))
        players = {
            name: stored.get(hash_text(identity))
            for name, (identity, _) in identify_players(models).items()
        }
        for game, agents, versions in lineups:
            lineup = [players[agent] for agent in agents]
            if game in games and None not in lineup:
                (found,) = connection.execute(
                    "SELECT count(DISTINCT episodes.id) FROM episodes JOIN seats ON"
                    " seats.episode = episodes.id JOIN json_each(?) AS wanted ON"
                    " wanted.key = seat WHERE game = ? AND lineup = ? AND status != 'failed'"
                    " AND version != wanted.value",
                    (json.dumps(versions), games[game], json.dumps(lineup, separators=(",", ":"))),
                ).fetchone()
                count += found
    return count
