"""`make doctor`: checks this machine and this installation. A problem is one line with its fix."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from deploy import environment
from deploy.output import say
from deploy.probe import free_port_after, port_problem
from deploy.services import ROOT, selected_services
from deploy.supervisor import Supervisor
from services.common.config import ConfigError
from services.common.environment import read_env_file

#: Bytes that an installation, its models and its logs need.
_DISK = 2 * 10**9
#: Bytes of memory for the services with the embedded model.
_MEMORY = 3 * 10**9
#: Open files: each connection and each log is one.
_FILES = 1024


def doctor(supervisor: Supervisor) -> int:
    """Print the problems. Returns 0 if there are none, else 1."""
    problems = [problem for check in CHECKS for problem in check(supervisor)]
    for problem in problems:
        say(problem)
    if not problems:
        say("this machine and this installation are fine")
    return 1 if problems else 0


def _check_installation(supervisor: Supervisor) -> Iterator[str]:
    venv = ROOT / ".venv"
    if not (venv / environment.COMPLETE).exists():
        yield ".venv is missing or incomplete: run make setup"
    elif Path(sys.prefix).resolve() != venv.resolve():
        yield f"this runs in {sys.prefix}, not in .venv: use .venv/bin/python or make"
    for name in ("pyproject.toml", "uv.lock"):
        stamp = venv / environment.COMPLETE
        if stamp.exists() and (ROOT / name).stat().st_mtime > stamp.stat().st_mtime:
            yield f"{name} is newer than .venv: run make setup"
            return


def _check_machine(supervisor: Supervisor) -> Iterator[str]:
    free = shutil.disk_usage(ROOT).free
    if free < _DISK:
        yield f"{ROOT} has {free / 1e9:.1f} GB of disk left: free {_DISK / 1e9:.0f} GB"
    available = psutil.virtual_memory().available
    if available < _MEMORY:
        yield (
            f"{available / 1e9:.1f} GB of memory are available: the services with the embedded "
            f"model need {_MEMORY / 1e9:.0f} GB; end other programs, or lower memory_budget_gb"
        )
    if hasattr(psutil.Process, "rlimit"):  # Linux
        files, _ = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
        if 0 <= files < _FILES:
            yield f"a process may open {files} files: ulimit -n {_FILES}"


def _check_files(supervisor: Supervisor) -> Iterator[str]:
    _, problem = read_env_file(ROOT / ".env")
    if problem:
        yield problem
    for service in selected_services():
        try:
            service.check_config()
        except ConfigError as error:
            yield from str(error).splitlines()
        if not service.python.exists():
            yield f"{service.name} has no environment: make setup-{service.name}"
    folder = supervisor.run_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield f"{existing} cannot be written: choose another folder with ARENA_RUN_DIR"


def _check_processes(supervisor: Supervisor) -> Iterator[str]:
    """Ports that others hold, or services that do not run."""
    system = supervisor.inspect()
    if system.problem:
        yield system.problem
    if system.processes:
        for name, process in system.processes.items():
            if process.state != "RUNNING":
                yield f"{name} is {process.state}: make logs SERVICE={name} FOLLOW=0"
        return
    for service in selected_services():
        try:
            places = [(service.address, service.variable)]
            if service.metrics is not None:
                places.append((service.metrics, service.metrics_variable))
        except ConfigError:
            continue  # reported above
        for address, variable in places:
            if problem := port_problem(address):
                port = free_port_after(address) or "PORT"
                yield f"{service.name} cannot listen on {address}: {problem}: set {variable}={port}"


#: Each yields one line for each problem: what is wrong, and how to fix it.
CHECKS: Sequence[Callable[[Supervisor], Iterator[str]]] = (
    _check_installation,
    _check_machine,
    _check_files,
    _check_processes,
)
