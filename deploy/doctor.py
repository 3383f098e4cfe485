"""`make doctor`: checks this machine and this installation. A problem is one line with its fix."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from dotenv.parser import parse_stream
from pydantic import BaseModel

from deploy import environment
from deploy.handshake import check_gateway, find_ip, is_for, read_certificate
from deploy.instances import ask_health
from deploy.managed import ManagedService
from deploy.output import say
from deploy.probe import free_port_after, port_problem, reachable
from deploy.services import ROOT, VLLM, find_service, selected_services
from deploy.supervisor import Supervisor
from services.common.config import ConfigError, ServerTls, load_config
from services.common.environment import is_readable, read_env_file
from services.common.listener import Certificates

#: Bytes that an installation, its models and its logs need.
_DISK = 2 * 10**9
#: Bytes of memory for the services with the embedded model.
_MEMORY = 3 * 10**9
#: Seconds before its end in which a certificate should be renewed.
_RENEW = 30 * 86_400
#: Files that a process must be able to open: each connection and each log is one.
_FILES = 1024


def doctor(supervisor: Supervisor) -> int:
    """Print the problems, and notes. Returns 0 if there are no problems, else 1."""
    problems = dict.fromkeys(problem for check in CHECKS for problem in check(supervisor))
    for problem in problems:
        say(problem)
    for note in list_notes():
        say(f"note: {note}")
    if not problems:
        say("this machine and this installation are fine")
    return 1 if problems else 0


def _check_installation(supervisor: Supervisor) -> Iterator[str]:
    venv = ROOT / ".venv"
    if not (venv / environment.COMPLETE).exists():
        yield ".venv is missing or incomplete: run make setup"
    elif Path(sys.prefix).resolve() != venv.resolve():
        yield f"this runs in {sys.prefix}, not in .venv: use .venv/bin/python or make"
    python = sys.version_info[:2]
    if not environment.OLDEST <= python <= environment.NEWEST:
        oldest, newest = (
            ".".join(map(str, one)) for one in (environment.OLDEST, environment.NEWEST)
        )
        yield (
            f".venv has Python {python[0]}.{python[1]}: install one from {oldest} to {newest}, and "
            f"run rm -r .venv && make setup PYTHON=python{newest}"
        )
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
    yield from _check_env()
    for service in selected_services():
        try:
            service.check_config()
            if service.name == "gateway":
                router = find_service("router")
                check_gateway(service.config_path, reachable(router.address), router.tls)
        except ConfigError as error:
            yield from str(error).splitlines()
        if not service.python.exists():
            yield f"{service.name} has no environment: make setup-{service.name}"
    folder = supervisor.run_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield f"{existing} cannot be written: choose another folder with ARENA_RUN_DIR"


def _check_env() -> Iterator[str]:
    """What is wrong, and what is odd, in .env. Values are not shown: they may be keys."""
    path = ROOT / ".env"
    values, problem = read_env_file(path)
    if problem:
        yield problem
    if not values:
        return
    if path.stat().st_mode & 0o077:
        yield f"{path} has keys, and other users can read it: chmod 600 {path}"
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        counts = Counter(one.key for one in parse_stream(file) if one.key)
    for name, value in values.items():
        if counts[name] > 1:
            yield f"{path}: {name} is set {counts[name]} times, and the last counts: keep one line"
        if value is None:
            yield f"{path}: {name} has no value: write {name}=VALUE"
        elif name.endswith("_API_KEY") and is_readable(value) and not _PLAIN.fullmatch(value):
            yield f"{path}: {name} has a space or a character that no key has: copy the key again"


#: What a key consists of.
_PLAIN = re.compile(r"[!-~]*")


def _check_secrets(supervisor: Supervisor) -> Iterator[str]:
    """Certificates that have ended or soon will, and files of secrets that others can read."""
    for service in selected_services():
        try:
            service.caller_tls  # noqa: B018 - it says what is missing
            config = load_config(service.config_path, _Secrets)
        except ConfigError as error:
            yield from str(error).splitlines()
            continue
        if config.tls is not None:
            yield from _check_certificate(service, config.tls)
        tokens = Path(config.tokens) if config.tokens else None
        for path in (tokens, config.tls.key if config.tls else None):
            if path is not None and path.exists() and path.stat().st_mode & 0o077:
                yield f"{service.name}: {path} can be read by other users: chmod 600 {path}"


class _Secrets(BaseModel):
    """The parts of a configuration that name files of secrets."""

    tls: ServerTls | None = None
    tokens: str | None = None  # empty: no tokens


def _check_certificate(service: ManagedService, tls: ServerTls) -> Iterator[str]:
    try:
        Certificates(tls).credentials()
        found = read_certificate(tls.certificate)
    except (ConfigError, OSError) as error:
        yield f"{service.name}: {error}; `make certs` makes new ones"
        return
    seconds = ssl.cert_time_to_seconds(found["notAfter"]) - time.time()
    if seconds < _RENEW:
        when = "has ended" if seconds < 0 else "ends"
        yield (
            f"{service.name}: the certificate {tls.certificate} {when} ({found['notAfter']}): "
            "run make certs"
        )
    if seconds < 0:
        return
    try:
        service.check_tls()
    except ConfigError as error:
        yield f"{error}"
        return
    host = service.address.rpartition(":")[0]
    address = find_ip(host)
    if address and not address.is_unspecified and not is_for(found["subjectAltName"], host):
        yield (
            f"{service.name}: the certificate {tls.certificate} is not for {host}, on which it "
            f'listens: run make certs HOSTS="{host} ...", or let callers set ARENA_LLM_SERVER_NAME'
        )


def _check_processes(supervisor: Supervisor) -> Iterator[str]:
    """Ports that others hold, or services that do not run."""
    system = supervisor.inspect()
    if system.problem:
        yield system.problem
    if system.processes:
        for name, process in system.processes.items():
            if process.state != "RUNNING":
                yield f"{name} is {process.state}: make logs SERVICE={name} FOLLOW=0"
            elif (address := supervisor.addresses().get(name)) and (
                found := ask_health(name, address)
            ) != "SERVING":
                yield (
                    f"{name} runs and is {found} at {address}: make logs SERVICE={name} FOLLOW=0; "
                    f"if its tls has changed, make restart SERVICE={name}; if its address has, "
                    "make down && make up"
                )
        return
    places = []
    for service in selected_services():
        with suppress(ConfigError):  # it is reported above
            places.append((service.name, service.address, service.variable))
            if service.metrics is not None:
                places.append((service.name, service.metrics, service.metrics_variable))
    taken = {address for _, address, _ in places}
    for name, address, variable in places:
        if problem := port_problem(address):
            port = free_port_after(address, taken)
            taken.add(f"{address.rpartition(':')[0]}:{port}")
            yield f"{name} cannot listen on {address}: {problem}: set {variable}={port or 'PORT'}"


def list_notes() -> Iterator[str]:
    """What is missing for some calls only: keys of providers, and the environment of vLLM."""
    for service in selected_services():
        try:
            missing = service.count_uncallable()
        except ConfigError:
            continue  # a problem
        if missing:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(missing.items()))
            yield (
                f"{service.name}: keys of listed models are not set (the number of models): "
                f"{names}: put those that you have into .env"
            )
    with suppress(ConfigError, KeyError):
        router = find_service("router").read_config()
        if "vllm_" in router.routes and not VLLM.python.exists():
            yield "vllm has a route and no environment: make setup-vllm, then make up VLLM=1"


#: Each yields one line for each problem: what is wrong, and how to fix it.
CHECKS: Sequence[Callable[[Supervisor], Iterator[str]]] = (
    _check_installation,
    _check_machine,
    _check_files,
    _check_secrets,
    _check_processes,
)
