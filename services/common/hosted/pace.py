"""When the next call to a provider may be sent: learns its limits from what it refuses.

A refusal (HTTP 429) is a normal signal. While calls are refused, the model is paused, and only one
call at a time, the probe, finds out whether it is open again. The granted rate is learned, raised a
little to test it, and forgotten after a time; in_flight.py learns a bound on calls in flight. A
burst of refusals counts once. The time that a provider asks callers to wait can only make a probe
earlier, because it is often wrong.

Pure arithmetic over times in seconds: `limits.py` has the callers, the queue and the clock. The
algorithm and its parameters were found by simulation over 57 kinds of limit;
tests/unit/common/hosted/test_pace.py has the most important ones.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from services.common.hosted.in_flight import InFlightBound

#: The most calls, at the start, that are neither let in nor refused. Each call let in adds one.
_FIRST_UNDECIDED = 16
#: Seconds after which a call without a refusal counts as let in, until a refusal has been timed.
_FIRST_SILENCE = 0.3
#: The same, as a multiple of the slowest recent refusal, and its bounds.
_SILENCE_FACTOR, _MIN_SILENCE, _MAX_SILENCE = 1.3, 0.05, 5.0
#: The share by which the rate grows in a second: its smallest value, its largest value, and the
#: seconds in which it doubles.
_MIN_GROWTH, _MAX_GROWTH, _GROWTH_DOUBLES = 0.012, 1.0, 1.2
#: The rate grows to at most this many times the average of these last seconds. At a higher one,
#: many calls would be refused at the end of a window before the first refusal arrives.
_MOST_RATE, _AVERAGED = 2.0, 10.0
#: The longest time between two grants for which the rate grows.
_MAX_STEP = 1.0
#: The first learned rate is at least this, in calls per second.
_FIRST_RATE = 30.0
#: Seconds before a probe: before the very first one, at least, and at most.
_FIRST_INTERVAL, _MIN_INTERVAL, _MAX_INTERVAL = 0.05, 0.01, 60.0
#: A refusal after this many grants and seconds since the last cut only lowers the rate by a factor.
_SOFT_GRANTS, _SOFT_SECONDS, _SOFT_CUT = 15, 0.2, 0.99
#: Seconds. A longer pause is taken for the rest of a provider's window.
_WINDOW = 2.0
#: Calls that are late, because the event loop was busy, are sent together: up to this many seconds
#: of them.
_CATCH_UP = 0.1
#: Seconds without a call, or without a refusal, after which everything is forgotten.
_FORGET = 600.0


@dataclass(slots=True, eq=False)
class Sent:
    """A call that was sent. in_flight: calls on their way when it was sent, with itself.

    is_known: whether it was let in or refused. ended: the pause that it ended without an answer.
    """

    at: float
    in_flight: int
    is_probe: bool = False
    is_known: bool = False
    ended: _Pause | None = None


class _Known(NamedTuple):
    """What was known when a pause ended. It is restored if the pause had not really ended."""

    rate: float
    growth: float
    first_interval: float
    opened: float
    grants: int


@dataclass(slots=True)
class _Pause:
    """since: its beginning. interval: seconds between probes. due: when the next probe may be sent.

    before: what was known when it ended, to restore.
    """

    since: float
    interval: float
    due: float
    before: _Known | None = None
    probe: Sent | None = None
    refused: int = 0


class Pacer:
    """The learned limits of one model with one key.

    now: on any clock, in seconds. max_in_flight: the configured bound. max_rate: the configured
    calls per second, where the rate starts and which it never exceeds; infinite if it is not known.
    """

    def __init__(self, now: float, max_in_flight: int, max_rate: float = math.inf) -> None:
        self.max_in_flight = max_in_flight
        self.max_rate = max_rate
        self.in_flight = 0
        self._undecided: deque[Sent] = deque()  # in the order in which they were sent
        self._reset(now)

    def _reset(self, now: float) -> None:
        self.rate = self.max_rate
        self._next = now
        self._growth = 1.0
        self._grown = now
        self._max_undecided = _FIRST_UNDECIDED if math.isinf(self.max_rate) else 2**31
        self._silence = _FIRST_SILENCE
        self._delays: deque[float] = deque(maxlen=64)  # between sending and refusal
        self.pause: _Pause | None = None
        self._first_interval = _FIRST_INTERVAL
        #: The last pause, opening or cut. Refusals of calls that were sent earlier do not count.
        self._changed = -math.inf
        self._cut = self._opened = self._began = now
        self._grants = self._total = 0
        self._average, self._granted_at = 0.0, now  # calls per second that are let in
        self._paused_before = False
        self._places = InFlightBound()
        self._refused_at = self._used_at = now

    def next_send(self, now: float) -> float:
        """Return when a call may be sent; infinity: not before something else happens."""
        self._settle(now)
        if self.pause is not None:
            if self.pause.probe is not None:
                return self.pause.probe.at + self._silence
            return self.pause.due
        if self.in_flight >= min(self.max_in_flight, self._places.bound):
            return math.inf
        most: float = self._max_undecided
        if not math.isinf(self.rate):
            most = max(most, 2 * self.rate * self._silence)
        if len(self._undecided) >= most:
            return self._undecided[0].at + self._silence
        return self._next

    def send(self, now: float) -> Sent:
        """Count a call that is sent now."""
        if now - self._used_at > _FORGET or now - self._refused_at > _FORGET:
            in_flight, self._undecided = self.in_flight, deque()
            self._reset(now)
            self.in_flight = in_flight
            self._refused_at = now
        self._used_at = now
        self.in_flight += 1
        sent = Sent(now, self.in_flight)
        if self.pause is not None:
            sent.is_probe = True
            self.pause.probe = sent
        elif not math.isinf(self.rate):
            self._next = max(self._next, now - _CATCH_UP) + 1 / self.rate
        self._undecided.append(sent)
        return sent

    def answer(self, sent: Sent, now: float, waiting: bool) -> None:
        """A call was answered, or failed for another reason than a limit.

        waiting: whether other calls wait to be sent.
        """
        self._settle(now)
        self.in_flight -= 1
        if not sent.is_known:
            self._undecided.remove(sent)
            self._let_in(sent, now, waiting)

    def drop(self, sent: Sent, now: float) -> None:
        """The caller of a call has left, so the call's outcome stays unknown."""
        self.in_flight -= 1
        if not sent.is_known:
            sent.is_known = True
            self._undecided.remove(sent)
        if self.pause is not None and self.pause.probe is sent:
            self.pause.probe = None
            self.pause.due = now

    def refuse(self, sent: Sent, now: float, hint: float | None = None) -> None:
        """A call was refused. hint: the seconds that the provider asks for."""
        self.in_flight -= 1
        self._refused_at = now
        if not sent.is_known:
            self._undecided.remove(sent)
            sent.is_known = True
        self._delays.append(now - sent.at)
        silence = _SILENCE_FACTOR * max(self._delays)
        self._silence = min(max(silence, _MIN_SILENCE), _MAX_SILENCE)
        self._settle(now)
        pause = self.pause
        if pause is not None:
            if pause.probe is sent:
                self._refuse_probe(pause, now, hint)
        elif sent.ended is not None and sent.ended.since >= self._opened_from:
            self._shut_again(sent.ended, now, hint)
        elif sent.at >= self._changed:
            self._count_refusal(sent, now, hint)

    def _settle(self, now: float) -> None:
        """Count calls as let in that have had no refusal for long enough."""
        while self._undecided and self._undecided[0].at + self._silence <= now:
            sent = self._undecided.popleft()
            if sent.is_probe:
                sent.ended = self.pause
            self._let_in(sent, now, waiting=True)

    def _let_in(self, sent: Sent, now: float, waiting: bool) -> None:
        sent.is_known = True
        self._grants += 1
        self._total += 1
        self._average *= math.exp((self._granted_at - now) / _AVERAGED)
        self._average += 1 / _AVERAGED
        self._granted_at = now
        self._places.let_in(sent.in_flight, now)
        if self.pause is not None:
            if self.pause.probe is sent:
                self._open(self.pause, now)
            return
        if math.isinf(self.rate):
            self._max_undecided += 1
        elif waiting and self.in_flight + 1 < min(self.max_in_flight, self._places.bound):
            step = min(now - self._grown, _MAX_STEP)
            # At the beginning, the average covers less than its whole time.
            seen = max(1 - math.exp((self._began - now) / _AVERAGED), 1e-3)
            most = _MOST_RATE * max(self._average / seen, _FIRST_RATE)
            grown = min(self.rate * (1 + self._growth * step), self.max_rate, most)
            self.rate = max(self.rate, grown)
            self._growth = min(self._growth * 2 ** (step / _GROWTH_DOUBLES), _MAX_GROWTH)
        self._grown = now

    def _count_refusal(self, sent: Sent, now: float, hint: float | None) -> None:
        """The first refusal of a burst."""
        if self._places.refuse(sent.in_flight, now):
            self._changed = now
            return
        learned = not math.isinf(self.rate)
        if learned and self._grants >= _SOFT_GRANTS and now - self._cut >= _SOFT_SECONDS:
            self.rate *= _SOFT_CUT
            self._shrink_growth()
            self._next = max(self._next, now) + 1 / self.rate
            self._cut = self._changed = now
            return
        if not self._paused_before:
            self._paused_before = True
            self.rate = min(
                max(_FIRST_RATE, self._total / max(now - self._began, 1e-3)), self.max_rate
            )
        wait = self._first_interval if hint is None else min(hint, self._first_interval)
        self.pause = _Pause(now, self._first_interval, now + max(wait, _MIN_INTERVAL))
        self._changed = now

    def _refuse_probe(self, pause: _Pause, now: float, hint: float | None) -> None:
        pause.probe = None
        pause.refused += 1
        if pause.refused > 1:
            average = self._total / max(now - self._began, 1e-3)
            longest = min(max(1.0, 7 / max(average, 1e-3)), _MAX_INTERVAL)
            pause.interval = min(2 * pause.interval, longest)
        wait = pause.interval if hint is None else min(hint, pause.interval)
        pause.due = now + max(wait, _MIN_INTERVAL)

    def _shut_again(self, pause: _Pause, now: float, hint: float | None) -> None:
        """Resume a pause: the probe that ended it was refused after all."""
        if pause.before is not None:
            grants = self._grants
            self.rate, self._growth, self._first_interval, self._opened, self._grants = pause.before
            self._grants += grants
        self.pause = pause
        self._changed = now
        self._refuse_probe(pause, now, hint)

    def _open(self, pause: _Pause, now: float) -> None:
        """The probe was let in: the pause ends."""
        length, cycle = now - pause.since, now - self._opened
        pause.before = _Known(
            self.rate, self._growth, self._first_interval, self._opened, self._grants
        )
        self._first_interval = max(length / 2, _MIN_INTERVAL)
        if length > _WINDOW:
            self.rate = min(self.rate, 1.1 * self._grants / max(cycle, 1e-3), self.max_rate)
        elif self._grants < _SOFT_GRANTS or cycle < 6 * length:
            self.rate *= 0.95
        if self._opened > self._began:
            self._shrink_growth()
        self.pause = None
        self._opened_from = pause.since
        self._opened = self._cut = self._changed = self._grown = now
        self._grants = 0
        self._next = now + (0 if math.isinf(self.rate) else 1 / self.rate)

    _opened_from = -math.inf

    def _shrink_growth(self) -> None:
        self._growth = max(self._growth / 16, _MIN_GROWTH)
