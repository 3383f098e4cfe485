"""Writes results and is killed at each step: `python -m tests.support.killed_writer FOLDER`.

Prints the number of kills. It forks, so it must not have threads.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from arena.agents.calls import ModelReply
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena.results.store import Store
from tests.support.results import content

EXPERIMENT = ExperimentRow("dying", "{}")
RUN_ID = "0" * 16
MODELS = [ModelRow("hf_a", "llm", "hf_a", "{}")]
ENDED = EpisodeRow("ended", "nim", 0, ("hf_a",), 1, "finished", 1, returns=(1.0,))
MOVE = MoveRow("ended", 0, 0, 0, "ok", model="hf_a", prompt_tokens=10, completion_tokens=2)
REPLY = ModelReply("x" * 9000, "hf_a", 1.0, prompt_tokens=10, completion_tokens=2)


def live(path: Path, said: int) -> None:
    """Does what a run does, and writes a byte to `said` after each step."""
    with Store(path, EXPERIMENT, MODELS, RUN_ID) as store:
        if store.status("ended") is None:
            for key in (CallKey("ended", 0, 0, 0), CallKey("open", 0, 0, 0)):
                if store.call(key) is None:
                    store.put_call(key, "{}", REPLY)
                os.write(said, b"c")
            store.put_episode(ENDED, [MOVE])
        os.write(said, b"e")
    os.write(said, b"z")


def die_at(step: int) -> None:
    """Send SIGKILL when the code of arena/results has made this many calls."""
    steps = count(1)

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if "arena/results" in frame.f_code.co_filename and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)


def check(path: Path, done: bytes) -> None:
    """Assert that everything that was done before the kill is stored."""
    with Store(path, EXPERIMENT, MODELS, RUN_ID) as store:
        ended = store.status("ended") == "finished"
        known = [store.call(CallKey(name, 0, 0, 0)) is not None for name in ("ended", "open")]
        assert ended >= (b"e" in done), done
        assert known[0] + ended == 1 or not done, done
        assert known[1] or done.count(b"c") < 2, done
        assert store.spent().tokens == 12 * (sum(known) + ended)


def main(folder: Path) -> None:
    expected = folder / "expected"
    live(expected, os.open(os.devnull, os.O_WRONLY))
    whole = content(expected)
    deaths = 0
    for step in count(1, 13):  # every 13th step, to save time
        path = folder / f"{step}.sqlite"
        heard, said = os.pipe()
        if (child := os.fork()) == 0:
            die_at(step)
            live(path, said)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.close(said)
        done = os.read(heard, 100)
        os.close(heard)
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        deaths += 1
        check(path, done)
        live(path, os.open(os.devnull, os.O_WRONLY))
        assert content(path) == whole, step
        left = [name for name in os.listdir(folder) if name.startswith(f"{step}.sqlite")]
        assert left == [path.name], left
    print(deaths)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
