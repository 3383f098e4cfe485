"""Progress of a run: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from arena.cli.output import show
from arena.experiment.budget import NEAR
from arena.experiment.patience import Outage
from arena.results.spending import Spent
from arena.runners.job import RunProgress
from arena_llm.prices import format_dollars

#: The largest number of different reasons of failed episodes that are shown.
MAX_REASONS = 10

#: Seconds between two lines without a terminal.
_INTERVAL = 10.0


class ProgressDisplay:
    """Shows the progress. News, such as failures, stay as lines above the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=4)
        self._first: tuple[float, float] | None = None
        self._last_line_at = float("-inf")
        self._last_run = RunProgress(0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, run: RunProgress) -> None:
        """Show the progress; without a terminal at most once in ten seconds."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, run.done
        for line in _list_news(self._last_run, run):
            show(self._console, line)
        self._last_run = run
        remaining = _format_remaining(run, now - self._first[0], self._first[1])
        if self._console.is_terminal:
            self._live.update(_display(run, remaining))
        elif now >= self._last_line_at + _INTERVAL:
            self._last_line_at = now
            line = f"{_format_games(run)}, {', '.join(_list_figures(run))}, {remaining}"
            show(self._console, line)


def _display(run: RunProgress, remaining: str) -> Group:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True)
    line.add_row(
        ProgressBar(total=run.work or 1, completed=run.done if run.work else 1),
        Text(_format_games(run), style="bold"),
        Text(remaining, style="cyan"),
    )
    figures = Text("  ".join(_list_figures(run)), style="dim")
    waiting = (Text(_format_outage(model, one)) for model, one in sorted(run.waiting.items()))
    return Group(line, figures, *waiting)


def _format_outage(model: str, outage: Outage) -> str:
    until = time.strftime("%H:%M:%S", time.localtime(outage.until))
    seconds = time.time() - outage.since
    return f"waiting for {model} for {seconds:.0f} s, until {until} (patience:): {outage.reason}"


def _format_games(run: RunProgress) -> str:
    return f"{run.episodes.total()}/{run.total} games"


def _list_figures(run: RunProgress) -> list[str]:
    failed = run.episodes["failed"]
    return [
        f"{run.playing} in play",
        *([f"{run.elsewhere} in other processes"] if run.elsewhere else []),
        *([f"{failed} failed"] if failed else []),
        *([f"{share(run.illegal, run.answers)} illegal"] if run.answers else []),
        *list_spending(run.spent),
        *([f"{100 * run.budget:.0f} % of {run.budget_key}"] if run.budget_key else []),
    ]


def list_spending(spent: Spent) -> list[str]:
    """The tokens and the cost of a run."""
    return [
        f"{spent.tokens:,} tokens" + " + unknown" * bool(spent.uncounted),
        format_dollars(spent.cost_picousd)
        + (f" + at most {format_dollars(spent.unpriced_picousd)}" if spent.bounded else "")
        + " + unknown" * bool(spent.unbounded),
    ]


def share(count: int, total: int) -> str:
    """A rate, such as "3.1 %", or "- %" if there is nothing to count."""
    return f"{100 * count / total:.1f} %" if total else "- %"


def _format_remaining(run: RunProgress, seconds: float, before: float) -> str:
    """The remaining time, at this run's pace so far."""
    made = run.done - before
    if not made or seconds < 1:
        return "-:--:-- left"
    rest = round(seconds * (run.work - run.done) / made)
    return f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02} left"


def _list_news(before: RunProgress, now: RunProgress) -> Iterator[str]:
    if len(before.failures) < MAX_REASONS:
        for reason in now.failures.keys() - before.failures.keys():
            yield f"an episode failed: {reason}"
    if before.budget < NEAR <= now.budget:
        yield f"warning: {100 * now.budget:.0f} % of {now.budget_key} is used"
    if now.spent.unbounded and not before.spent.unbounded and now.budget_key == "max_cost_usd":
        yield "warning: the cost of some requests is unknown; max_cost_usd does not count it"
    for model in sorted(now.waiting.keys() - before.waiting.keys()):
        yield _format_outage(model, now.waiting[model])
    for model in sorted(before.waiting.keys() - now.waiting.keys()):
        if (ended := time.time()) < before.waiting[model].until:
            yield f"{model} answers again, after {ended - before.waiting[model].since:.0f} s"
    for reason in now.open.keys() - before.open.keys():
        yield f"{reason}: its episodes stay open"
    if now.lost > before.lost:
        yield "a worker died: its episodes are played again"
    for node in sorted(now.refused.keys() - before.refused.keys()):
        yield f"node {node} gets no episodes: {now.refused[node]}"
    for node in sorted(before.refused.keys() - now.refused.keys()):
        yield f"node {node} is not refused any more"
    if now.stopped and not before.stopped:
        yield f"{now.stopped}: no further calls are made"
