"""What a runner is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from arena.experiment.file import Experiment
from arena.experiment.ledger import Backend


@dataclass(frozen=True, slots=True)
class Job:
    """An experiment, who answers its calls, and where its results go. It pickles.

    results: the file. record: where requests and replies are kept as well.
    """

    experiment: Experiment
    backend: Backend
    results: Path
    record: Path | None = None
