"""What both clients are, apart from their I/O."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from arena_llm._attempt import Attempt
from arena_llm._channel import Link
from arena_llm._request import Call
from arena_llm.connection import resolve_target

T = TypeVar("T")

#: Seconds: long enough for a long completion behind a full queue.
DEFAULT_TIMEOUT = 600.0


class BaseClient:
    """A target, a default timeout, and a link that connects on first use."""

    _link_type: ClassVar[type[Link]]

    def __init__(self, target: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._link = self._link_type(resolve_target(target))

    @property
    def target(self) -> str:
        """Where calls go."""
        return self._link.target

    def __reduce__(self) -> tuple[Any, ...]:
        # A connection cannot travel; its address can.
        return _restore, (type(self), self.target, self.timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r}, timeout={self.timeout:g})"

    def _attempt(self, call: Call[T], timeout: float | None) -> Attempt[T]:
        return Attempt(self._link, call, self.timeout if timeout is None else timeout)


def _restore(cls: type[BaseClient], target: str, timeout: float) -> BaseClient:
    return cls(target, timeout=timeout)
