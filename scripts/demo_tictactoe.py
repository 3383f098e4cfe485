"""One game of tic-tac-toe: a language model, which may only make legal moves, as x
against a random player as o. The system must be up (`make demo` starts it).
"""

from __future__ import annotations

import argparse
import random

import pyspiel

from arena_llm import Client

MODEL = "hf_smollm2-135m-instruct"
PLAYERS = (f"x ({MODEL})", "o (random)")

PROMPT = """We play tic-tac-toe. The cells are numbered
0 1 2
3 4 5
6 7 8
The board, with . for an empty cell:
{board}
You are x. Free cells: {free}. Answer with the number of the cell that you take."""


def ask(llm: Client, state: pyspiel.State, game: str) -> int:
    """The model's move: one of the legal actions, by constraint."""
    legal = [str(action) for action in state.legal_actions()]
    prompt = PROMPT.format(board=state, free=", ".join(legal))
    return int(llm.generate(MODEL, prompt, choices=legal, temperature=0, session=game).text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the random player")
    seed = parser.parse_args().seed
    chance = random.Random(seed)  # noqa: S311 - a player, not a secret
    state = pyspiel.load_game("tic_tac_toe").new_initial_state()
    with Client() as llm:
        while not state.is_terminal():
            player = state.current_player()
            legal = state.legal_actions()
            action = chance.choice(legal) if player else ask(llm, state, f"demo-{seed}")
            state.apply_action(action)
            print(f"{PLAYERS[player]} takes {action}\n{state}\n", flush=True)
    result = state.returns()[0]
    print("draw" if result == 0 else f"{PLAYERS[0 if result > 0 else 1]} wins")


if __name__ == "__main__":
    main()
