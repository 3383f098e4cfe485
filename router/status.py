"""What the router knows of itself and its backends now: for its page and for `arena-llm top`."""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from arena_llm.types import BackendInfo, ReplicaState
from services.common.exporter import Page
from services.common.metric_names import METRICS
from services.common.metrics import Series, meter

#: Seconds over which rates and quantiles are taken.
WINDOW = 60.0
#: Seconds for which the answers of the backends are kept.
_FRESH = 1.0
#: Seconds that the backends have to answer, and that a reader of the page waits for them.
STATUS_SECONDS, _PATIENCE = 1.0, 3.0
_ASSETS = Path(__file__).with_name("assets")


class Status:
    """The state of the router, as a document. Its methods run in the threads of the exporter.

    ask: asks the backends; it runs on the event loop.
    """

    def __init__(self, ask: Callable[[], Awaitable[Sequence[BackendInfo]]]) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._started = time.time()
        #: Totals of the last minute, each with its time, the oldest first.
        self._history: deque[tuple[float, Series]] = deque([(time.monotonic(), {})])
        self._backends: tuple[float, Sequence[BackendInfo]] = (-_FRESH, ())

    def pages(self) -> Mapping[str, Page]:
        """The page and what it loads."""
        files = {"/": "top.html", "/top.js": "top.js", "/top.css": "top.css"}
        kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
        pages: dict[str, Page] = {
            path: (f"{kinds[name.rpartition('.')[2]]}; charset=utf-8", (_ASSETS / name).read_bytes)
            for path, name in files.items()
        }
        pages["/status.json"] = "application/json", lambda: json.dumps(self.read()).encode()
        return pages

    def read(self) -> dict[str, Any]:
        """Return the document. Rates and quantiles are of the last minute, or since the start."""
        now, totals = time.monotonic(), meter.totals()
        history = self._history
        while len(history) > 1 and history[1][0] <= now - WINDOW:
            history.popleft()
        before, earlier = history[0]
        if now - history[-1][0] >= 0.5:
            history.append((now, totals))
        recent = _subtract(totals, earlier)
        seconds = max(now - before, 0.001)
        return {
            "seconds": round(seconds, 1),
            "uptime_s": round(time.time() - self._started),
            "in_flight": sum(_figures(totals, "in_flight")),
            "cost_usd": sum(_figures(totals, "cost")),
            "backends": [_show_backend(backend) for backend in self._find_backends(now)],
            "models": _show_models(totals, recent, seconds),
            "clients": _show_clients(totals, recent, seconds),
            "sessions_moved": sum(_figures(totals, "sessions_moved")),
        }

    def _find_backends(self, now: float) -> Sequence[BackendInfo]:
        asked, backends = self._backends
        if now - asked >= _FRESH:
            future = asyncio.run_coroutine_threadsafe(_to_coroutine(self._ask()), self._loop)
            try:
                backends = future.result(_PATIENCE)
            except TimeoutError:
                future.cancel()
            self._backends = now, backends
        return backends


async def _to_coroutine(answer: Awaitable[Sequence[BackendInfo]]) -> Sequence[BackendInfo]:
    return await answer


def _show_backend(backend: BackendInfo) -> dict[str, Any]:
    replicas = [
        {
            "address": replica.address,
            "state": str(replica.state),
            "detail": replica.detail,
            "in_flight": replica.calls_in_flight,
            "waiting": replica.calls_waiting,
        }
        for replica in backend.replicas
    ]
    serving = sum(replica.state == ReplicaState.SERVING for replica in backend.replicas)
    return {"backend": backend.backend, "serving": serving, "replicas": replicas}


def _show_models(totals: Series, recent: Series, seconds: float) -> list[dict[str, Any]]:
    """The models that were called since the start, the busiest first."""
    rows: dict[str, dict[str, Any]] = defaultdict(
        lambda: (
            {"backend": "", "in_flight": 0.0, "calls": 0.0, "failed": 0.0}
            | {"calls_per_s": 0.0, "cost_usd": 0.0}
            | {"input_per_s": 0.0, "output_per_s": 0.0, "p50_s": None, "p99_s": None}
        )
    )
    for (key, *labels), figures in totals.items():
        if key == "calls" and labels[1]:
            row = rows[labels[1]]
            row["backend"] = labels[2]
            row["calls"] += figures[0]
            # A caller that has left is no failure.
            row["failed"] += figures[0] if labels[3] not in ("OK", "CANCELLED") else 0.0
        elif key == "cost":
            rows[labels[0]]["cost_usd"] += figures[0]
        elif key == "in_flight" and labels[0] and figures[0]:
            rows[labels[0]]["in_flight"] += figures[0]
    times: dict[str, list[float]] = {}
    for (key, *labels), figures in recent.items():
        if key == "calls" and labels[1]:
            rows[labels[1]]["calls_per_s"] += figures[0] / seconds
        elif key == "tokens" and labels[2] in ("input", "output"):
            rows[labels[0]][f"{labels[2]}_per_s"] += figures[0] / seconds
        elif (
            key == "duration" and labels[1] and labels[0] in ("Generate", "StreamGenerate", "Score")
        ):
            known = times.get(labels[1], [0.0] * len(figures))
            times[labels[1]] = [sum(pair) for pair in zip(known, figures, strict=True)]
    for model, figures in times.items():
        rows[model]["p50_s"] = find_quantile(figures[1:], METRICS["duration"].buckets, 0.5)
        rows[model]["p99_s"] = find_quantile(figures[1:], METRICS["duration"].buckets, 0.99)
    listed = [{"model": model, **row} for model, row in rows.items()]
    return sorted(listed, key=lambda row: (-row["calls_per_s"], -row["calls"], row["model"]))


def _show_clients(totals: Series, recent: Series, seconds: float) -> list[dict[str, Any]]:
    """Who uses what, by the names of the tokens, since the start."""
    rows: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"calls": 0.0, "calls_per_s": 0.0, "tokens": 0.0, "cost_usd": 0.0}
    )
    fields = {"client_calls": "calls", "client_tokens": "tokens", "client_cost": "cost_usd"}
    for (key, *labels), figures in totals.items():
        if key in fields and labels[-1] != "cached":  # they are a part of the input
            rows[labels[0]][fields[key]] += figures[0]
    for (key, *labels), figures in recent.items():
        if key == "client_calls":
            rows[labels[0]]["calls_per_s"] += figures[0] / seconds
    listed = [{"client": client, **row} for client, row in rows.items()]
    return sorted(listed, key=lambda row: (-row["cost_usd"], -row["calls"], row["client"]))


def find_quantile(
    counts: Sequence[float], bounds: Sequence[float], quantile: float
) -> float | None:
    """Estimate a quantile from the counts of buckets, as Prometheus does; None if all are 0.

    A value in the last bucket, which has no upper bound, counts as its lower bound.
    """
    sums = list(accumulate(counts))
    if not sums[-1]:
        return None
    rank = quantile * sums[-1]
    place = bisect_left(sums, rank)
    if place >= len(bounds):
        return bounds[-1]
    low = bounds[place - 1] if place else 0.0
    share = (rank - (sums[place - 1] if place else 0.0)) / counts[place]
    return low + (bounds[place] - low) * share


def _figures(series: Series, key: str) -> list[float]:
    return [figures[0] for (name, *_), figures in series.items() if name == key]


def _subtract(later: Series, earlier: Series) -> Series:
    return {
        key: [a - b for a, b in zip(figures, earlier[key], strict=True)]
        if key in earlier
        else figures
        for key, figures in later.items()
    }
