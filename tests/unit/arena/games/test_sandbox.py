"""Games that end their process, or never end, cost a check and nothing else."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from arena.games.game import GameError
from arena.games.sandbox import Outcome, Sandbox, outcome_of

pytestmark = pytest.mark.integration  # starts processes

PLAYED = ("matrix_pd", [{0: 0, 1: 1}])

#: Takes minutes to begin.
SLOW = "blotto(coins=1000,fields=900)"

#: Ends its process by a signal.
CRASHES = "universal_poker(numPlayers=10)"


def test_it_answers_as_the_function_does() -> None:
    cases = [PLAYED, ("matrix_pd", []), ("matrix_pd", [{0: 7}]), ("no_game", [])]
    with closing(Sandbox()) as sandbox:
        for case in cases:
            assert sandbox.outcome_of(*case) == outcome_of(*case)
        assert sandbox.outcome_of(*PLAYED).returns == (0.0, 10.0)


def test_when_its_process_ends_the_next_game_is_played() -> None:
    with closing(Sandbox()) as sandbox:
        sandbox.outcome_of(*PLAYED)
        sandbox._process.kill()
        lost = Outcome("OpenSpiel ended its process")
        assert sandbox.outcome_of("tic_tac_toe", []) == lost
        assert sandbox.outcome_of(*PLAYED).ended
        assert sandbox.outcome_of("tic_tac_toe", []) == lost, "it is not tried again"


def test_a_game_that_takes_too_long_is_given_up() -> None:
    with closing(Sandbox(seconds=0.1)) as sandbox:
        assert sandbox.outcome_of(SLOW, []).problem == "OpenSpiel took more than 0.1 seconds"


def test_a_game_is_tried_before_it_is_loaded() -> None:
    """Only one with parameters that could do harm."""
    with closing(Sandbox()) as sandbox:
        assert sandbox.load("hex(board_size=4)", {}).spec == "hex(board_size=4)"
        assert sandbox._process is None
        assert sandbox.load("nim", {"pile_sizes": "1;2"}).spec == "nim(pile_sizes=1;2)"
        assert sandbox._process is not None
        with pytest.raises(GameError, match=f"^game {re.escape(CRASHES)}: OpenSpiel ended its"):
            sandbox.load(CRASHES, {})
        with pytest.raises(GameError, match=r"^game nim: Could not parse size 'x' of"):
            sandbox.load("nim", {"pile_sizes": "1;x"})
    slow = pytest.raises(GameError, match=f"^game {re.escape(SLOW)}: OpenSpiel took more than")
    with closing(Sandbox(seconds=0.1)) as sandbox, slow:
        sandbox.load("blotto", {"coins": 1000, "fields": 900})


def test_after_three_lost_processes_no_more_games_are_tried() -> None:
    with closing(Sandbox(seconds=0.0)) as sandbox:
        for players in range(2, 5):
            assert "took more" in sandbox.outcome_of(f"kuhn_poker(players={players})", []).problem
        assert "too many games" in sandbox.outcome_of(*PLAYED).problem


def test_a_game_that_takes_all_memory_is_a_problem() -> None:
    with closing(Sandbox()) as sandbox:
        assert sandbox.outcome_of("nim(pile_sizes=1;999999999)", []).problem
        assert sandbox.outcome_of(*PLAYED).ended
