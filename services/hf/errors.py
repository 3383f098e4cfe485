"""Failed passes: finds out whether the model is at fault, and makes the error."""

from __future__ import annotations

import sys
import traceback

from services.common.errors import (
    BackendError,
    ModelMisconfigured,
    Overloaded,
    UpstreamUnavailable,
)
from services.common.log import list_frames, log
from services.hf.forward import Forward, finite_rows
from services.hf.memory import release_memory

#: What torch and OpenVINO say if an allocation on the CPU fails.
_NO_MEMORY = ("can't allocate memory", "bad_alloc")


def try_out(forward: Forward, prompt: list[int]) -> None:
    """Read a prompt and take one step, without the prefix cache.

    Raises what a pass raises, and FloatingPointError if the logits are not finite.
    """
    uncached = forward.uncached()
    with uncached.thread_context():
        work = uncached.prefill([prompt])
        while True:
            try:
                next(work)
            except StopIteration as stop:
                [prefilled] = stop.value
                break
        batch = uncached.new_batch()
        batch.join([prefilled])
        try:
            for logits in (prefilled.logits, batch.step([[prompt[-1]]])):
                if not all(finite_rows(logits.reshape(1, -1))):
                    raise FloatingPointError("it computes NaN or infinity")
        finally:
            batch.close()


def diagnose(name: str, forward: Forward, test_prompt: list[int], error: Exception) -> BackendError:
    """The error for the requests of a failed pass.

    It is ModelMisconfigured if the model cannot read its test prompt either.
    """
    log_failure(name, error)
    try:
        if not is_out_of_memory(error):
            try_out(forward, test_prompt)
    except Exception as second_error:
        if not is_out_of_memory(second_error):
            return make_dead_error(name, second_error)
        error = second_error
    if is_out_of_memory(error):
        traceback.clear_frames(error.__traceback__)  # they hold the pass's tensors
        release_memory()
        return Overloaded(
            f"{name} has no memory left for this call: shorten it, send fewer calls at the same "
            "time, or lower memory_budget_gb in the hf service's configuration",
            retry_after=1.0,
        )
    return UpstreamUnavailable(
        f"{name} failed on this call or on another one in the same pass ({type(error).__name__}, "
        "see the service's log): try again; if it fails each time, the model cannot read this input"
    )


def make_dead_error(name: str, error: BaseException) -> ModelMisconfigured:
    """The error for the requests of an engine that `error` has ended.

    The message quotes `error`, because it was not caused by a caller's input.
    """
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ModelMisconfigured(
        f"{name} cannot run any more ({why}); it was unloaded, and a later call loads it again"
    )


def log_failure(name: str, error: Exception) -> None:
    """Log where a pass failed, without the error's text, which may repeat a prompt."""
    log.error("pass", model=name, type=type(error).__qualname__, frames=list_frames(error))


def is_out_of_memory(error: Exception) -> bool:
    """True if an allocation failed, on the CPU or a GPU."""
    # torch raises its own error, a RuntimeError, for a GPU; and a plain one for the CPU, as
    # OpenVINO does.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (
            type(error).__name__ == "OutOfMemoryError"
            or any(text in str(error) for text in _NO_MEMORY)
        )
    )


def is_device_lost(device: str) -> bool:
    """True if every computation on the device (cpu or cuda) fails in this process.

    CUDA does so after some errors, such as an illegal access. A new process can use the device.
    """
    torch = sys.modules.get("torch")
    if torch is None or device == "cpu":
        return False
    try:
        torch.ones(1, device=device).sum().item()
    except Exception as error:
        return not is_out_of_memory(error)
    return False
