"""The input of a runner, and how far its run is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arena.experiment.file import Experiment
from arena.experiment.ledger import Backend
from arena.experiment.patience import Outage
from arena.results.spending import Spent
from arena_llm.types import Price


@dataclass(frozen=True, slots=True)
class Job:
    """The input of a runner. It can be pickled.

    backend: answers the calls. results: path of the results file. record: path of the recording
    of all requests and replies; None: no recording. prices: of models, as far as known.
    network_disk: allow results on a network file system.
    """

    experiment: Experiment
    backend: Backend
    results: Path
    record: Path | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    network_disk: bool = False


@dataclass(slots=True)
class RunProgress:
    """How far a run is.

    total: all episodes of the experiment. episodes: ended episodes by status, of all runs;
    failed ones of this run only. others: those that other processes have ended meanwhile.
    elsewhere: episodes in play in other processes. playing: episodes in play. answers, illegal:
    models' answers in episodes that ended in this run. spent: of all runs. budget: used share of
    the tightest limit, 0 without a limit. budget_key: that limit's key. work, done: moves that
    models are expected to make in this run, and moves made. failures: reasons of this run's
    failed episodes. open: how many episodes stay open because of each reason. waiting: models that
    are waited for. lost: workers that died and were replaced. stopped: why no more episodes are
    started; "" while the run continues. remedy: how to play the rest. enough: why the rest is not
    needed. refused: by node of a cluster, why it gets no episodes.
    """

    total: int
    episodes: Counter[str] = field(default_factory=Counter)
    others: int = 0
    elsewhere: int = 0
    playing: int = 0
    answers: int = 0
    illegal: int = 0
    spent: Spent = field(default_factory=Spent)
    budget: float = 0.0
    budget_key: str = ""
    work: float = 0.0
    done: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)
    waiting: Mapping[str, Outage] = field(default_factory=dict)
    lost: int = 0
    stopped: str = ""
    remedy: str = ""
    enough: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
