"""Playthroughs: random episodes with rules, positions, legal actions, boards and returns."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from arena.agents.prompt import list_legal_actions
from arena.games.game import CHANCE, Game, State
from tests.support.game_turns import turn_in

#: File name to game, seed, and the number of plies after which the playthrough stops.
GAMES: Mapping[str, tuple[str, int, int]] = {
    "backgammon": ("backgammon", 1, 6),
    "breakthrough": ("breakthrough(rows=6,columns=5)", 316, 14),
    "breakthrough_8x8": ("breakthrough", 1, 2),
    "chess": ("chess", 1, 8),
    "chess960": ("chess(chess960=true)", 1, 3),
    "connect_four": ("connect_four", 1, 6),
    "connect_four_12_columns": ("connect_four(rows=4,columns=12,x_in_row=3)", 31, 99),
    "go": ("go(board_size=5)", 1, 5),
    "goofspiel": ("goofspiel(num_cards=4)", 1, 99),
    "hex": ("hex(board_size=3)", 2, 99),
    "hex_12x7": ("hex(num_rows=12,num_cols=7)", 1, 4),
    "hex_swap": ("hex(board_size=3,swap=true)", 3, 4),
    "kuhn_poker": ("kuhn_poker", 14, 99),
    "kuhn_poker_3_players": ("kuhn_poker(players=3)", 10, 99),
    "leduc_poker": ("leduc_poker", 105, 99),
    "leduc_poker_3_players": ("leduc_poker(players=3,starting_player=2)", 301, 99),
    "leduc_poker_mapping": ("leduc_poker(action_mapping=true,suit_isomorphism=true)", 14, 99),
    "liars_dice": ("liars_dice(numdice=2)", 325, 99),
    "liars_dice_reset_quantity": ("liars_dice(dice_sides=4,bidding_rule=reset-quantity)", 1, 99),
    "matching_pennies": ("matching_pennies", 1, 99),
    "matrix_pd": ("matrix_pd", 2, 99),
    "matrix_rps": ("matrix_rps", 3, 99),
    "nim": ("nim", 1, 5),
    "phantom_ttt": ("phantom_ttt", 6, 7),
    "repeated_game": ("repeated_game(stage_game=matrix_pd(),num_repetitions=3)", 1, 99),
    "tic_tac_toe": ("tic_tac_toe", 4, 99),
}


def write_playthrough(spec: str, seed: int, plies: int) -> str:
    """The text of a random episode, up to a number of plies."""
    lines = "\n".join(_lines(Game.load(spec), seed, plies)).split("\n")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _lines(game: Game, seed: int, plies: int) -> Iterator[str]:
    rng = random.Random(seed)  # noqa: S311 - a game, not a secret
    state = game.new()
    yield f"=== {game.title}: {game.spec}, seed {seed}"
    yield game.text.rules
    for ply in range(plies):
        if state.is_terminal:
            break
        yield from ("", f"--- ply {ply}")
        if state.is_chance:
            drawn = state.draw_chance(rng)
            yield f"* chance: {drawn.text}"
            state.apply({CHANCE: drawn.action})
            continue
        actions = {}
        seats = state.players_to_move()
        if state.board() not in game.text.position(state, seats[0]):
            yield state.board()
        for seat in seats:
            yield from (f"- for player {seat}", _view(game, state, seat))
            action = rng.choice(state.legal_actions(seat))
            yield f"* player {seat}: {action.text}"
            actions[seat] = action.action
        state.apply(actions)
    yield from ("", "--- the end" if state.is_terminal else "--- the playthrough stops here")
    yield from (state.board(), f"Returns: {', '.join(map(str, state.returns()))}")


def _view(game: Game, state: State, seat: int) -> str:
    """The part of a prompt that changes from turn to turn."""
    text = game.text
    legal = list_legal_actions(turn_in(game, state, seat), quoted=True)
    return f"{text.side(seat)}\n{text.position(state, seat)}\nLegal actions: {legal}"
