"""Metrics for Prometheus: vLLM's own of each engine, and a few for autoscalers."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from vllm.v1.metrics.loggers import PrometheusStatLogger, StatLoggerBase

#: Seconds over which tokens/s is averaged.
_WINDOW = 10


@dataclass
class RankStats:
    """What one rank of an engine has reported. All but data-parallel engines have one rank."""

    steps: int = 0
    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0


class EngineStats(StatLoggerBase):  # type: ignore[misc] # not typed
    """What an engine reports at each of its steps."""

    def __init__(self) -> None:
        self.ranks: defaultdict[int, RankStats] = defaultdict(RankStats)
        self.generated = 0
        #: The number of requests that the service holds back until their tenant's turn.
        self.count_held: Callable[[], int] = lambda: 0
        # (second, tokens generated before it), for each second with new tokens.
        self._history: deque[tuple[int, int]] = deque()

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return sum(rank.running for rank in self.ranks.values())

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return sum(rank.waiting for rank in self.ranks.values()) + self.count_held()

    @property
    def cache_usage(self) -> float:
        """The share of the KV cache in use, of the fullest rank."""
        return max((rank.cache_usage for rank in self.ranks.values()), default=0.0)

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        rank = self.ranks[engine_idx]
        rank.steps += 1
        if scheduler_stats is not None:
            rank.running = scheduler_stats.num_running_reqs
            rank.waiting = (
                scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
            )
            rank.cache_usage = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            now = int(time.monotonic())
            if not self._history or self._history[-1][0] != now:
                self._history.append((now, self.generated))
                while self._history[0][0] < now - _WINDOW:
                    self._history.popleft()
            self.generated += iteration_stats.num_generation_tokens

    def log_engine_initialized(self) -> None: ...

    def tokens_per_second(self) -> float:
        """The mean over the last _WINDOW seconds."""
        since = int(time.monotonic()) - _WINDOW
        before = next((tokens for second, tokens in self._history if second >= since), None)
        return 0.0 if before is None else (self.generated - before) / _WINDOW


def stat_loggers(registry: CollectorRegistry, stats: EngineStats) -> list[Any]:
    """The loggers that an engine reports to: vLLM's metrics, and `stats`.

    Each engine has its own registry: in the global registry, vLLM's logger would replace
    the metrics of the previous engine.
    """

    class Registered(PrometheusStatLogger):  # type: ignore[misc] # not typed
        _gauge_cls = staticmethod(partial(Gauge, registry=registry))
        _counter_cls = staticmethod(partial(Counter, registry=registry))
        _histogram_cls = staticmethod(partial(Histogram, registry=registry))

    return [Registered, lambda vllm_config, engine_index: stats]


class Metrics(Collector):
    """The metrics of all engines."""

    def __init__(self) -> None:
        self._engines: dict[str, tuple[CollectorRegistry, EngineStats]] = {}

    def add(self, model: str, registry: CollectorRegistry, stats: EngineStats) -> None:
        self._engines[model] = (registry, stats)

    def collect(self) -> Iterator[Metric]:
        """Each metric once, with the samples of all engines."""
        yield from self._own()
        families: dict[str, Metric] = {}
        for registry, _ in self._engines.values():
            for family in registry.collect():
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                merged.samples.extend(family.samples)
        yield from families.values()

    def _own(self) -> Iterator[Metric]:
        figures: dict[str, tuple[str, Callable[[EngineStats], float]]] = {
            "queue_depth": ("Requests that wait for a place.", lambda s: s.waiting),
            "running_requests": ("Requests in the batch.", lambda s: s.running),
            "kv_cache_usage": ("Share of the KV cache in use, 0 to 1.", lambda s: s.cache_usage),
            "tokens_per_second": (
                f"Completion tokens per second over the last {_WINDOW} s.",
                EngineStats.tokens_per_second,
            ),
        }
        for name, (meaning, figure) in figures.items():
            family = GaugeMetricFamily(f"arena_vllm_{name}", meaning, labels=["model"])
            for model, (_, stats) in self._engines.items():
                family.add_metric([model], figure(stats))
            yield family
