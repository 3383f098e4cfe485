"""`make up`: from nothing to a system that has answered once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from arena_llm import Client
from deploy.probe import health, port_problem, reachable
from deploy.services import ROOT, SERVICES, VLLM, Service, wanted
from deploy.supervisor import DeployError, Supervisor

MODEL = "hf_smollm2-135m-instruct"
PROMPT = "What is the capital of France?"

#: Seconds until every service must be serving; a large model takes its time to load.
_UP_TIMEOUT = 600.0


def up(supervisor: Supervisor) -> None:
    """Start what does not run, wait until all of it serves, and ask it once.

    Raises DeployError; what this call started is then stopped again.
    """
    with supervisor.lock():
        if supervisor.processes():
            running = _running(supervisor)
            supervisor.revive()
            _wait_serving(supervisor, running)
            say(f"already up: {_list(supervisor.addresses())}")
            _ask(supervisor)
            return
        if supervisor.stop():
            say("stopped what a process manager that died had left")
        services = wanted()
        addresses = _free_addresses(services)
        prepare()
        try:
            supervisor.start(services, addresses)
            _wait_serving(supervisor, services)
            say(f"up: {_list(addresses)}")
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
                raise DeployError(f"{service.name}: {service.prepare} failed:\n{done.stderr}")


def say(text: str) -> None:
    print(text, flush=True)


def _list(addresses: dict[str, str]) -> str:
    return ", ".join(f"{name} on {address}" for name, address in addresses.items())


def _free_addresses(services: Sequence[Service]) -> dict[str, str]:
    """The address of each service, all free. Raises DeployError."""
    taken: dict[str, str] = {}
    for service in services:
        if not service.python.exists():
            raise DeployError(f"{service.name} has no environment: make setup-{service.name}")
        address = service.address
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


def _running(supervisor: Supervisor) -> list[Service]:
    """The services that were started. Raises DeployError where others were asked for."""
    running = supervisor.addresses()
    for service in wanted():
        if service.name not in running:
            raise DeployError(f"up without {service.name}: to start it as well, first make down")
        if service.variable in os.environ and running[service.name] != service.address:
            raise DeployError(
                f"{service.name} is up on {running[service.name]}, not on {service.address}: "
                "to move it, first make down"
            )
    return [service for service in (*SERVICES, VLLM) if service.name in running]


def _wait_serving(supervisor: Supervisor, services: Sequence[Service]) -> None:
    addresses = supervisor.addresses()
    give_up = time.monotonic() + _UP_TIMEOUT
    for service in services:
        first_pid = 0
        while health(addresses[service.name]) != "SERVING":
            process = supervisor.processes().get(service.name)
            if process is None:
                raise DeployError("the process manager has gone")
            first_pid = first_pid or process.pid
            if process.state not in ("STARTING", "RUNNING") or process.pid != first_pid:
                raise _failure(supervisor, service, f"does not stay up {process.problem}".rstrip())
            if time.monotonic() > give_up:
                raise _failure(supervisor, service, f"is not serving after {_UP_TIMEOUT:.0f} s")
            time.sleep(0.2)


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
    target = reachable(supervisor.addresses()["router"])
    with Client(target) as llm:
        reply = llm.generate(MODEL, PROMPT, max_tokens=32, temperature=0)
    say(f"\n{MODEL}, asked {PROMPT!r}:\n  {reply.text.strip()}\n")
    default = target == "127.0.0.1:50050"
    prefix = "" if default else f"ARENA_LLM_TARGET={target} "
    say(f"next: {prefix}.venv/bin/arena-llm generate {MODEL} 'Your move?' --choice 0 --choice 4")
