"""Results files of random games, without models."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arena.games.game import CHANCE, Game, State
from arena.results.rows import EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena.results.store import Store
from arena_llm.types import to_picousd

GAMES = (
    *("tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker", "matrix_pd", "matrix_mp"),
    *("matrix_rps", "hex(board_size=5)", "breakthrough(rows=6,columns=6)", "liars_dice", "chess"),
)

#: Replaces the row of a turn, for example by the answers of a scripted model.
Rewrite = Callable[[MoveRow], Sequence[MoveRow]]


@dataclass(frozen=True, slots=True)
class Played:
    """An episode and its moves."""

    row: EpisodeRow
    moves: tuple[MoveRow, ...]


def play(
    game: str, agents: Sequence[str], number: int = 0, rewrite: Rewrite | None = None
) -> Played:
    """One finished episode of random moves; agents in seat order.

    rewrite: gets each agent's row and returns the rows to store instead.
    """
    name = f"{game}/{number}/{'/'.join(agents)}"
    rng = random.Random(name)  # noqa: S311 - a game, not a secret
    loaded = Game.load(game)
    state = loaded.new()
    moves: list[MoveRow] = []
    ply = 0
    while not state.is_terminal:
        for turn in _turns(state, name, ply, agents, rng):
            moves += rewrite(turn) if rewrite and turn.seat != CHANCE else [turn]
        state.apply(
            {row.seat: row.action for row in moves if row.ply == ply and row.action is not None}
        )
        ply += 1
    row = EpisodeRow(
        episode=name,
        game=loaded.spec,
        number=number,
        agents=tuple(agents),
        seed=number,
        status="finished",
        returns=state.returns(),
        plies=ply,
    )
    return Played(row, tuple(moves))


def _turns(
    state: State, episode: str, ply: int, agents: Sequence[str], rng: random.Random
) -> list[MoveRow]:
    board = state.board()
    if state.is_chance:
        drawn = state.draw_chance(rng)
        row = MoveRow(episode, ply, CHANCE, 0, "ok", action=drawn.action, action_text=drawn.text)
        return [replace(row, board=board)]
    rows = []
    for seat in state.players_to_move():
        legal = state.legal_actions(seat)
        chosen = rng.choice(legal)
        rows.append(
            MoveRow(
                episode=episode,
                ply=ply,
                seat=seat,
                attempt=0,
                agent=agents[seat],
                status="ok",
                action=chosen.action,
                action_text=chosen.text,
                legal_actions=legal,
                board=board,
            )
        )
    return rows


def asked(row: MoveRow, **changes: Any) -> MoveRow:
    """The row as a language model's answer. changes: values of further columns."""
    rng = random.Random(f"{row.episode}{row.ply}{row.seat}{row.attempt}")  # noqa: S311 - not a secret
    legal = ", ".join(text for _, text in row.legal_actions or ())
    answer = replace(
        row,
        model=row.agent,
        prompt=f"user: The position is\n{row.board}\nYour legal actions: {legal}",
        reply=f'{{"reasoning": "{row.action_text} looks best", "action": "{row.action_text}"}}',
        reasoning=f"{row.action_text} looks best",
        latency_ms=round(rng.lognormvariate(6, 0.6), 3),
        prompt_tokens=rng.randrange(150, 400),
        completion_tokens=rng.randrange(10, 60),
        reasoning_tokens=0,
        cost_picousd=to_picousd(round(rng.uniform(0.0001, 0.0009), 6)),
    )
    return replace(answer, **changes)


def write(path: Path, played: Sequence[Played], types: Mapping[str, str] | None = None) -> Path:
    """Write a results file.

    types: the agents' types; by default llm if the name has an underscore, else random.
    """
    names = sorted({agent for found in played for agent in found.row.agents} | set(types or {}))
    models = [
        ModelRow(name, kind, name if kind == "llm" else None, "{}")
        for name in names
        for kind in [(types or {}).get(name, "llm" if "_" in name else "random")]
    ]
    with Store(path, ExperimentRow("test", "{}"), models) as store:
        for found in played:
            store.put_episode(found.row, found.moves)
    return path
