"""The progress of a run: a bar in a terminal, lines elsewhere, and each message once."""

from __future__ import annotations

import io
import time
from collections import Counter
from dataclasses import replace

from rich.console import Console

from arena.cli import progress
from arena.cli.progress import ProgressDisplay
from arena.experiment.patience import Outage
from arena.results.spending import Spent
from arena.runners.job import RunProgress

TALLY = RunProgress(
    total=300,
    episodes=Counter(finished=120, failed=2),
    playing=60,
    answers=1000,
    illegal=31,
    spent=Spent(182_340, 314 * 10**9),
    work=1000.0,
    done=250.0,
)


def shown(*tallies: RunProgress, terminal: bool, width: int = 100) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None)
    with ProgressDisplay(console) as bar:
        for tally in tallies:
            bar.show(tally)
            if terminal:
                bar._live.refresh()
    return out.getvalue()


def test_without_a_terminal_it_is_a_line() -> None:
    line = "122/300 games, 60 in play, 2 failed, 3.1 % illegal, 182,340 tokens, $0.31, -:--:-- left"
    # Many tallies in ten seconds are one line.
    assert shown(TALLY, TALLY, TALLY, terminal=False).splitlines() == [line]


def test_unknown_tokens_and_costs() -> None:
    unknown = Spent(182_340, 314 * 10**9, uncounted=1, unpriced=2)
    tally = replace(TALLY, spent=unknown, budget=0.1, budget_key="max_cost_usd")
    text = shown(tally, terminal=False)
    assert "182,340 tokens + unknown, $0.31 + unknown, 10 % of max_cost_usd" in text
    bounded = replace(unknown, bounded=1, unpriced_picousd=5 * 10**10)
    text_of_bounded = shown(replace(tally, spent=bounded), terminal=False)
    assert "$0.31 + at most $0.05 + unknown, 10 %" in text_of_bounded
    all_bounded = replace(unknown, bounded=2, unpriced_picousd=10**11)
    text_of_bounded = shown(replace(tally, spent=all_bounded), terminal=False)
    assert "$0.31 + at most $0.10, 10 %" in text_of_bounded
    assert "warning" not in text_of_bounded
    assert "warning: the cost of some requests is unknown; max_cost_usd does not count it" in text


def test_a_model_that_is_waited_for_is_a_line() -> None:
    """Once without a terminal, with the time until which the run waits; and when it is over."""
    now = time.time()
    away = {"hf_a": Outage(now - 12, now + 288, "UNAVAILABLE is gone")}
    waiting = replace(TALLY, waiting=away)
    until = time.strftime("%H:%M:%S", time.localtime(now + 288))
    lines = shown(TALLY, waiting, waiting, TALLY, terminal=False).splitlines()
    assert lines[1:] == [
        f"waiting for hf_a for 12 s, until {until} (patience:): UNAVAILABLE is gone",
        "hf_a answers again, after 12 s",
    ]
    assert f"waiting for hf_a for 12 s, until {until}" in shown(waiting, terminal=True)


def test_in_a_terminal_it_is_a_bar() -> None:
    text = shown(TALLY, terminal=True)
    assert "122/300 games" in text
    assert "60 in play  2 failed  3.1 % illegal  182,340 tokens  $0.31" in text
    assert text.endswith("\x1b[2K"), "the bar is removed at the end"
    assert "━" in text


def test_the_budget() -> None:
    text = shown(replace(TALLY, budget=0.85, budget_key="max_tokens_total"), terminal=False)
    assert "$0.31, 85 % of max_tokens_total" in text
    assert text.count("warning: 85 % of max_tokens_total is used") == 1


def test_the_remaining_time(monkeypatch) -> None:
    clock = iter([100.0, 130.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    # 250 of 1000 moves were stored before. 50 more took 30 s, and 700 are left.
    later = replace(TALLY, done=300.0)
    assert shown(TALLY, later, terminal=False).splitlines()[-1].endswith("0:07:00 left")


def test_each_message_is_shown_once() -> None:
    once = replace(TALLY, failures=Counter({"UNAVAILABLE: down\nfor now": 1}))
    more = replace(once, failures=Counter({"UNAVAILABLE: down\nfor now": 9, "other": 1}), lost=1)
    stopped = replace(more, stopped="the budget is spent")
    for terminal in (True, False):
        text = shown(TALLY, once, once, more, more, stopped, stopped, terminal=terminal)
        for news in (
            "an episode failed: UNAVAILABLE: down for now",
            "an episode failed: other",
            "a worker died: its episodes are played again",
            "the budget is spent: no further calls are made",
        ):
            assert text.count(news) == 1


def test_what_models_and_servers_write_is_no_markup() -> None:
    hostile = replace(TALLY, failures=Counter({"[red]boo[/red] [/]": 1}))
    assert "an episode failed: [red]boo[/red] [/]" in shown(hostile, terminal=False)


def test_nothing_to_do() -> None:
    done = RunProgress(total=3, episodes=Counter(finished=3))
    assert shown(done, terminal=False).startswith("3/3 games, 0 in play, 0 tokens")
    assert "3/3 games" in shown(done, terminal=True)
