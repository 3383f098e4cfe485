"""What other people's code does to end a thread, it does to its own call alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def contained(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call, and raise what is no Exception as one.

    SystemExit of a model's own code would end the service, and after a panic of a library in
    Rust, which is a BaseException, the caller would get no answer.
    """
    try:
        return call(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
