"""The examples run."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.cli import main
from arena.report.load import open_results

ROOT = Path(__file__).parents[3]


def test_the_example_of_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    results = tmp_path / "r.sqlite"
    assert main(["validate", "--config", "examples/corner_agent.yaml"]) == 0
    code = main(["run", "--config", "examples/corner_agent.yaml", "--results", str(results)])
    assert code == 0, capsys.readouterr()
    with open_results(results) as opened:
        moves = [
            move.action_text
            for episode in opened.episodes
            for move in opened.moves(episode)
            if move.agent == "corners" and move.ply < 2
        ]
    assert len(moves) == 20
    # It takes the centre, unless the other player has it.
    assert {text[1:] for text in moves} <= {"(1,1)", "(0,0)"}


def test_the_example_of_a_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    results = tmp_path / "r.sqlite"
    config = ("--config", "examples/race.yaml")
    assert main(["validate", *config]) == 0
    assert main(["run", *config, "--results", str(results)]) == 0, capsys.readouterr()
    with open_results(results) as opened:
        assert {episode.game for episode in opened.episodes} == {"examples.race:Race(goal=10)"}
        returns = [row.returns[row.agents.index("perfect")] for row in opened.episodes]
        actions = {
            move.action_text for episode in opened.episodes for move in opened.moves(episode)
        }
    assert len(returns) == 10
    assert actions <= {"add 1", "add 2", "add 3"}
    # The player who starts wins, if he plays perfectly.
    assert sum(returns) >= 5
    # A report imports nothing that a results file names.
    assert main(["report", str(results), "--html", str(tmp_path / "page.html")]) == 0
    out = " ".join(capsys.readouterr().out.split())  # lines are broken
    assert "is not checked, because a results file may import nothing" in out
    assert main(["verify", str(results)]) == 1
    # An experiment of one's own may.
    assert main(["verify", str(results), *config]) == 0
    assert "OpenSpiel confirms 10 of 10 results" in capsys.readouterr().out
