"""The store of episodes at its size: `python -m bench.store [EPISODES]` (default: 1,000,000).

With another number of episodes it writes nothing.

adding: CPU time to store an episode of ten moves with prompts and replies, one commit each.
size: bytes of a file with all episodes. Their moves are copies of a hundred played episodes,
    because compressing a million takes ten minutes; each episode has its own key, deal and row.
resuming: CPU time of `arena run` over 100,000 episodes, of which the file has 60,000, until the
    next one would be played: the keys, the query, and the queue.
reporting: CPU time of `arena report`: the check of the file, the tables and the page.
exporting: CPU time of `arena export --format rollouts` for 10,000 episodes of self-play, with
    about 400 tokens of each prompt and 60 of each reply.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelCall, ModelReply
from arena.cli import main as arena_command
from arena.experiment.load import load_experiment
from arena.experiment.schedule import schedule
from arena.report.embed import Report
from arena.report.page import write_html
from arena.results.database import connect
from arena.results.reader import Reader
from arena.results.rows import CallKey
from arena.results.store import Store
from arena.results.tokens import tokens_to_json
from arena.runners.coordinator import Coordinator
from arena.runners.job import Job
from arena.runners.worker import run_sequential
from arena_llm.types import LogprobKind, TokenTrace
from bench import harness
from bench.goals import Goal
from bench.provider import some_action

EPISODES = 1_000_000
EXPORTED = 10_000
#: Episodes of the experiment that is resumed, and how many of them the file has.
WANTED, PLAYED = 100_000, 60_000

GOALS = (
    Goal("file of 1,000,000 episodes", ("gigabytes",), "<=", 2, "GB"),
    Goal("CPU to resume an experiment of 100,000", ("resuming_s",), "<=", 2, "s"),
    Goal("CPU of a report of 1,000,000 episodes", ("reporting_s",), "<=", 10, "s"),
    Goal("CPU to export rollouts of 10,000 episodes", ("exporting_s",), "<=", 60, "s"),
)

#: Games between two models with about ten moves in the mean.
PLAY = {
    "name": "store",
    "games": ["tic_tac_toe", {"name": "connect_four", "max_plies": 12}],
    "models": ["openrouter_lab/a", "openrouter_lab/b"],
    "episodes": 25,
}
_WORDS = (
    "I", "take", "the", "centre", "because", "it", "gives", "most", "lines", "block", "fork",
    "threat", "corner", "my", "opponent", "wins", "next", "move", "unless", "edge", "column",
    "row", "diagonal", "so", "then", "this", "is", "best", "safe", "forced", "answer",
)  # fmt: skip


class _Talker:
    """Answers immediately with a legal move and thirty random words of reasoning.

    tokens: with the ids of the tokens.
    """

    def __init__(self, *, tokens: bool = False) -> None:
        self._tokens = tokens

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        messages = [{"role": role, "content": content} for role, content in call.messages]
        reasoning = " ".join(random.choices(_WORDS, k=30))  # noqa: S311 - no secret
        text = json.dumps({"reasoning": reasoning, "action": some_action(messages)})
        latency = round(random.lognormvariate(6, 0.6), 3)
        reply = ModelReply(
            text,
            call.model,
            latency,
            "",
            "stop",
            420,
            60,
            cost_picousd=10**8,
            request_id=request_id,
        )
        if not self._tokens:
            return reply
        ids, logprobs = _draw_ids(60), tuple(-random.random() for _ in range(60))  # noqa: S311
        trace = TokenTrace(ids, logprobs, kind=LogprobKind.RAW)
        return replace(reply, tokens=tokens_to_json(trace), prompt_ids=json.dumps(_draw_ids(420)))


def _draw_ids(count: int) -> tuple[int, ...]:
    return tuple(random.choices(range(50_000), k=count))  # noqa: S311 - no secret


@contextmanager
def _cpu(figures: dict[str, float], name: str) -> Iterator[None]:
    begun = time.process_time()
    yield
    figures[name] = time.process_time() - begun


def _write(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(PLAY | changes))  # JSON is YAML
    return path


def _play(folder: Path, *, tokens: bool = False) -> Path:
    """A file of a hundred episodes. tokens: with the ids of all tokens."""
    experiment = load_experiment(_write(folder, store_tokens=tokens))
    job = Job(experiment, _Talker(tokens=tokens), folder / f"played{tokens:d}.sqlite")
    asyncio.run(run_sequential(job, lambda progress: None))
    return job.results


def _add(folder: Path, played: Path, figures: dict[str, float]) -> None:
    """Store the played episodes again, one by one."""
    experiment = load_experiment(_write(folder))
    with closing(connect(played)) as connection:
        reader = Reader(connection)
        episodes = [(episode, reader.moves(episode)) for episode in reader.episodes()]
    with Store(folder / "added.sqlite", experiment.row, experiment.models) as store:
        begun = time.process_time()
        for episode, moves in episodes:
            store.put_episode(episode, moves)
        figures["adding_us"] = 1e6 * (time.process_time() - begun) / len(episodes)
    texts = sum(len(m.prompt or "") + len(m.reply or "") for _, ms in episodes for m in ms)
    figures["characters_of_prompts_and_replies"] = texts / len(episodes)
    figures["moves_per_episode"] = sum(len(moves) for _, moves in episodes) / len(episodes)


def _fill(played: Path, count: int, wanted: list[tuple[str, int, int]]) -> None:
    """Copy the rows until there are so many. The first rows get the keys, deals and numbers."""
    with closing(sqlite3.connect(played, isolation_level=None)) as connection:
        execute = connection.execute
        templates = [
            (row, execute("SELECT * FROM seats WHERE episode = ?", row[:1]).fetchall(),
             execute("SELECT moves FROM transcripts WHERE episode = ?", row[:1]).fetchone())
            for row in execute("SELECT * FROM episodes").fetchall()
        ]  # fmt: skip
        seats = ", ".join("?" * len(templates[0][1][0]))
        episodes = ", ".join("?" * len(templates[0][0]))
        stored = {row[1] for row, _, _ in templates}
        wanted = [row for row in wanted if row[0] not in stored]
        execute("BEGIN")
        for place in range(count - len(templates)):
            (_, _, game, lineup, deal, number, *rest), counts, moves = templates[
                place % len(templates)
            ]
            key, deal, number = (
                wanted[place] if place < len(wanted) else (f"{place:032x}", deal + place, place)
            )
            new = len(templates) + 1 + place
            execute(
                f"INSERT INTO episodes VALUES ({episodes})",  # noqa: S608 - our own names
                (new, key, game, lineup, deal % 2**63, number, *rest),
            )
            connection.executemany(
                f"INSERT INTO seats VALUES ({seats})",  # noqa: S608 - our own names
                [(new, *row[1:]) for row in counts],
            )
            execute("INSERT INTO transcripts VALUES (?, ?)", (new, *moves))
        execute("COMMIT")


def _resume(folder: Path, results: Path, figures: dict[str, float]) -> None:
    path = _write(folder, episodes=WANTED // 4)  # two games, two seats
    with _cpu(figures, "resuming_s"):
        coordinator = Coordinator(Job(load_experiment(path), _Talker(), results))
        progress = asyncio.run(coordinator.progress())
    figures["found"] = progress.episodes.total()
    asyncio.run(coordinator.close())


def _report(results: Path, figures: dict[str, float]) -> None:
    """The work of `arena report`: check the file, compute the tables, write the page."""
    page = results.with_suffix(".html")
    with _cpu(figures, "reporting_s"):
        report = Report.load(results)
        write_html(report, page)
    figures["reported"] = report.summary.statuses.total()
    figures["page_mb"] = page.stat().st_size / 1e6


def _export(folder: Path, figures: dict[str, float]) -> None:
    played = _play(folder, tokens=True)
    _fill(played, EXPORTED, [])
    to = folder / "rollouts"
    with _cpu(figures, "exporting_s"):
        command = ["export", str(played), "--format", "rollouts", "--to", str(to)]
        if arena_command(command):
            raise RuntimeError("arena export failed")
    with (to / "rollouts.jsonl").open() as rows:
        figures["exported_rollouts"] = sum(1 for _ in rows)


def run(count: int = EPISODES) -> dict[str, float]:
    """Measure everything."""
    figures: dict[str, float] = {"episodes": count}
    random.seed(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        played = _play(folder)
        _add(folder, played, figures)
        specs = schedule(load_experiment(_write(folder, episodes=WANTED // 4)))[:PLAYED]
        _fill(played, count, [(spec.episode, spec.seed, spec.number) for spec in specs])
        figures["bytes_per_episode"] = played.stat().st_size / count
        figures["gigabytes"] = played.stat().st_size / 1e9
        _resume(folder, played, figures)
        _report(played, figures)
        _export(folder, figures)
    return figures


def main() -> None:
    """Print the table and write the JSON."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EPISODES
    figures = run(count)
    harness.print_table("store", ["figure", "value"], list(figures.items()))
    if count == EPISODES:
        harness.write_results("store", GOALS, figures)


if __name__ == "__main__":
    main()
