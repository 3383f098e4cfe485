"""Failed passes: whether the model is at fault, and the error that the requests get."""

from __future__ import annotations

import traceback
from copy import copy

import structlog
import torch

from services.common.errors import (
    BackendError,
    ModelMisconfigured,
    Overloaded,
    UpstreamUnavailable,
)
from services.hf.forward import Forward, finite_rows
from services.hf.tuning import is_out_of_memory, release_memory

log = structlog.get_logger()


@torch.inference_mode()
def try_out(forward: Forward, prompt: list[int]) -> None:
    """Read a prompt and take one step, without the prefix cache.

    Raises what a pass raises, and FloatingPointError if the logits are not finite.
    """
    uncached = copy(forward)
    uncached.prefixes = None
    work = uncached.prefill([prompt])
    while True:
        try:
            next(work)
        except StopIteration as stop:
            [read] = stop.value
            break
    batch = uncached.new_batch()
    batch.join([read])
    for logits in (read.logits, batch.step([[prompt[-1]]])):
        if not all(finite_rows(logits.reshape(1, -1))):
            raise FloatingPointError("it computes NaN or infinity")


def diagnosed(
    name: str, forward: Forward, test_prompt: list[int], error: Exception
) -> BackendError:
    """The error for the requests of a failed pass.

    It is ModelMisconfigured if the model cannot read its test prompt either.
    """
    log_failure(name, error)
    try:
        if not is_out_of_memory(error):
            try_out(forward, test_prompt)
    except Exception as again:
        if not is_out_of_memory(again):
            return dead(name, again)
        error = again
    if is_out_of_memory(error):
        traceback.clear_frames(error.__traceback__)  # they hold the pass's tensors
        release_memory()
        return Overloaded(
            f"{name} has no memory left for this call: shorten it, send fewer at once, or lower "
            "max_batch and max_cache_tokens in configs/hf_models.yaml",
            retry_after=1.0,
        )
    return UpstreamUnavailable(
        f"{name} failed on this call or on another one in the same pass ({type(error).__name__}, "
        "see the service's log): try again; if it fails each time, the model cannot read this input"
    )


def dead(name: str, error: BaseException) -> ModelMisconfigured:
    """The error for the requests of an engine that `error` has ended.

    The message quotes it, because it does not come from a caller's input.
    """
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ModelMisconfigured(
        f"{name} cannot run any more ({why}); it was unloaded, and a later call loads it again"
    )


def log_failure(name: str, error: Exception) -> None:
    """Log where a pass failed, without the error's text, which may repeat a prompt."""
    frames = [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    log.error("pass", model=name, type=type(error).__qualname__, frames=frames)
