"""`arena run` itself is killed again and again; the provider counts what it is asked."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.playing_service import Player
from tests.support.results import content

EXPERIMENT = """
name: killed
games: [tic_tac_toe, hex(board_size=5)]
models: [hf_a, hf_b]
episodes: 6
episodes_in_flight: 8
"""


def start(folder: Path, player: Player, results: str) -> subprocess.Popen[str]:
    """Start the command as a process of its own."""
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "arena.cli", "run", "--config", config),
            *("--target", player.address, "--results", folder / results),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.integration
def test_nothing_is_lost_doubled_or_paid_twice(tmp_path: Path, player: Player) -> None:
    path = tmp_path / "killed.sqlite"
    for kill in range(3):
        enough = player.asked().total() + 20 + 7 * kill
        with start(tmp_path, player, path.name) as running:
            # Somewhere in the middle of games, at another place each time.
            while player.asked().total() < enough and running.poll() is None:
                time.sleep(0.01)
            running.send_signal(signal.SIGKILL)
            running.wait()
        assert running.returncode == -signal.SIGKILL, "the run was over before the kill"
    with start(tmp_path, player, path.name) as running:
        out, err = running.communicate()
    assert running.returncode == 0, err
    assert out.startswith("24 episodes: 24 finished\n")
    asked = player.asked()
    assert set(asked.values()) == {1}, "a call was paid twice"
    with closing(sqlite3.connect(path)) as connection:
        ((calls, cost),) = connection.execute("SELECT sum(calls), sum(cost_picousd) FROM seats")
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM failed_calls").fetchone() == (0,)
        ((spent,),) = connection.execute("SELECT sum(cost_picousd) FROM runs")
    assert calls == asked.total()
    assert cost == spent == calls * 10**10
    # An undisturbed run makes the same calls, and has the same episodes.
    with start(tmp_path, player, "whole.sqlite") as running:
        _, err = running.communicate()
    assert running.returncode == 0, err
    assert player.asked() == Counter(dict.fromkeys(asked, 2))
    assert content(tmp_path / "whole.sqlite")["episodes"] == content(path)["episodes"]
