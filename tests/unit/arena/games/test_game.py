"""Loading games by name, and positions that refuse illegal actions."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyspiel
import pytest

from arena.games.game import CHANCE, Game, GameError
from arena.games.parameters import TEXTS
from arena.games.sandbox import Sandbox
from arena.games.text import GameText, measured_playouts
from arena.games.text.wrapped import WrappedText
from arena.plugins import find_offered
from tests.support.game_turns import reach


@pytest.mark.parametrize(
    ("name", "params", "ours", "spec"),
    [
        ("tic_tac_toe", None, "tic_tac_toe", "tic_tac_toe"),
        ("hex", {"board_size": 5}, "hex", "hex(board_size=5)"),
        ("hex(board_size=5)", {}, "hex", "hex(board_size=5)"),
        ("hex(board_size=5)", {"swap": True}, "hex", "hex(board_size=5,swap=True)"),
        ("matching_pennies", None, "matching_pennies", "matrix_mp"),
        ("matrix_mp", None, "matching_pennies", "matrix_mp"),
        ("python_tic_tac_toe", None, "python_tic_tac_toe", "python_tic_tac_toe"),
        (
            "kriegspiel",
            {"fen": "k7/8/8/8/8/8/8/K7 w - - 0 1"},
            "kriegspiel",
            "kriegspiel(fen=k7/8/8/8/8/8/8/K7 w - - 0 1)",
        ),
        (
            "repeated_game(stage_game=matrix_pd(),num_repetitions=3)",
            None,
            "repeated_game",
            "repeated_game(num_repetitions=3,stage_game=matrix_pd())",
        ),
    ],
)
def test_a_spec_loads_the_same_game_again(
    name: str, params: dict[str, object] | None, ours: str, spec: str
) -> None:
    game = Game.load(name, params)
    assert (game.name, game.spec) == (ours, spec)
    assert Game.load(game.spec).spec == spec


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        (
            "tic_tac_to",
            {},
            "'tic_tac_to': OpenSpiel has no game with this name; did you mean tic_tac",
        ),
        ("matching_penny", {}, "did you mean matching_pennies"),
        ("", {}, "is not the name of a game"),
        ("hex(", {}, "Missing closing bracket"),
        ("hex", {"bord": 3}, "'bord' is unknown; the parameters are: board_size"),
        ("matrix_pd", {"x": 1}, "'x' is unknown; the parameters are: none"),
        ("hex", {"board_size": "3"}, "'board_size' must be of type int, not '3' (default: 11)"),
        ("hex", {"swap": 1}, "'swap' must be of type bool"),
        ("kuhn_poker", {"players": True}, "'players' must be of type int"),
        ("kuhn_poker", {"players": 11}, "'players' must be at least 2 and at most 10, not 11"),
        # OpenSpiel would crash the process, or never return.
        ("connect_four", {"rows": 0}, "'rows' must be at least 1 and at most 50, not 0"),
        ("connect_four(rows=-1)", {}, "'rows' must be at least 1"),
        ("go", {"board_size": 0}, "'board_size' must be at least 2 and at most 19, not 0"),
        ("misere(game=connect_four(rows=0))", {}, "misere.game: parameter 'rows'"),
        ("dots_and_boxes", {"num_rows": 100_000}, "at most 20, not 100000"),
        ("go", {"handicap": 2**31}, "at most 9, not 2147483648"),
        ("oware", {"num_seeds_per_house": 2**31}, "at most 1000, not 2147483648"),
        ("oware", {"num_seeds_per_house": 10**30}, "at most 1000"),
        ("go", {"komi": float("inf")}, "'komi' must be a finite number"),
        ("kuhn_poker(" + "x" * 10_000, {}, "is longer than 10,000 characters"),
        ("misere(game=" * 800, {}, "Missing closing bracket"),
        ("dark_chess", {"fen": "x"}, "'fen' is not a chess position in FEN: 'x'"),
        ("dark_chess", {"fen": "k7/8/8/8/8/8/8/8 w - - 0 1"}, "is not a chess position"),
        ("rbc", {"fen": "k8/8/8/8/8/8/8/K7 w - - 0 1"}, "is not a chess position"),
        ("python_hangman", {"word_list_file": "/dev/null"}, "may name a file"),
        ("bargaining(instances_file=/dev/null)", {}, "may name a file"),
        ("efg_game", {"filename": "/dev/null"}, "'filename' may name a file"),
        ("misere(game=nfg_game(filename=/dev/null))", {}, "misere.game: parameter 'filename'"),
        ("zerosum(game=misere(game=efg_game(filename=x)))", {}, "zerosum.game.game: parameter"),
        ("hex", {"board_size": 1}, "at least 2"),
        ("hex", {"num_cols": 27}, "at most 26"),
        ("hex", {"num_cols": 3, "num_rows": 4, "swap": True}, "'swap' needs a square board"),
        ("hex", {"string_rep": "explicit"}, "'string_rep' must be standard"),
        ("breakthrough", {"rows": 10}, "at most 9"),
        ("leduc_poker", {"starting_player": 2}, "'starting_player' must be the number of a player"),
        ("liars_dice", {"bidding_rule": "x"}, "bidding_rule_str"),
        ("go", {"board_size": 50}, "at most 19"),
        ("mfg_garnet", {}, "mean field"),
        ("tarok", {}, "draws its own chance events"),
        ("crossword", {}, "LegalActions unimplemented"),
    ],
)
def test_an_unplayable_game_is_refused_with_its_name_and_the_reason(
    name: str, params: dict[str, object], words: str
) -> None:
    with pytest.raises(GameError) as caught:
        Game.load(name, params)
    message = str(caught.value)
    assert words in message
    assert message.startswith("game ")
    assert "\n" not in message


@pytest.mark.parametrize("name", measured_playouts())
def test_measured_playouts_are_of_existing_games(name: str) -> None:
    game = Game.load(name)
    assert game.raw.get_type().short_name == name
    assert game.players == measured_playouts()[name].players


def test_each_game_with_its_own_text_has_a_measured_playout() -> None:
    names = [name for kind in GameText.__subclasses__() for name in kind.games]
    assert len(names) == len(set(names)) >= 20
    assert set(names) - set(WrappedText.games) <= measured_playouts().keys()


def test_a_game_knows_its_kind() -> None:
    kinds = {
        name: (game.players, game.simultaneous, game.perfect_information, game.deterministic)
        for name in ("chess", "kuhn_poker(players=3)", "matching_pennies", "backgammon")
        for game in [Game.load(name)]
    }
    assert kinds == {
        "chess": (2, False, True, True),
        "kuhn_poker(players=3)": (3, False, False, False),
        "matching_pennies": (2, True, False, True),
        "backgammon": (2, False, True, False),
    }


def test_players_take_turns_and_chance_and_the_end_have_no_player() -> None:
    state = Game.load("kuhn_poker").new()
    seen = []
    for action in (2, 0, 1, 0):
        seen.append((state.is_chance, state.players_to_move()))
        state.apply({(CHANCE if state.is_chance else state.players_to_move()[0]): action})
    assert seen == [(True, ()), (True, ()), (False, (0,)), (False, (1,))]
    assert (state.is_terminal, state.players_to_move()) == (True, ())
    assert state.returns() == (1.0, -1.0)
    assert [(move.seat, move.text) for move in state.history] == [
        (CHANCE, "Deal:2"),
        (CHANCE, "Deal:0"),
        (0, "Bet"),
        (1, "Pass"),
    ]


def test_simultaneous_moves_are_applied_together() -> None:
    state = Game.load("matrix_pd").new()
    assert state.players_to_move() == (0, 1)
    assert [action.text for action in state.legal_actions(1)] == ["Cooperate", "Defect"]
    state.apply({1: 0, 0: 1})
    assert state.returns() == (10.0, 0.0)
    assert [(move.seat, move.text) for move in state.history] == [(0, "Defect"), (1, "Cooperate")]


@pytest.mark.parametrize(
    ("spec", "played", "actions", "words"),
    [
        ("tic_tac_toe", [4], {1: 4}, "seat 1 may not play 4"),
        ("tic_tac_toe", [4], {0: 0}, r"seats \[0\] do not move now, but \[1\] do"),
        ("tic_tac_toe", [], {0: 0, 1: 1}, r"seats \[0, 1\] do not move now"),
        ("tic_tac_toe", [], {}, r"seats \[\] do not move now"),
        ("tic_tac_toe", [0, 3, 1, 4, 2], {1: 5}, "do not move now"),
        ("matrix_pd", [], {0: 0}, r"but \[0, 1\] do"),
        ("matrix_pd", [], {0: 0, 1: 2}, "seat 1 may not play 2"),
        ("kuhn_poker", [0], {CHANCE: 0}, "seat -1 may not play 0"),
        ("kuhn_poker", [0], {0: 1}, r"but \[-1\] do"),
    ],
)
def test_a_position_refuses_illegal_actions_and_does_not_change(
    spec: str, played: list[int], actions: dict[int, int], words: str
) -> None:
    state = reach(Game.load(spec), played)
    before = (str(state), list(state.history))
    with pytest.raises(ValueError, match=words):
        state.apply(actions)
    assert (str(state), state.history) == before


def test_chance_follows_its_probabilities_and_its_seed() -> None:
    # With isomorphic suits, one card of the dealt rank is left among the 5 remaining cards.
    state = reach(Game.load("leduc_poker(suit_isomorphism=true)"), [0])
    rng = random.Random(3)  # noqa: S311 - a game, not a secret
    drawn = [state.draw_chance(rng).action for _ in range(5000)]
    share = {action: count / len(drawn) for action, count in Counter(drawn).items()}
    assert share == pytest.approx({0: 0.2, 1: 0.4, 2: 0.4}, abs=0.03)
    again = random.Random(3)  # noqa: S311 - a game, not a secret
    assert [state.draw_chance(again).action for _ in range(5000)] == drawn
    assert len(state.history) == 1  # drawing does not apply the outcome


def test_no_return_is_a_negative_zero() -> None:
    state = Game.load("hex").new()
    assert str(state.raw.returns()[1]) == "-0.0"
    assert [str(value) for value in state.returns()] == ["0.0", "0.0"]


def test_every_string_parameter_is_known_as_a_value_or_a_file() -> None:
    """A new version of OpenSpiel may add parameters that name files. They are refused until
    somebody adds them to TEXTS."""
    files = {"filename", "instances_file", "boards_file", "puzzles_root", "word_list_file"}
    # These belong to games that the arena refuses.
    unplayed = {"network", "subgame", "forbidden_states", "positional_reward"}
    unplayed |= {"positional_reward_value", "initial_distribution", "initial_distribution_value"}
    texts = {
        name
        for kind in pyspiel.registered_games()
        for name, default in kind.parameter_specification.items()
        if isinstance(default, str)
    }
    assert texts - TEXTS == files | unplayed


def test_a_game_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has OpenSpiel's name of the game, so every process finds it by that."""
    info = tmp_path / "race-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: race\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[arena.games]\nexample_race = examples.race:Race\nbad_race = os:getcwd\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    find_offered.cache_clear()
    try:
        game = Game.load("example_race", {"goal": 7})
        assert game.spec == "example_race(goal=7)"
        assert "exactly 7 wins" in game.text.rules
        with pytest.raises(GameError, match=r"bad_race \(os:getcwd\) is not a subclass"):
            Game.load("bad_race")
        with pytest.raises(GameError, match="goal"):
            Game.load("example_race", {"goal": 3})
    finally:
        find_offered.cache_clear()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such.module:Race", "game no_such.module:Race cannot be loaded: ModuleNotFoundError"),
        ("examples.race:Nothing", "cannot be loaded: AttributeError"),
        (
            "examples.race:RaceGame(goal=7)",
            "game examples.race:RaceGame is not a subclass of arena",
        ),
        ("examples.race:Race(gaol=7)", "parameter 'gaol' is unknown; the parameters are: goal"),
        ("examples.race:Race(goal=2)", "goal"),
    ],
)
def test_a_dotted_path_that_is_no_game(name: str, says: str) -> None:
    with pytest.raises(GameError) as caught:
        Game.load(name)
    assert says in str(caught.value)


def test_a_sandbox_imports_no_game_of_a_results_file() -> None:
    with closing(Sandbox()) as sandbox:
        result = sandbox.play_actions("no_such.module:Race", [])
    assert "is not checked" in result.problem
