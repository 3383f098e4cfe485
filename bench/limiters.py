"""Limits of providers, as models: which calls they let in, and which they refuse."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Limiter(Protocol):
    """A provider's limit."""

    def arrive(self, now: float) -> bool:
        """Whether a call that arrives now is let in."""

    def end(self) -> None:
        """A call that was let in has been answered."""

    def hint(self, now: float) -> float:
        """The seconds until a call is let in again."""


class TokenBucket:
    """rate: calls per second. change: (time, rate) of a later limit."""

    def __init__(
        self, rate: float = 50, burst: float = 10, change: tuple[float, float] | None = None
    ) -> None:
        self._rate, self._burst, self._change = rate, burst, change
        self._level, self._time = burst, 0.0

    def arrive(self, now: float) -> bool:
        if self._change and now >= self._change[0]:
            self._rate, self._change = self._change[1], None
        self._level = min(self._burst, self._level + (now - self._time) * self._rate)
        self._time = now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def end(self) -> None: ...

    def hint(self, now: float) -> float:
        return (1 - self._level) / self._rate


class FixedWindow:
    """rate: calls per second, on average over a window of so many seconds."""

    def __init__(self, seconds: float, rate: float = 50) -> None:
        self._seconds, self._most = seconds, rate * seconds
        self._window = self._count = 0

    def arrive(self, now: float) -> bool:
        if (window := int(now // self._seconds)) != self._window:
            self._window, self._count = window, 0
        if self._count >= self._most:
            return False
        self._count += 1
        return True

    def end(self) -> None: ...

    def hint(self, now: float) -> float:
        return (self._window + 1) * self._seconds - now


class SlidingWindow:
    """The same, over the last seconds."""

    def __init__(self, seconds: float, rate: float = 50) -> None:
        self._seconds, self._most = seconds, rate * seconds
        self._times: deque[float] = deque()

    def arrive(self, now: float) -> bool:
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        if len(self._times) >= self._most:
            return False
        self._times.append(now)
        return True

    def end(self) -> None: ...

    def hint(self, now: float) -> float:
        return self._times[0] + self._seconds - now


class InFlight:
    """places: calls at the same time."""

    def __init__(self, places: int) -> None:
        self._free = places

    def arrive(self, now: float) -> bool:
        if not self._free:
            return False
        self._free -= 1
        return True

    def end(self) -> None:
        self._free += 1

    def hint(self, now: float) -> float:
        return 1.0
