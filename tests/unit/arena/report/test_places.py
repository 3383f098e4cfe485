"""The report shows whether a model prefers a place of the list of legal actions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arena.agents.prompt import list_actions
from arena.agents.settings import PromptSettings
from arena.experiment.schedule import turn_seed
from arena.games.game import Game
from arena.report.embed import Report
from arena.report.layout import to_json
from arena.report.places import read_order
from arena.results.rows import EpisodeRow, ExperimentRow, ModelRow, MoveRow, canonical_json
from arena.results.store import Store
from tests.support.game_turns import turn_in

#: Deals that are played.
EPISODES = 12


def play(path: Path, order: str, choose: Callable[[list[str]], str]) -> None:
    """Store games of tic-tac-toe in which a model chooses by the list of its prompt."""
    prompt = PromptSettings(actions=order)  # type: ignore[arg-type]  # one of its values
    config = canonical_json({"type": "llm", "model": "hf_m", "prompt": {"actions": order}})
    players = [ModelRow("m", "llm", "hf_m", config), ModelRow("r", "random", None, "{}")]
    with Store(path, ExperimentRow("test", "{}"), players) as store:
        for number in range(EPISODES):
            game = Game.load("tic_tac_toe")
            state, moves = game.new(), []
            while not state.is_terminal:
                (seat,), ply = state.players_to_move(), len(state.history)
                turn = turn_in(game, state, seat, turn_seed(number, seat, ply))
                names = [action.name for action in list_actions(turn, prompt, quoted=False)]
                name = choose(names) if seat == 0 else names[0]
                action = next(one for one in turn.legal if one.text == name)
                moves.append(
                    MoveRow(
                        str(number),
                        ply,
                        seat,
                        0,
                        "ok",
                        "mr"[seat],
                        action=action.action,
                        action_text=name,
                        legal_actions=tuple(map(tuple, turn.legal)),
                        model=("hf_m", None)[seat],
                    )
                )
                state.apply({seat: action.action})
            row = EpisodeRow(
                str(number), "tic_tac_toe", number, ("m", "r"), number, "finished", len(moves),
                returns=state.returns(),
            )  # fmt: skip
            store.put_episode(row, moves)


def read(path: Path) -> dict[str, object]:
    (row,) = to_json(Report.load(path).tables)["tables"]["places"]
    return dict(row)


@pytest.mark.parametrize("order", ["listed", "reversed", "shuffled"])
def test_a_model_that_takes_the_first_one_is_found_in_every_order(
    tmp_path: Path, order: str
) -> None:
    play(tmp_path / "r.sqlite", order, lambda names: names[0])
    row = read(tmp_path / "r.sqlite")
    assert (row["player"], row["order"]) == ("m", order)
    assert row["first"] == {"count": row["turns"], "share": 1.0}
    assert row["first_bias"]["interval"][0] > 0.3  # type: ignore[index]
    assert row["last_bias"]["interval"][1] < 0.3  # type: ignore[index]
    assert row["depth"]["mean"] == 0  # type: ignore[index]
    places = row["by_place"]
    assert [one["chosen"] for one in places] == [row["turns"], *[0] * 8]  # type: ignore[union-attr]
    assert sum(one["expected"] for one in places) == pytest.approx(row["turns"])  # type: ignore[union-attr]


def test_shuffling_tells_a_preference_for_actions_from_one_for_places(tmp_path: Path) -> None:
    """A model that always takes the cell that the game numbers lowest has no bias of place."""
    for order in ("listed", "shuffled"):
        play(tmp_path / f"{order}.sqlite", order, min)
    listed, shuffled = (read(tmp_path / f"{order}.sqlite") for order in ("listed", "shuffled"))
    assert listed["first_bias"]["interval"][0] > 0.3  # type: ignore[index]
    low, high = shuffled["first_bias"]["interval"]  # type: ignore[index]
    assert low < 0 < high
    low, high = shuffled["depth"]["interval"]  # type: ignore[index]
    assert low < 0.5 < high


def test_the_interval_is_that_of_independent_episodes(tmp_path: Path) -> None:
    play(tmp_path / "r.sqlite", "shuffled", lambda names: names[0])
    assert read(tmp_path / "r.sqlite")["first_bias"]["units"] == EPISODES  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "config", "order"),
    [
        ("llm", "{}", "listed"),
        ("llm", '{"prompt": {"actions": "shuffled"}}', "shuffled"),
        ("llm", '{"prompt": {"actions": "hidden"}}', ""),
        ("llm", "[]", ""),
        ("random", "{}", ""),
    ],
)
def test_only_lists_of_models_have_an_order(kind: str, config: str, order: str) -> None:
    assert read_order(ModelRow("m", kind, None, config)) == order
