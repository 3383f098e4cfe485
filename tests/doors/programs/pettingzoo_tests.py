"""PettingZoo's own tests on our games."""

import importlib.metadata
import warnings

import pettingzoo
from checks import run
from pettingzoo.test import api_test, seed_test

from arena.environments.pettingzoo import ArenaAECEnv

GAMES = (
    ("tic_tac_toe", {}),
    ("connect_four", {}),
    ("kuhn_poker(players=3)", {}),
    ("leduc_poker", {}),
    ("hex(board_size=4)", {}),
    ("matrix_pd", {}),  # both players move at the same time
    ("goofspiel(num_cards=4)", {}),
    ("blackjack", {}),
    ("tic_tac_toe", {"opponents": {0: {"type": "random"}}}),
    ("leduc_poker", {"opponents": {1: {"type": "random"}}, "max_plies": 4}),
)


def check_api_test() -> None:
    for game, options in GAMES:
        with warnings.catch_warnings():
            # A mask in a dictionary and int8 values are allowed, and warned about.
            warnings.simplefilter("ignore")
            environment = ArenaAECEnv(game, **options)
            api_test(environment, num_cycles=200, verbose_progress=False)
            environment.close()


def check_seed_test() -> None:
    for game, options in GAMES:
        seed_test(lambda game=game, options=options: ArenaAECEnv(game, **options), num_cycles=30)


def check_the_prompt_of_the_agent_to_move() -> None:
    environment = ArenaAECEnv("tic_tac_toe")
    environment.reset(seed=1)
    (role, text), *_ = environment.infos["player_0"]["messages"]
    assert role == "user"
    assert "Your goal" in text
    assert not environment.infos["player_1"]
    environment.close()


version = importlib.metadata.version("pettingzoo")
assert pettingzoo.__version__ == version
run(globals(), f"pettingzoo {version}")
