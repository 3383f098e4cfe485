"""Checks a user's class against the base class that it extends."""

from __future__ import annotations

import inspect
from typing import Any


def find_problem(found: type, base: type) -> str:
    """Say what is wrong with the methods of a subclass; "" if nothing is.

    It finds a missing method, one that is not `async` although that of the base class is, and one
    that does not accept the parameters of the base class. A method without `async` may return an
    async generator if its annotation says so.
    """
    where = f"see {base.__module__}.{base.__qualname__}"
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        return f"lacks {', '.join(missing)}; {where}"
    for name, member in vars(base).items():
        expected, own = _find_function(member), _find_function(inspect.getattr_static(found, name))
        if expected is None or own is None or own is expected:
            continue
        if (kind := _kind(expected)) != _kind(own) and not _returns_generator(own, expected):
            return f"must define {name} with {kind}, not {_kind(own)}; {where}"
        signature, parameters = inspect.signature(own), inspect.signature(expected).parameters
        try:
            signature.bind(*parameters)
        except TypeError:
            names = ", ".join(parameters)
            return f"must define {name} with ({names}), not {signature}; {where}"
    return ""


def _find_function(member: Any) -> Any:
    """The function of a method, without its decorators; None for anything else."""
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    return inspect.unwrap(member) if inspect.isfunction(member) else None


def _returns_generator(own: Any, expected: Any) -> bool:
    annotation = str(own.__annotations__.get("return", ""))
    return (
        inspect.isasyncgenfunction(expected)
        and not inspect.iscoroutinefunction(own)
        and annotation.removeprefix("collections.abc.").startswith("AsyncGenerator[")
    )


def _kind(function: Any) -> str:
    if inspect.isasyncgenfunction(function):
        return "`async def` with yield"
    return "`async def`" if inspect.iscoroutinefunction(function) else "`def`"
