"""The replays inside the page: small enough to be mailed, whole enough to be read.

Episodes are put together into parts of half a megabyte, each compressed by gzip (prompts
of one game repeat each other nearly to the letter) and written in base64. The browser
decompresses the part of the episode that is looked at, by its own DecompressionStream.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from arena.report.load import Results
from arena.report.outcomes import outcome
from arena.report.summary import Summary
from arena.results.rows import PLAYED, MoveRow

#: Uncompressed characters of a part.
PART = 500_000
#: Characters of the parts in the page: beyond the first, episodes have no prompts,
#: replies and reasoning; beyond the second, no moves.
WHOLE, BRIEF = 32_000_000, 48_000_000
#: Characters of one text; what is over is cut out of its middle.
TEXT, TAIL = 20_000, 4_000


@dataclass(slots=True)
class Embedded:
    """parts: base64 of gzip of JSON lists of episodes. index: what the page's list shows.

    brief, absent: how many episodes had to do without texts, and without moves.
    """

    parts: list[str] = field(default_factory=list)
    index: dict[str, Any] = field(default_factory=dict)
    brief: int = 0
    absent: int = 0


def embed(
    results: Results, summary: Summary, part: int = PART, whole: int = WHOLE, brief: int = BRIEF
) -> Embedded:
    """All episodes, the first ones of each game and line-up before the others."""
    embedded = Embedded()
    agents = {agent: place for place, agent in enumerate(summary.participants)}
    games = {game: place for place, game in enumerate(summary.games)}
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

    for episode in sorted(results.episodes, key=lambda row: (row.number, row.game, row.episode)):
        entry = {
            "id": episode.episode,
            "game": games[episode.game],
            "number": episode.number,
            "agents": [agents[agent] for agent in episode.agents],
            "status": episode.status,
            "reason": clip(episode.reason),
            "outcomes": [outcome(episode, seat) for seat in range(len(episode.agents))],
            "returns": episode.returns if episode.status in PLAYED else None,
            "plies": episode.plies,
            "loser": episode.loser,
        }
        episodes.append(entry)
        if size >= brief:
            embedded.absent += 1
            continue
        moves = results.moves(episode.episode)
        bad = [move.seat for move in moves if move.status in ("illegal", "unparseable")]
        entry["bad"] = [bad.count(seat) for seat in range(len(episode.agents))] if bad else None
        full = size < whole
        embedded.brief += not full
        final = summary.replays.get(episode.episode)
        data = {
            "steps": [_step(move, full) for move in moves],
            "board": final and clip(final.board),
            "problem": final and clip(final.problem),
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
    """A text of bounded length, which says what is left out."""
    if text is None or len(text) <= TEXT:
        return text
    left = f"[… {len(text) - TEXT:,} characters are left out here; the results file has them …]"
    return f"{text[: TEXT - TAIL]}\n\n{left}\n\n{text[-TAIL:]}"


def _step(move: MoveRow, full: bool) -> dict[str, Any]:
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
            "cost": move.cost_usd,
        }
        | (texts if full else {})
    )


def _tokens(move: MoveRow) -> Sequence[int] | None:
    tokens = (move.prompt_tokens, move.completion_tokens, move.reasoning_tokens)
    return None if tokens[0] is None and tokens[1] is None else [count or 0 for count in tokens]


def _compact(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != ""}
