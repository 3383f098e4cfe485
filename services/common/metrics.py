"""Records the metrics of this process, and shows them to Prometheus.

    meter.open("hf", models=["hf_gpt2"])   # once, if the configuration has an address for them
    meter.begin(), meter.end(...)          # services.common.call, around every call
    meter.watch("waiting", figures)        # a gauge, read every second

What a caller writes never becomes a label. A model's name is one if the configuration lists it or
a call of it took tokens or money; all other names share the label "other".

The figures are plain lists, because a call has about ten of them: adding to those of
prometheus_client takes 17 us, to these 4. Workers of a service exchange theirs once a second, in
files of a folder that they share.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from services.common.metric_names import METRICS, Metric

#: The label of all names that are not known.
OTHER = "other"
#: Most names of models that become labels.
_MOST_MODELS = 300
#: Seconds between two readings of the gauges.
SAMPLE_SECONDS = 1.0
#: Separates the key of a metric and its labels in a file. No label has this character.
_SEPARATOR = "\x1f"

#: What a gauge shows now: labels in the metric's order, and the figure.
Figures = Iterable[tuple[tuple[str, ...], float]]
#: The figures of a metric with these labels, by the metric's key and the labels. Of a histogram
#: the sum, then the count of each bucket; else one.
Series = dict[tuple[str, ...], list[float]]


class CallLoad(NamedTuple):
    """Calls that run now. waiting: those of them that wait for a place; 0 without metrics."""

    in_flight: int
    waiting: int


class Meter:
    """Records what happens in this process. It does nothing until `open`.

    Everything but `collect` runs on one event loop.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._service = ""
        self._models: set[str] = set()
        self._series: Series = {}
        #: The fields of each call that runs, by their identity.
        self._running: dict[int, Mapping[str, Any]] = {}
        self._watched: list[tuple[str, Callable[[], Figures]]] = []
        self._more: list[Any] = []

    def open(self, service: str, models: Iterable[str] = ()) -> None:
        """Begin to record. models: names that become labels before a call was answered."""
        self._service = service
        self._models = set(models)
        self._watched = [("in_flight", self._count_running)]
        self.is_open = True

    def add(self, collector: Any) -> None:
        """Show what an engine's library measures, too: a collector of prometheus_client."""
        self._more.append(collector)

    def begin(self, fields: Mapping[str, Any]) -> None:
        """A call has begun. fields: of its line in the log; more may come."""
        self._running[id(fields)] = fields

    def end(
        self,
        rpc: str,
        code: str,
        fields: Mapping[str, Any],
        seconds: float,
        usage: Any,
        timings: Any,
    ) -> None:
        """A call has ended.

        fields: of its line in the log: model, backend, reason, token. usage, timings: of its reply,
        as messages; None if it has none.
        """
        self._running.pop(id(fields), None)
        # If another worker answers the call, that worker counts it.
        if not self.is_open or "handed_over" in fields:
            return
        if code == "OK" and usage is not None:
            self._learn(fields)
        model, backend, client = self._labels_of(fields)
        self._count(1, "calls", rpc, model, backend, code, fields.get("reason", ""))
        self._observe(seconds, "duration", rpc, model, backend)
        if client:
            self._count(1, "client_calls", client)
        if usage is not None:
            self._count_usage(usage, model, backend, client)
        if timings is not None:
            self._time(timings, model, backend, usage)

    def count_paid(self, fields: Mapping[str, Any], usage: Any) -> None:
        """Count the usage of a model in whose place another one answers. Arguments: as in `end`."""
        if self.is_open:
            self._learn(fields)
            model, backend, client = self._labels_of(fields)
            self._count_usage(usage, model, backend, client)

    def _learn(self, fields: Mapping[str, Any]) -> None:
        """Let the model of a call that took something become a label."""
        model = fields.get("model", "")
        if model and len(self._models) < _MOST_MODELS:
            self._models.add(model)

    def _labels_of(self, fields: Mapping[str, Any]) -> tuple[str, str, str]:
        """Return the labels of a call: model, backend and client."""
        model = fields.get("model", "")
        if model and model not in self._models:
            model = OTHER
        return model, fields.get("backend", self._service), fields.get("token", "")

    def count_attempt(self, model: str, reason: str = "") -> None:
        """Count a request to a provider. reason: of its failure."""
        if self.is_open:
            self._count(1, "attempts", *self.labels(model), reason)

    def count_move(self, backend: str) -> None:
        """Count a session that another replica serves now."""
        if self.is_open:
            self._count(1, "sessions_moved", backend)

    def count_cached(self, outcome: str) -> None:
        """Count a call that the router's cache may answer."""
        if self.is_open:
            self._count(1, "cache", outcome)

    def watch(self, key: str, figures: Callable[[], Figures]) -> None:
        """Show a gauge. figures: returns its figures; called on the event loop every second."""
        if self.is_open:
            self._watched.append((key, figures))

    def unwatch(self, key: str, figures: Callable[[], Figures]) -> None:
        """Stop showing these figures of a gauge."""
        if (key, figures) in self._watched:
            self._watched.remove((key, figures))

    def know(self, models: Iterable[str]) -> None:
        """Let further names become labels: those of a configuration that has changed."""
        self._models.update(models)

    def labels(self, model: str) -> tuple[str, str]:
        """The labels of a model of this service."""
        return (model if model in self._models else OTHER), self._service

    async def sample(self) -> None:
        """Read the gauges every second, until cancelled. Workers also write all figures."""
        while True:
            self.read()
            if folder := _shared_folder():
                await asyncio.to_thread(_write, folder, os.getpid(), self._copy())
            await asyncio.sleep(SAMPLE_SECONDS)

    def read(self) -> None:
        """Read the gauges."""
        found: Series = {
            key: [0.0] for key in self._series if METRICS[key[0]].kind == "gauge"
        }  # what is no longer there is 0
        for name, figures in self._watched:
            for labels, figure in figures():
                found.setdefault((name, *labels), [0.0])[0] += figure
        self._series.update(found)

    def collect(self) -> Any:
        """A registry of prometheus_client with the figures of all workers, and of the process."""
        import prometheus_client

        registry = prometheus_client.CollectorRegistry(auto_describe=False)
        registry.register(self._Collector(self))
        if not _shared_folder():
            registry.register(prometheus_client.REGISTRY)  # CPU and memory of this process
        for collector in self._more:
            registry.register(collector)
        return registry

    def load(self) -> CallLoad:
        """The calls of all workers now."""
        if not self.is_open:
            return CallLoad(len(self._running), 0)
        self.read()
        sums = {"in_flight": 0.0, "waiting": 0.0}
        for key, figures in self.totals().items():
            if key[0] in sums:
                sums[key[0]] += figures[0]
        return CallLoad(int(sums["in_flight"]), int(sums["waiting"]))

    def totals(self) -> Series:
        """The figures of all workers together."""
        totals = self._copy()
        for series in _read_others(_shared_folder()):
            for key, figures in series.items():
                if (known := totals.get(key)) is None:
                    totals[key] = figures
                else:
                    merge = max if METRICS[key[0]].largest else float.__add__
                    totals[key] = [merge(*pair) for pair in zip(known, figures, strict=True)]
        return totals

    class _Collector:
        def __init__(self, meter: Meter) -> None:
            self._meter = meter

        def collect(self) -> Iterator[Any]:
            return _make_families(self._meter.totals())

    def _copy(self) -> Series:
        # A copy of a dictionary is made in one step, so other threads may need no lock.
        return {key: list(figures) for key, figures in self._series.copy().items()}

    def _count_running(self) -> Figures:
        for fields in self._running.values():
            model = fields.get("model", "")
            yield (model if not model or model in self._models else OTHER,), 1

    def _count(self, amount: float, *key: str) -> None:
        figures = self._series.get(key)
        if figures is None:
            figures = self._series[key] = [0.0]
        figures[0] += amount

    def _observe(self, value: float, *key: str) -> None:
        buckets = METRICS[key[0]].buckets
        figures = self._series.get(key)
        if figures is None:
            figures = self._series[key] = [0.0] * (len(buckets) + 2)
        figures[0] += value
        figures[1 + bisect_left(buckets, value)] += 1

    def _count_usage(self, usage: Any, model: str, backend: str, client: str) -> None:
        for kind, count in (
            ("input", usage.prompt_tokens),
            ("output", usage.completion_tokens),
            ("cached", usage.cached_tokens),
        ):
            if count:
                self._observe(count, "tokens", model, backend, kind)
                if client:
                    self._count(count, "client_tokens", client, kind)
        if picousd := usage.cost_picousd:
            self._count(picousd / 1e12, "cost", model, backend)
            if client:
                self._count(picousd / 1e12, "client_cost", client)

    def _time(self, timings: Any, model: str, backend: str, usage: Any) -> None:
        if timings.HasField("queue_seconds"):
            self._observe(timings.queue_seconds, "queue", model, backend)
        first, total = timings.first_token_seconds, timings.total_seconds
        # A reply that came whole has no time of its first token.
        if 0 < first < total:
            self._observe(first, "first_token", model, backend)
            if usage is not None and (more := usage.completion_tokens - 1) > 0:
                self._observe((total - first) / more, "per_token", model, backend)


