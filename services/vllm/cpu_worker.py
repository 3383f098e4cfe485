"""The worker of engines on CPUs, which can read the prompt of a seeded request in pieces.

vLLM samples a token after each piece and takes the random numbers back by the offset of the
generator. A generator on a CPU has none, so vLLM's own worker dies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import vllm.v1.worker.cpu_worker
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker


class SeededModelRunner(CPUModelRunner):  # type: ignore[misc] # not typed
    """Restores the generators of requests whose prompt is not whole yet."""

    def _list_unfinished(self) -> list[int]:
        """The rows whose sampled token is discarded, and that have a seed."""
        rows = np.nonzero(self.discard_request_mask.np[: self.input_batch.num_reqs])[0]
        return [int(row) for row in rows if int(row) in self.input_batch.generators]

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        generators = self.input_batch.generators
        before = {row: generators[row].get_state() for row in self._list_unfinished()}
        sampled = super()._sample(*args, **kwargs)
        for row, state in before.items():
            generators[row].set_state(state)
        return sampled

    def _bookkeeping_sync(self, *args: Any, **kwargs: Any) -> Any:
        generators = self.input_batch.generators
        hidden = {row: generators.pop(row) for row in self._list_unfinished()}
        try:
            return super()._bookkeeping_sync(*args, **kwargs)
        finally:
            generators.update(hidden)


class SeededCpuWorker(CPUWorker):  # type: ignore[misc] # not typed
    """vLLM's worker with the SeededModelRunner."""


vllm.v1.worker.cpu_worker.CPUModelRunner = SeededModelRunner
