"""Several processes of one service on one port: the kernel gives each connection to one of them.

The first process reads the configuration, holds the port, and forks the workers before gRPC is in
use. It serves no call itself: it forwards signals, and replaces a worker that was killed.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from services.common.claims import IdClaims
from services.common.config import ConfigError
from services.common.log import log
from services.common.metrics import forget_metrics, forget_worker, share_metrics

#: Seconds between two starts of the same worker.
_PAUSE = 1.0
_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP})


@dataclass(frozen=True)
class Worker:
    """One of the processes, seen from inside.

    listen: host:port that all of them listen on. metrics: the same for their metrics; None: they
    have none. lifeline: a pipe that ends with the first process.
    """

    index: int
    listen: str
    claims: IdClaims
    lifeline: int
    metrics: str | None = None


def port_in_use(service: str, listen: str) -> ConfigError:
    """Return the error for an address on which a service cannot listen."""
    return ConfigError(
        f"{service}: cannot listen on {listen}: the port is in use, or the address is not this "
        "machine's; stop the process that holds the port, or configure another port"
    )


def run_workers(
    service: str,
    listen: str,
    count: int,
    run: Callable[[Worker], None],
    metrics: str | None = None,
) -> NoReturn:
    """Run `count` workers until SIGTERM or SIGINT, and exit.

    run: serves in a worker until SIGTERM; it ends with SystemExit. If a worker fails by itself,
    all end, and the exit status is 1. metrics: where the metrics of all are served; None: nowhere.
    Raises ConfigError if a port is in use.
    """
    held, listen = _hold_port(service, listen)
    if metrics is not None:
        more, metrics = _hold_port(f"{service}: metrics", metrics)
        held += more
        share_metrics()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    gc.collect()
    gc.freeze()  # the workers share the memory of these objects
    status = _Team(listen, count, run, metrics).run_to_end()
    for bound in held:
        bound.close()
    forget_metrics()
    sys.exit(status)


class _Team:
    """The running workers."""

    def __init__(
        self, listen: str, count: int, run: Callable[[Worker], None], metrics: str | None
    ) -> None:
        self._listen = listen
        self._metrics = metrics
        self._count = count
        self._run = run
        self._claims = IdClaims(count)
        #: Its writing end closes when this process ends, also when it is killed.
        self._lifeline, self._my_end = os.pipe()
        self._workers: dict[int, tuple[int, float]] = {}  # by pid: index, and when it started
        self._stops = 0
        self._status = 0

    def run_to_end(self) -> int:
        """Start the workers, and return the exit status when all have ended."""
        log.info("workers", count=self._count, address=self._listen, pid=os.getpid())
        for index in range(self._count):
            self._start(index)
        while self._workers:
            signum = signal.sigwait(_SIGNALS)
            if signum == signal.SIGCHLD:
                self._reap()
                continue
            if signum == signal.SIGHUP:
                self._send(signum)
                continue
            self._stop()
            if self._stops > 1:
                self._status = 128 + signum
        return self._status

    def _start(self, index: int) -> None:
        self._claims.close_port(index)
        pid = os.fork()
        if pid:
            self._workers[pid] = index, time.monotonic()
        else:
            self._serve(index)

    def _serve(self, index: int) -> NoReturn:
        """Serve in the worker, which never returns to the code that has forked it."""
        status = 1
        try:
            os.close(self._my_end)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._claims.enter(index)
            self._run(Worker(index, self._listen, self._claims, self._lifeline, self._metrics))
            status = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                sys.stderr.write(f"{end.code}\n")
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
        except BaseException:
            traceback.print_exc()
        finally:
            log.flush()
            os._exit(status)

    def _stop(self) -> None:
        self._stops += 1
        self._send(signal.SIGTERM)

    def _send(self, signum: int) -> None:
        for pid in self._workers:
            os.kill(pid, signum)

    def _reap(self) -> None:
        """Take note of the workers that have ended, and replace those that were killed."""
        while self._workers:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            index, started = self._workers.pop(pid)
            forget_worker(pid)
            status = os.waitstatus_to_exitcode(code)
            if self._stops:
                self._status = self._status or (status if status > 0 else int(status < 0))
            elif status > 0:  # it has logged why
                self._status = 1
                self._stop()
            else:
                log.error("a worker was killed", worker=index, pid=pid, signal=-status)
                time.sleep(max(0.0, started + _PAUSE - time.monotonic()))
                self._start(index)


def _hold_port(service: str, listen: str) -> tuple[list[socket.socket], str]:
    """Bind the port for the workers, without listening. Return the sockets and host:port.

    With SO_REUSEPORT a port that another service uses is no error, so it is tried without first.
    """
    host, _, text = listen.rpartition(":")
    port = int(text)
    held: list[socket.socket] = []
    try:
        places = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, place in places:
            place = (place[0], port, *place[2:])
            with socket.socket(family, socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(place)
            bound = socket.socket(family, socket.SOCK_STREAM)
            held.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(place)
            port = bound.getsockname()[1]
    except OSError as error:
        raise port_in_use(service, listen) from error
    return held, f"{host}:{port}"
