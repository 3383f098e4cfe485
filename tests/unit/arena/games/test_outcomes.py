"""Who wins by the rules and the last position of a prompt is who wins in OpenSpiel."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import pytest

from arena.games.game import CHANCE, Game, State


def finish(spec: str, seed: int) -> tuple[Game, State]:
    """Play a random game to its end."""
    game, rng = Game.load(spec), random.Random(seed)  # noqa: S311 - repeatable
    state = game.new()
    while not state.is_terminal:
        if state.is_chance:
            state.apply({CHANCE: state.draw_chance(rng).action})
            continue
        seats = state.players_to_move()
        state.apply({seat: rng.choice(state.legal_actions(seat)).action for seat in seats})
    return game, state


def more(values: Sequence[float]) -> float:
    """Player 0's return if the player with more wins."""
    return float((values[0] > values[1]) - (values[0] < values[1]))


def nim(game: Game, state: State) -> float:
    last = 1.0 if state.history[-1].seat == 0 else -1.0
    return -last if "takes the last object of all loses" in game.text.rules else last


def pig(game: Game, state: State) -> float:
    goal = re.search(r"whose score is (\d+) or more wins", game.text.rules)
    scores = re.search(r"player 0: (\d+), player 1: (\d+)", game.text.board(state))
    assert goal
    assert scores
    reached = [int(score) >= int(goal[1]) for score in scores.groups()]
    return float(reached[0]) - float(reached[1])


def discs(signs: str) -> Callable[[Game, State], float]:
    """Of two kinds of signs on the board, who has more."""

    def count(game: Game, state: State) -> float:
        rows = "".join(line[1:] for line in game.text.board(state).splitlines()[1:])
        return more([rows.count(signs[0]), rows.count(signs[1])])

    return count


def mancala(game: Game, state: State) -> float:
    lines = re.findall(r"^Player \d's beans: (.*)$", game.text.board(state), re.MULTILINE)
    return more([sum(int(n) for n in re.findall(r": (\d+)", line)) for line in lines])


def go(game: Game, state: State) -> float:
    """By the scoring of the rules: own stones, free points that only reach own stones, and komi."""
    rows = [line[2:].split() for line in game.text.board(state).splitlines()[1:]]
    size = len(rows)
    komi = re.search(r"White gets ([\d.]+) points more", game.text.rules)
    points = {"B": 0.0, "W": float(komi[1]) if komi else 0.0}
    seen: set[tuple[int, int]] = set()
    for start in ((row, column) for row in range(size) for column in range(size)):
        if (sign := rows[start[0]][start[1]]) != ".":
            points[sign] += 1
            continue
        region, borders, waiting = 0, set[str](), [start]
        while waiting:
            row, column = waiting.pop()
            if rows[row][column] != ".":
                borders.add(rows[row][column])
            elif (row, column) not in seen:
                seen.add((row, column))
                region += 1
                steps = ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1))
                waiting += [(r, c) for r, c in steps if 0 <= r < size and 0 <= c < size]
        if len(borders) == 1:
            points[borders.pop()] += region
    return more([points["B"], points["W"]])


def blotto(game: Game, state: State) -> float:
    one, two = ([int(n) for n in re.findall(r"\d+", p.text)] for p in state.history)
    return more([sum(a > b for a, b in zip(one, two, strict=True)),
                 sum(b > a for a, b in zip(one, two, strict=True))])  # fmt: skip


RULES: dict[str, Callable[[Game, State], float]] = {
    "nim": nim,
    "nim(is_misere=False)": nim,
    "pig": pig,
    "pig(winscore=30)": pig,
    "othello": discs("xo"),
    "mancala": mancala,
    "go(board_size=5)": go,
    "go(board_size=5,komi=0.5)": go,
    "blotto": blotto,
    "blotto(coins=5,fields=4)": blotto,
    "dots_and_boxes": lambda game, state: more(
        [game.text.board(state).splitlines()[2::2].__str__().count(f" {n} ") for n in "01"]
    ),
}


@pytest.mark.parametrize("spec", RULES)
def test_the_winner_is_that_of_the_rules(spec: str) -> None:
    winners = set()
    for seed in range(12):
        game, state = finish(spec, seed)
        repeated = spec.startswith("go") and len(state.history) < 50 and state.returns()[0] == 0
        if not repeated:  # a draw, as the rules of go say
            assert RULES[spec](game, state) == state.returns()[0], state.board()
        winners.add(state.returns()[0])
    assert {1.0, -1.0} <= winners
