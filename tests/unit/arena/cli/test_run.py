"""arena run, report and export against a backend that plays."""

from __future__ import annotations

import csv
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.playing_service import Player
from tests.support.results import content
from tests.support.waiting import eventually

EXPERIMENT = """
name: small
games: [tic_tac_toe, kuhn_poker, matrix_rps]
models: [hf_a, hf_b]
opponents: {random: {type: random}}
"""


@pytest.fixture
def run(arena, player: Player, tmp_path: Path):
    """Runs an experiment against the player; its results are small.sqlite."""

    def command(text: str, *arguments: object):
        (tmp_path / "experiment.yaml").write_text(text)
        return arena(
            *("run", "--config", "experiment.yaml", "--target", player.address),
            *("--results", "small.sqlite", *arguments),
        )

    return command


def rows(query: str, path: str | Path = "small.sqlite") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def ended(path: Path) -> object:
    """The number of episodes in the results of a running process."""
    with suppress(sqlite3.OperationalError):  # the file has just been created
        return path.exists() and rows("SELECT count(*) FROM episodes", path)[0][0]


def test_an_experiment_end_to_end(run, arena, player: Player) -> None:
    done = run(EXPERIMENT)
    assert done.code == 0, done.err
    assert "2 of 2 models can run" in done.err.splitlines()
    summary = done.out.splitlines()
    assert summary[0] == "12 episodes: 12 finished"
    ((answers, tokens),) = rows(
        "SELECT sum(calls), sum(prompt_tokens + completion_tokens) FROM seats"
    )
    assert summary[1] == (
        f"0.0 % of this run's {answers} answers illegal, {tokens:,} tokens, ${answers / 100:.2f}"
    )
    assert "small.sqlite" in summary[2]

    asked = player.asked()
    again = run(EXPERIMENT)
    assert (again.code, again.out.splitlines()[0]) == (0, summary[0])
    assert again.out.splitlines()[1].startswith(f"{tokens:,} tokens, $"), "no share of 0 answers"
    assert player.asked() == asked, "all episodes have a result"

    report = arena("report", "small.sqlite")
    assert report.code == 0
    assert "12 episodes (12 finished, 0 forfeited, 0 failed)" in report.out
    assert report.out.endswith("page: small.html\n")
    assert "<html" in Path("small.html").read_text()

    exported = arena("export", "small.sqlite")
    assert exported.code == 0
    assert "small/episodes.csv" in exported.out.splitlines()
    with Path("small/episodes.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12
    assert (
        "tables/moves.parquet"
        in arena("export", "small.sqlite", "--format", "parquet", "--to", "tables").out.splitlines()
    )


def test_failed_episodes(run) -> None:
    """They have a row with the reason, the exit code is 1, and the next run repeats them."""
    done = run(EXPERIMENT.replace("hf_b", "hf_down"))
    assert done.code == 1
    reason = "UNAVAILABLE UPSTREAM_UNAVAILABLE: the provider is down"
    assert done.err.count(f"an episode failed: {reason}") == 1
    summary = done.out.splitlines()
    assert summary[0] == "12 episodes: 6 failed, 6 finished"
    assert f"6 failed: {reason}" in done.out
    assert "the same command plays the failed episodes again" in done.out.splitlines()
    found = rows(
        "SELECT DISTINCT id IN (SELECT episode FROM seats JOIN players ON player = players.id"
        " WHERE model = 'hf_down'), reason NOT NULL, status FROM episodes"
    )
    assert sorted(found) == [(0, 0, "finished"), (1, 1, "failed")]
    again = run(EXPERIMENT.replace("hf_b", "hf_down"))
    assert (again.code, again.out.splitlines()[0]) == (1, summary[0])


def test_illegal_replies(run) -> None:
    done = run(EXPERIMENT.replace("hf_a, hf_b", "hf_illegal") + "on_illegal: retry 2\n")
    assert done.code == 0, "that is a result, not a failure"
    assert done.out.splitlines()[0] == "6 episodes: 6 forfeited"
    assert done.out.splitlines()[1].startswith("100.0 % of this run's 18 answers illegal, ")
    assert rows("SELECT DISTINCT status, loser NOT NULL FROM episodes") == [("forfeited", 1)]


def test_truncated_games(run, arena, player: Player) -> None:
    """They are results with the returns so far, and are not played again."""
    chess = "name: small\ngames: [{name: chess, max_plies: 2}]\nmodels: [hf_a, hf_b]\n"
    done = run(chess)
    assert (done.code, done.out.splitlines()[0]) == (0, "2 episodes: 2 truncated")
    found = rows("SELECT DISTINCT status, reason, returns, plies FROM episodes")
    assert found == [("truncated", "max_plies: not over after 2 plies", "[0.0,0.0]", 2)]
    asked = player.asked()
    assert run(chess).code == 0
    assert player.asked() == asked
    report = arena("report", "small.sqlite").out
    assert "2 episodes (0 finished, 2 truncated, 0 forfeited, 0 failed)" in report
    assert "OpenSpiel confirms 2 of 2 results" in report
    assert "2 of 2 episodes stopped at max_plies." in Path("small.html").read_text()


def test_a_model_that_cannot_run(run, player: Player) -> None:
    asked = player.asked()
    done = run(EXPERIMENT.replace("hf_b", "hf_nokey"))
    assert (done.code, done.out) == (1, "")
    assert [line.split() for line in done.err.splitlines()] == [
        ["MODEL", "BACKEND", "STATUS", "USD", "PER", "MILLION", "TOKENS", "DETAIL"],
        [
            "hf_nokey",
            "hf",
            "fail",
            "0",
            "API_KEY_MISSING:",
            "set",
            "THE_KEY",
            "(in",
            "models[1])",
        ],
        ["1", "of", "2", "models", "can", "run"],
    ]
    assert not list(Path().glob("small*"))
    assert player.asked() == asked

    lenient = run(EXPERIMENT.replace("hf_b", "hf_nokey"), "--lenient")
    assert "assumed to be valid, but API_KEY_MISSING" in lenient.err
    assert lenient.out.splitlines()[0] == "12 episodes: 6 failed, 6 finished"


def test_a_backend_that_cannot_score(run, player: Player) -> None:
    asked = player.asked()
    done = run(EXPERIMENT.replace("hf_b", "{name: hf_b, reply: score}"))
    assert (done.code, done.out) == (1, "")
    assert "UNSUPPORTED: reply: score needs probabilities, which the backend hf" in done.err
    assert "(in models[1])" in done.err
    assert not list(Path().glob("small*"))
    assert player.asked() == asked


@pytest.mark.usefixtures("quick_refusal")
def test_no_router(run) -> None:
    done = run(EXPERIMENT, "--target", "127.0.0.1:1")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("arena: UNREACHABLE: ")
    assert done.err.count("\n") == 1
    assert not list(Path().glob("small*"))


def test_an_experiment_without_models_needs_no_router(arena, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(
        "games: [tic_tac_toe]\nagents: {a: {type: minimax, depth: 9}, b: {type: random}}"
    )
    done = arena("run", "--config", "plain.yaml")
    assert done.code == 0, done.err
    assert "results/arena.sqlite" in done.out
    assert (tmp_path / "results/arena.sqlite").exists()


def test_record_and_replay(run, arena, player: Player, tmp_path: Path) -> None:
    """With a model that fails, a model with illegal replies, and no backend for the replay."""
    text = EXPERIMENT.replace("hf_b", "hf_illegal, hf_down")
    assert run(text, "--record", "record").code == 1
    replay = ("run", "--config", "experiment.yaml", "--replay", "record", "--results")
    for name in ("one", "two"):
        done = arena(*replay, f"{name}.sqlite")
        assert done.code == 1, "the recorded failures are repeated"
        assert done.out.startswith("18 episodes: 6 failed, 6 finished, 6 forfeited\n")
    assert content(Path("one.sqlite")) == content(Path("two.sqlite"))
    assert content(Path("one.sqlite")) == content(Path("small.sqlite"))

    # A replay spends nothing, so the budget does not apply.
    (tmp_path / "experiment.yaml").write_text(text + "max_cost_usd: 0.01\n")
    assert arena(*replay, "bound.sqlite").out.startswith("18 episodes: 6 failed, 6 finished, 6 f")

    # Another experiment makes other requests.
    (tmp_path / "experiment.yaml").write_text(text + "temperature: 0.5\n")
    done = arena(*replay, "three.sqlite")
    assert (done.code, done.out) == (2, "")
    assert "arena: record: the call of " in done.err
    assert '+  "temperature": 0.5' in done.err


def test_budget(run) -> None:
    done = run(EXPERIMENT + "max_cost_usd: 0.2\nepisodes_in_flight: 1")
    assert done.code == 1
    assert "of max_cost_usd is used" in done.err
    assert "the budget is spent: $0.20 of max_cost_usd 0.2: no further calls are made" in done.err
    assert "not played" in done.out.splitlines()[0]
    assert "$0.20" in done.out.splitlines()[1]
    assert "0.2; with a higher limit the same command continues" in done.out
    assert run(EXPERIMENT + "max_cost_usd: 2").code == 0


@pytest.mark.integration
async def test_an_interrupted_run_continues(player: Player, tmp_path: Path) -> None:
    """After Ctrl-C while a model does not answer, stored replies are not requested again."""
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT.replace("hf_b", "hf_held"))
    command = (sys.executable, "-m", "arena.cli", "run", "--config", "experiment.yaml")

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--target", player.address],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    player.hold()
    before = player.asked()
    with begin() as running:
        await eventually(lambda: ended(tmp_path / "results/arena.sqlite") == 6)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert (running.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        "arena: interrupted: everything played so far is saved; the same command continues"
    )
    player.release()
    with begin() as again:
        out, err = again.communicate()
    assert again.returncode == 0, err
    assert out.startswith("12 episodes: 12 finished\n")
    twice = [call for call, count in (player.asked() - before).items() if count > 1]
    assert [call.split()[0] for call in twice] == ["hf_held"] * 6, "only calls without a reply"
