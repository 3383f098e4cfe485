"""Embeds the replays in the page as data, small enough to be sent by mail.

Episodes are joined into parts of half a megabyte. Each part is compressed with gzip, because
the prompts of a game are nearly equal, and encoded in base64. To show an episode, the browser
decompresses its part with DecompressionStream.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arena.report.count import REPLAYS, Summary, summarise
from arena.report.layout import Tables
from arena.report.load import Results, open_results
from arena.report.outcomes import find_outcome
from arena.report.tables import MAX_LINKS, make_tables
from arena.results.reader import Query
from arena.results.rows import PLAYED, MoveRow
from arena.solvers.episodes import JudgedMove
from arena_llm.prices import format_dollars
from arena_llm.types import FinishReason

#: Uncompressed size of a part, in characters.
PART = 500_000
#: Limits on the total size of the parts, in characters. Beyond WHOLE, episodes are embedded
#: without prompts, replies and reasoning; beyond BRIEF, without moves.
WHOLE, BRIEF = 32_000_000, 48_000_000
#: A page lists at most this many episodes.
LISTED = 10_000
#: Maximum length of a text, and of the end that is kept when its middle is cut out.
TEXT, TAIL = 20_000, 4_000


@dataclass(slots=True)
class Embedded:
    """The replays of a page.

    parts: JSON lists of episodes, compressed with gzip and encoded in base64. index: data for
    the page's list of episodes. brief, absent: number of episodes without texts, and without
    moves. unlisted: number of those that are not in the list.
    """

    parts: list[str] = field(default_factory=list)
    index: dict[str, Any] = field(default_factory=dict)
    brief: int = 0
    absent: int = 0
    unlisted: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The content of the tables and the page, from one snapshot of a results file."""

    summary: Summary
    tables: Tables
    embedded: Embedded

    @classmethod
    def load(cls, path: Path, query: Query | None = None, replays: int | None = REPLAYS) -> Report:
        """Read a results file. Raises ResultsError naming the file.

        query: reads only the episodes of an experiment. replays: of how many episodes to verify
        and embed the moves; None: of all.
        """
        with open_results(path, query) as results:
            summary = summarise(results, replays)
            return cls(summary, make_tables(summary), embed(results, summary))


def embed(
    results: Results, summary: Summary, part: int = PART, whole: int = WHOLE, brief: int = BRIEF
) -> Embedded:
    """Embed the episodes that were read, and list the others.

    Both start with the first episodes of each game and line-up. Of the others, those that the
    tables name are listed in any case. part, whole, brief: see PART, WHOLE, BRIEF.
    """
    embedded = Embedded()
    agents = {agent: number for number, agent in enumerate(summary.participants)}
    games = {game: number for number, game in enumerate(summary.games)}
    episodes: list[dict[str, Any]] = []
    waiting: list[str] = []
    size = 0

    def flush() -> None:
        nonlocal size
        if waiting:
            data = gzip.compress(f"[{','.join(waiting)}]".encode(), mtime=0)
            embedded.parts.append(base64.b64encode(data).decode())
            size += len(embedded.parts[-1])
            waiting.clear()

    read = {row.episode for row in summary.read}
    named = [key for group in summary.failures for key in group.episodes[:MAX_LINKS]]
    chosen = {row.episode: row for row in results.first(max(LISTED, len(read)))}
    for key in named:
        if key not in chosen and (row := results.reader.find(key)) is not None:
            chosen[key] = row
    embedded.unlisted = len(results.columns) - len(chosen)
    for episode in chosen.values():
        entry = {
            "id": episode.episode,
            "game": games[episode.game],
            "number": episode.number,
            "agents": [agents[agent] for agent in episode.agents],
            "status": episode.status,
            "reason": clip(episode.reason),
            "outcomes": [
                find_outcome(episode, seat, competitive=summary.is_competitive(episode.game))
                for seat in range(len(episode.agents))
            ],
            "returns": episode.returns if episode.status in PLAYED else None,
            "plies": episode.plies,
            "loser": episode.loser,
        }
        episodes.append(entry)
        if size >= brief or episode.episode not in read:
            embedded.absent += 1
            continue
        moves = results.moves(episode)
        illegal = [move.seat for move in moves if move.status in ("illegal", "unparseable")]
        if illegal:
            entry["illegal"] = [illegal.count(seat) for seat in range(len(episode.agents))]
        full = size < whole
        embedded.brief += not full
        replay = summary.replays.get(episode.episode)
        judged = summary.judged.get(episode.episode, {})
        data = {
            "steps": [_make_step(move, judged.get((move.ply, move.seat)), full) for move in moves],
            "board": replay and clip(replay.board),
            "problem": replay and clip(replay.problem),
            "brief": None if full else True,
        }
        entry["part"], entry["place"] = len(embedded.parts), len(waiting)
        waiting.append(json.dumps(_compact(data), separators=(",", ":"), allow_nan=False))
        if sum(map(len, waiting)) >= part:
            flush()
    flush()
    episodes.sort(key=lambda entry: (entry["game"], entry["number"], entry["id"]))
    embedded.index = {
        "agents": [{"name": agent, "type": summary.participants[agent].type} for agent in agents],
        "games": summary.games,
        "episodes": [_compact(entry) for entry in episodes],
    }
    return embedded


def clip(text: str | None) -> str | None:
    """Return a text. If it is longer than TEXT, a note replaces its middle."""
    if text is None or len(text) <= TEXT:
        return text
    note = f"[… {len(text) - TEXT:,} characters are left out here; see the results file …]"
    return f"{text[: TEXT - TAIL]}\n\n{note}\n\n{text[-TAIL:]}"


def _make_step(move: MoveRow, judged: JudgedMove | None, full: bool) -> dict[str, Any]:
    """Return a move as the page needs it. full: with prompt, reply and reasoning."""
    if move.status != "ok":
        judged = None
    texts = {
        "prompt": clip(move.prompt),
        "reply": clip(move.reply),
        "reasoning": clip(move.reasoning),
    }
    return _compact(
        {
            "ply": move.ply,
            "seat": move.seat,
            "attempt": move.attempt,
            "status": move.status,
            "problem": clip(move.problem),
            "policy": clip(move.policy),
            "action": move.action,
            "text": clip(move.action_text),
            "legal": move.legal_actions,
            "board": clip(move.board),
            "model": clip(move.model),
            "ms": move.latency_ms,
            "tokens": _tokens(move),
            "cost": None if move.cost_picousd is None else format_dollars(move.cost_picousd),
            "served": clip(_served(move)),
            "enforcement": clip(move.enforcement),
            "end": None if move.finish_reason == FinishReason.STOP else clip(move.finish_reason),
            "attempts": move.attempts,
            "regret": judged and judged.regret,
            "best": judged and judged.best,
        }
        | (texts if full else {})
    )


def _served(move: MoveRow) -> str:
    """Return who answered and how, as far as known."""
    known = (move.provider, move.region, move.precision, move.model_revision, move.engine)
    return ", ".join(filter(None, known))


def _tokens(move: MoveRow) -> Sequence[int | None] | None:
    tokens = (move.prompt_tokens, move.completion_tokens, move.reasoning_tokens)
    return tokens if any(count is not None for count in tokens) else None


def _compact(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without the empty ones, which the page treats like missing ones."""
    return {key: value for key, value in values.items() if value is not None and value != ""}
