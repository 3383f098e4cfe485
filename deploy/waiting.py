"""Waits until processes serve."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deploy.instances import split_name
from deploy.probe import health
from deploy.services import find_service
from deploy.supervisor import DeployError, Supervisor

#: Seconds until every process must be serving; a large model takes long to load.
UP_TIMEOUT = 600.0


def wait_serving(supervisor: Supervisor, names: Sequence[str]) -> None:
    """Wait until all serve. Raises DeployError if one has crashed, or at the time limit."""
    listening = supervisor.addresses()
    waiting = list(names)
    first_pids: dict[str, int] = {}
    give_up = time.monotonic() + UP_TIMEOUT
    while waiting:
        # Look at the processes before the health, so that a crash in between is noticed.
        processes = supervisor.processes()
        for name in waiting.copy():
            service = find_service(split_name(name)[0])
            tls, over_http = service.caller_tls, service.speaks_http
            if health(listening[name], tls, over_http=over_http) == "SERVING":
                waiting.remove(name)
                continue
            process = processes.get(name)
            if process is None:
                raise _failure(supervisor, name, "does not run")
            pid = first_pids.setdefault(name, process.pid)
            if process.state not in ("STARTING", "RUNNING") or process.pid != pid:
                raise _failure(supervisor, name, f"does not stay up {process.problem}".rstrip())
        if waiting and time.monotonic() > give_up:
            raise _failure(supervisor, waiting[0], f"is not serving after {UP_TIMEOUT:.0f} s")
        if waiting:
            time.sleep(0.2)


def _failure(supervisor: Supervisor, name: str, what: str) -> DeployError:
    lines = supervisor.log_lines(name)[-20:] or ["(empty)"]
    return DeployError("\n".join([f"{name} {what}; the end of {supervisor.log(name)}:", *lines]))