def _make_families(series: Series) -> Iterator[Any]:
    """Yield each metric in prometheus_client's form."""
    from prometheus_client import core

    kinds = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }
    families = {
        key: kinds[metric.kind](
            metric.name, metric.meaning, labels=[label.name for label in metric.labels]
        )
        for key, metric in METRICS.items()
    }
    for (key, *labels), figures in sorted(series.items()):
        metric: Metric = METRICS[key]
        if metric.kind == "histogram":
            families[key].add_metric(labels, list(_accumulate(metric, figures)), figures[0])
        else:
            families[key].add_metric(labels, figures[0])
    yield from families.values()


def _accumulate(metric: Metric, figures: list[float]) -> Iterator[tuple[str, float]]:
    """Yield the bound of each bucket, and the number of values up to it."""
    total = 0.0
    for bound, count in zip((*metric.buckets, "+Inf"), figures[1:], strict=True):
        total += count
        yield str(bound), total


#: Names the folder that the workers of a service share.
_FOLDER = "ARENA_METRICS_FOLDER"


def share_metrics() -> None:
    """Make the folder in which workers that are forked later exchange their figures."""
    os.environ[_FOLDER] = tempfile.mkdtemp(prefix="arena-llm-metrics-")


def forget_worker(pid: int) -> None:
    """Forget the gauges of a worker that has ended. What it has counted stays."""
    if (folder := _shared_folder()) and (series := _read(Path(folder, str(pid)))):
        kept = {key: value for key, value in series.items() if METRICS[key[0]].kind != "gauge"}
        _write(folder, pid, kept)


def forget_metrics() -> None:
    """Remove the folder."""
    if folder := _shared_folder():
        shutil.rmtree(folder, ignore_errors=True)


def _shared_folder() -> str:
    """The folder that the workers of a service share; empty if there is one process only."""
    return os.environ.get(_FOLDER, "")


def _read_others(folder: str) -> Iterator[Series]:
    """Yield the figures of the other workers, also of those that have ended."""
    for path in Path(folder).iterdir() if folder else ():
        if path.name.isdecimal() and int(path.name) != os.getpid():
            yield _read(path)


def _read(path: Path) -> Series:
    with suppress(OSError, ValueError):
        lists: dict[str, list[float]] = json.loads(path.read_bytes())
        return {tuple(key.split(_SEPARATOR)): figures for key, figures in lists.items()}
    return {}


def _write(folder: str, pid: int, series: Series) -> None:
    text = json.dumps({_SEPARATOR.join(key): figures for key, figures in series.items()})
    with suppress(OSError):  # a full disk fails no call
        new = Path(folder, f"{pid}.new")
        new.write_text(text)
        new.replace(Path(folder, str(pid)))


#: The metrics of this process.
meter = Meter()
