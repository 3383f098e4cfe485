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
from arena.runners.coordinator import RunProgress

#: At most so many different reasons of failed episodes are shown.
MAX_REASONS = 10

#: Seconds between two lines without a terminal.
_INTERVAL = 10.0


class Progress:
    """Shows the progress. News, such as failures, stay as lines above the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=4)
        self._begun: tuple[float, float] | None = None
        self._said = float("-inf")
        self._seen = RunProgress(0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, tally: RunProgress) -> None:
        """Show the progress; without a terminal at most once in ten seconds."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, tally.done
        for line in _news(self._seen, tally):
            show(self._console, line)
        self._seen = tally
        left = _left(tally, now - self._begun[0], self._begun[1])
        if self._console.is_terminal:
            self._live.update(_display(tally, left))
        elif now >= self._said + _INTERVAL:
            self._said = now
            line = f"{_games(tally)}, {', '.join(_figures(tally))}, {left}"
            show(self._console, line)


def _display(tally: RunProgress, left: str) -> Group:
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True)
    line.add_row(
        ProgressBar(total=tally.work or 1, completed=tally.done if tally.work else 1),
        Text(_games(tally), style="bold"),
        Text(left, style="cyan"),
    )
    return Group(line, Text("  ".join(_figures(tally)), style="dim"))


def _games(tally: RunProgress) -> str:
    return f"{tally.episodes.total()}/{tally.total} games"


def _figures(tally: RunProgress) -> list[str]:
    failed = tally.episodes["failed"]
    return [
        f"{tally.playing} in play",
        *([f"{failed} failed"] if failed else []),
        f"{share(tally.illegal, tally.answers)} illegal",
        f"{tally.tokens:,} tokens",
        f"${tally.cost_usd:.2f}",
        *([f"{tally.budget:.0%} of {tally.budget_key}"] if tally.budget_key else []),
    ]


def share(count: int, total: int) -> str:
    """A rate, such as "3.1 %", or "- %" if there is nothing to count."""
    return f"{100 * count / total:.1f} %" if total else "- %"


def _left(tally: RunProgress, seconds: float, before: float) -> str:
    """The remaining time, at this run's pace so far."""
    made = tally.done - before
    if not made or seconds < 1:
        return "-:--:-- left"
    rest = round(seconds * (tally.work - tally.done) / made)
    return f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02} left"


def _news(before: RunProgress, now: RunProgress) -> Iterator[str]:
    if len(before.failures) < MAX_REASONS:
        for reason in now.failures.keys() - before.failures.keys():
            yield f"an episode failed: {reason}"
    if before.budget < NEAR <= now.budget:
        yield f"warning: {now.budget:.0%} of {now.budget_key} is used"
    if now.lost > before.lost:
        yield "a worker died: its episodes are played again"
    if now.stopped and not before.stopped:
        yield f"{now.stopped}: no further calls are made"
