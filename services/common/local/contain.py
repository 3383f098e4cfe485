"""Errors of other people's code that would end a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def contained(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call, and raise a BaseException of the call as a RuntimeError.

    A model's own code may raise SystemExit, which would end the service. A library in Rust that
    panics raises a BaseException too, after which the caller would get no answer.
    """
    try:
        return call(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
