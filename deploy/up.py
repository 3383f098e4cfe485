"""`make up`: from nothing to a system that has answered once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from arena_llm import Client
from deploy.output import complain, say
from deploy.probe import health, port_problem, reachable
from deploy.services import ROOT, SERVICES, VLLM, Service, wanted
from deploy.supervisor import DeployError, Supervisor

MODEL = "hf_smollm2-135m-instruct"
PROMPT = "What is the capital of France?"

#: Seconds until every service must be serving; a large model takes its time to load.
_UP_TIMEOUT = 600.0

#: Seconds until the router must have connected to them. It retries at least once a second.
_CONNECT_TIMEOUT = 10.0


def up(supervisor: Supervisor) -> None:
    """Start what does not run, wait until all of it serves, and ask it once.

    Raises DeployError; what this call started is then stopped again.
    """
    with supervisor.lock():
        seen = supervisor.look()
        if seen.managed:
            running = _running(addresses(supervisor))
            if not seen.problem:
                supervisor.revive()
            _wait_serving(supervisor, running)
            say(f"already up: {_list(addresses(supervisor))}")
            if seen.problem:
                complain(seen.problem)
            _ask(supervisor)
            return
        if supervisor.stop():
            say("stopped what an earlier process manager had left")
        services = wanted()
        free = _free_addresses(services)
        prepare()
        try:
            supervisor.start(services, free)
            _wait_serving(supervisor, services)
            say(f"up: {_list(free)}")
            _ask(supervisor)
        except BaseException:
            supervisor.stop()
            raise


def prepare() -> None:
    """Make what services need before they start, such as the embedded model."""
    for service in SERVICES:
        if service.prepare:
            say(f"preparing {service.name}")
            command = [sys.executable, "-m", service.prepare]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise DeployError(f"{service.name}: python -m {service.prepare} failed: {reason}")


def addresses(supervisor: Supervisor) -> dict[str, str]:
    """Where the services listen, or would."""
    return supervisor.addresses() or {service.name: service.address for service in wanted()}


def _list(listening: dict[str, str]) -> str:
    return ", ".join(f"{name} on {address}" for name, address in listening.items())


def _free_addresses(services: Sequence[Service]) -> dict[str, str]:
    """The address of each service, all free. Raises DeployError."""
    taken: dict[str, str] = {}
    for service in services:
        if not service.python.exists():
            raise DeployError(f"{service.name} has no environment: make setup-{service.name}")
        address = service.address
        if address.endswith(":0"):
            raise DeployError(
                f"{service.name} cannot listen on {address}: the other services must know its "
                f"port, so choose one from 1 to 65535: make up {service.variable}=PORT"
            )
        problem = port_problem(address)
        if address in taken.values():
            problem = "another service of this system has the same address"
        if problem:
            raise DeployError(
                f"{service.name} cannot listen on {address}: {problem}\n"
                f"stop what holds the port, or move it: make up {service.variable}=PORT"
            )
        taken[service.name] = address
    return taken


def _running(listening: dict[str, str]) -> list[Service]:
    """The services that were started. Raises DeployError if others are wanted."""
    for service in wanted():
        if service.name not in listening:
            raise DeployError(f"up without {service.name}: to start it as well, first make down")
        if service.variable in os.environ and listening[service.name] != service.address:
            raise DeployError(
                f"{service.name} is up on {listening[service.name]}, not on {service.address}: "
                "to move it, first make down"
            )
    return [service for service in (*SERVICES, VLLM) if service.name in listening]


def _wait_serving(supervisor: Supervisor, services: Sequence[Service]) -> None:
    """Wait until all serve. Raises DeployError when one has crashed, or at the time limit."""
    listening = addresses(supervisor)
    waiting = list(services)
    first_pids: dict[str, int] = {}
    give_up = time.monotonic() + _UP_TIMEOUT
    while waiting:
        # The processes are asked first: what they say then precedes the health.
        processes = supervisor.processes()
        for service in waiting.copy():
            if health(listening[service.name]) == "SERVING":
                waiting.remove(service)
                continue
            process = processes.get(service.name)
            if process is None:
                raise _failure(supervisor, service, "does not run")
            pid = first_pids.setdefault(service.name, process.pid)
            if process.state not in ("STARTING", "RUNNING") or process.pid != pid:
                raise _failure(supervisor, service, f"does not stay up {process.problem}".rstrip())
        if waiting and time.monotonic() > give_up:
            raise _failure(supervisor, waiting[0], f"is not serving after {_UP_TIMEOUT:.0f} s")
        if waiting:
            time.sleep(0.2)


def _wait_connected(llm: Client, services: Collection[str]) -> None:
    """Wait until the router reaches the services.

    It connects again a moment after a service serves, and refuses calls until then. Calls of
    a service that stays unreachable fail with the reason, so this raises nothing.
    """
    give_up = time.monotonic() + _CONNECT_TIMEOUT
    while any(one.backend in services for one in llm.list_models().unreachable):
        if time.monotonic() > give_up:
            return
        time.sleep(0.1)


def _failure(supervisor: Supervisor, service: Service, what: str) -> DeployError:
    log = supervisor.log(service.name)
    return DeployError(f"{service.name} {what}; the end of {log}:\n{tail(log)}")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(empty)"


def _ask(supervisor: Supervisor) -> None:
    """One real Generate through the router."""
    target = reachable(addresses(supervisor)["router"])
    with Client(target) as llm:
        _wait_connected(llm, addresses(supervisor))
        reply = llm.generate(MODEL, PROMPT, max_tokens=32, temperature=0)
    say(f"\n{MODEL}, asked {PROMPT!r}:\n  {reply.text.strip()}\n")
    default = target == "127.0.0.1:50050"
    prefix = "" if default else f"ARENA_LLM_TARGET={target} "
    say(f"next: {prefix}.venv/bin/arena-llm generate {MODEL} 'Your move?' --choice 0 --choice 4")
