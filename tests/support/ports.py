"""Ports of this machine: free ones, and ones that refuse connections."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def refusing(count: int = 1) -> Iterator[list[str]]:
    """Yield addresses that refuse connections until the block ends.

    Their ports are bound but nothing listens. The system could give an unbound port to the
    next server, such as the router under test, which would then call itself.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        yield [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, and that no other test run gets meanwhile."""
    return list(itertools.islice(filter(_reserve, _candidates), count))


def _candidate_ports() -> Iterator[int]:
    """Yield the ports below those that the kernel gives to outgoing connections.

    The start is random, so that test runs at the same time seldom try the same port.
    """
    first, end = 10_000, 32_768
    with contextlib.suppress(FileNotFoundError):  # Linux only
        ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        end = max(int(ephemeral[0]), first + 1_000)
    start = random.SystemRandom().randrange(first, end)
    return itertools.cycle((*range(start, end), *range(first, start)))


_candidates = _candidate_ports()
#: Held until this process ends.
_reservations: list[socket.socket] = []


@atexit.register
def _release() -> None:
    """Close the reservations: an open socket at the end of Python is a warning."""
    for reservation in _reservations:
        reservation.close()


def _reserve(port: int) -> bool:
    """Reserve a port for this process; False if it is in use or reserved."""
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    if sys.platform == "linux":
        # An abstract socket: its name is free again when this process ends.
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0arena-llm-test-port-{port}")
        except OSError:
            reservation.close()
            return False
        _reservations.append(reservation)
    return True
