"""`conditions:` makes a player of each combination, and the report compares their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.agents.settings import LlmSettings
from arena.experiment.load import ExperimentError, load_experiment
from arena.report.embed import Report
from arena.report.layout import to_json
from arena.results.rows import EpisodeRow, MoveRow
from arena.results.store import Store

FILE = """
games: [{games}]
models: [{{name: hf_a, prompt: {{examples: 1}}}}, hf_b]
opponents: {{random: {{type: random}}}}
prompt: {{persona: a poet}}
conditions:
  actions: [listed, reversed]
  reply: [json, choices]
{more}
"""


def write(folder: Path, games: str = "tic_tac_toe", more: str = "") -> Path:
    path = folder / "e.yaml"
    path.write_text(FILE.format(games=games, more=more))
    return path


def test_every_model_plays_with_every_combination(tmp_path: Path) -> None:
    experiment = load_experiment(write(tmp_path))
    names = [
        f"{model} actions={actions} reply={reply}"
        for model in ("hf_a", "hf_b")
        for actions in ("listed", "reversed")
        for reply in ("json", "choices")
    ]
    assert list(experiment.participants) == [*names, "random"]
    settings = experiment.participants["hf_a actions=reversed reply=choices"]
    assert isinstance(settings, LlmSettings)
    assert (settings.model, settings.reply) == ("hf_a", "choices")
    assert settings.prompt is not None
    assert (settings.prompt.actions, settings.prompt.examples) == ("reversed", 1)
    other = experiment.participants[names[-1]]
    assert isinstance(other, LlmSettings)
    assert other.prompt is not None
    assert (other.prompt.actions, other.prompt.persona) == ("reversed", "a poet")
    (game,) = experiment.games
    assert len(game.lineups) == 2 * len(names)
    assert all("random" in lineup for lineup in game.lineups)


@pytest.mark.parametrize(
    ("games", "more", "problem"),
    [
        ("tic_tac_toe", "  temprature: [1]", "conditions: unknown key 'temprature'"),
        ("tic_tac_toe", "  examples: [1, 1]", "conditions: examples: lists a value twice"),
        ("tic_tac_toe", "  examples: []", "conditions.examples: must not be empty"),
        ("tic_tac_toe", "  board: [standard, fen]", "tic_tac_toe has the forms standard, list"),
        ("tic_tac_toe", "  reader: [loose]", "models[0].reader: must be 'lenient' or 'strict'"),
        (
            "tic_tac_toe",
            f"  examples: {list(range(9))}\n  persona: [a, b, c]",
            "108 combinations of each model; the limit is 100",
        ),
    ],
)
def test_wrong_conditions(tmp_path: Path, games: str, more: str, problem: str) -> None:
    with pytest.raises(ExperimentError) as error:
        load_experiment(write(tmp_path, games, more))
    assert problem in str(error.value)


def test_conditions_need_models(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("games: [nim]\nagents: {a: {type: random}}\nconditions: {examples: [0, 1]}\n")
    with pytest.raises(ExperimentError, match="conditions: need models:"):
        load_experiment(path)


def test_the_report_compares_conditions(tmp_path: Path) -> None:
    """hf_a wins more with reversed actions, and hf_b needs choices for legal answers."""
    experiment = load_experiment(write(tmp_path))
    path = tmp_path / "r.sqlite"
    with Store(path, experiment.row, experiment.models) as store:
        for name in experiment.participants:
            if name == "random":
                continue
            wins = 9 if name.startswith("hf_a actions=reversed") else 5
            legal = not name.startswith("hf_b") or name.endswith("choices")
            for number in range(10):
                won = 1.0 if number < wins else -1.0
                row = EpisodeRow(
                    f"{name}{number}", "tic_tac_toe", number, (name, "random"), number,
                    "finished", 1, returns=(won, -won),
                )  # fmt: skip
                answers = [MoveRow(row.episode, 0, 0, 0, "ok", name, action=number, model="m")]
                if not legal:
                    answers = [
                        MoveRow(row.episode, 0, 0, 0, "illegal", name, policy="retry", model="m"),
                        MoveRow(row.episode, 0, 0, 1, "ok", name, action=number, model="m"),
                    ]
                store.put_episode(row, answers)
    rows = {
        (row["model"], row["setting"]): row
        for row in to_json(Report.load(path).tables)["tables"]["conditions"]
    }
    better = rows["hf_a", "actions"]
    assert list(better["values"]) == ["listed", "reversed"]
    assert better["results"] == pytest.approx([0.5, 0.9])
    low, high = better["difference"]["interval"]
    assert 0 < low < better["difference"]["mean"] < high
    assert rows["hf_a", "reply"]["difference"]["mean"] == pytest.approx(0)
    assert list(rows["hf_b", "reply"]["first legal"]) == [0.0, 1.0]
    assert len(rows) == 4
