"""`python -m deploy COMMAND`: what the Makefile calls."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from arena_llm import ArenaError
from deploy.probe import health, memory, reachable
from deploy.services import ROOT, SERVICES, VLLM, run_dir, wanted
from deploy.supervisor import DeployError, Process, Supervisor
from deploy.up import prepare, say, up
from services.common.config import ConfigError, load_dotenv


def main() -> None:
    arguments = _parser().parse_args()
    os.chdir(ROOT)
    load_dotenv(("ARENA_*",))  # keys stay in the services that need them
    supervisor = Supervisor(run_dir())
    try:
        sys.exit(_run(arguments, supervisor))
    except (DeployError, ConfigError, ArenaError) as error:
        sys.exit(f"{arguments.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "prepare", "target", "grpcurl"):
        commands.add_parser(name)
    commands.add_parser("status").add_argument("--json", action="store_true")
    logs = commands.add_parser("logs")
    logs.add_argument("--service", choices=[s.name for s in (*SERVICES, VLLM)])
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
            prepare()
        case "target":
            say(target(supervisor))
        case "grpcurl":
            say(grpcurl())
        case "status":
            return status(supervisor, as_json=arguments.json)
        case "logs":
            logs(supervisor, arguments.service, arguments.lines, follow=arguments.follow)
    return 0


def down(supervisor: Supervisor) -> int:
    """Stop everything; calls in flight may end first. The logs stay."""
    with supervisor.lock():
        say("down" if supervisor.stop() else "nothing was up")
    return 0


def addresses(supervisor: Supervisor) -> dict[str, str]:
    """Where the services listen, or would."""
    if supervisor.processes():
        return supervisor.addresses()
    return {service.name: service.address for service in wanted()}


def target(supervisor: Supervisor) -> str:
    """What ARENA_LLM_TARGET must be for this system."""
    return reachable(addresses(supervisor)["router"])


def status(supervisor: Supervisor, *, as_json: bool) -> int:
    """Show each service; 0 if all of them serve, else 1."""
    processes = supervisor.processes()
    rows: list[dict[str, str | int | None]] = []
    for name, address in addresses(supervisor).items():
        process = processes.get(name, Process("STOPPED", 0))
        row = {
            "service": name,
            "state": process.state,
            "pid": process.pid or None,
            "health": health(address) if process.pid else None,
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
    return 0 if all(row["health"] == "SERVING" for row in rows) else 1


def logs(supervisor: Supervisor, service: str | None, lines: int, *, follow: bool) -> None:
    """Show the ends of the logs, and on a terminal go on showing what comes."""
    names = [service] if service else [s.name for s in (*SERVICES, VLLM)]
    files = [str(path) for path in map(supervisor.log, names) if path.exists()]
    if not files:
        raise DeployError(f"no logs in {supervisor.run_dir / 'logs'}: make up writes them")
    follow = follow and sys.stdout.isatty()
    sys.stdout.flush()
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), *files])  # noqa: S606, S607


def grpcurl() -> str:
    """The path of a grpcurl that runs: the environment's, else the system's."""
    candidates = (Path(sys.executable).with_name("grpcurl"), shutil.which("grpcurl"))
    for path in filter(None, candidates):
        try:
            command = [str(path), "-version"]
            if not subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603
                return str(path)
        except OSError:
            continue
    raise DeployError("no grpcurl runs here: install it with this system's package manager")
