"""The sandbox survives games that crash, hang, or take all memory."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing

import pytest

from arena.games.game import GameError
from arena.games.sandbox import PlayResult, Sandbox, play_actions

pytestmark = pytest.mark.integration  # starts processes

PLAYED = ("matrix_pd", [{0: 0, 1: 1}])

#: Takes minutes to load.
SLOW = "blotto(coins=1000,fields=900)"

#: Crashes its process.
CRASHES = "universal_poker(numPlayers=10)"


def test_it_returns_the_same_as_the_function() -> None:
    cases = [PLAYED, ("matrix_pd", []), ("matrix_pd", [{0: 7}]), ("no_game", [])]
    with closing(Sandbox()) as sandbox:
        for case in cases:
            assert sandbox.play_actions(*case) == play_actions(*case)
        assert sandbox.play_actions(*PLAYED).returns == (0.0, 10.0)


def test_after_a_crash_the_next_game_is_played() -> None:
    with closing(Sandbox()) as sandbox:
        sandbox.play_actions(*PLAYED)
        sandbox._process.kill()
        lost = PlayResult("OpenSpiel ended its process")
        assert sandbox.play_actions("tic_tac_toe", []) == lost
        assert sandbox.play_actions(*PLAYED).ended
        assert sandbox.play_actions("tic_tac_toe", []) == lost, "it is not tried again"


def test_a_game_over_the_time_limit_is_a_problem() -> None:
    with closing(Sandbox(seconds=0.1)) as sandbox:
        problem = sandbox.play_actions(SLOW, []).problem
    assert problem == "OpenSpiel took more than 0.1 seconds of CPU time"


def test_time_in_which_nothing_is_computed_does_not_count() -> None:
    """On a busy machine, a report has lost its corrected returns to a limit of elapsed time."""
    with closing(Sandbox(seconds=0.1)) as sandbox:
        assert sandbox.call(subprocess.getoutput, "sleep 0.2; echo waited") == "waited"
    with closing(Sandbox(wall=0.0)) as sandbox:
        assert sandbox.play_actions(*PLAYED).problem == "OpenSpiel took more than 0 seconds"


def test_a_game_with_parameters_without_bounds_is_tried_first() -> None:
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


def test_after_three_lost_processes_all_other_games_are_refused() -> None:
    with closing(Sandbox(wall=0.0)) as sandbox:
        for players in range(2, 5):
            assert "took more" in sandbox.play_actions(f"kuhn_poker(players={players})", []).problem
        assert "too many games" in sandbox.play_actions(*PLAYED).problem


def test_a_game_over_the_memory_limit_is_a_problem() -> None:
    with closing(Sandbox(memory=2**30)) as sandbox:
        assert sandbox.play_actions("nim(pile_sizes=1;999999999)", []).problem
        assert sandbox.play_actions(*PLAYED).ended
