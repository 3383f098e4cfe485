"""`make up`: start the services, wait until all of them serve, and ask the embedded model once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from arena_llm import Client, PermissionDeniedError, UnauthenticatedError
from deploy import environment
from deploy.output import complain, say
from deploy.probe import free_port_after, health, port_problem, reachable
from deploy.services import ALL_SERVICES, ROOT, ManagedService, selected_services
from deploy.supervisor import DeployError, Supervisor
from services.common.config import ConfigError

MODEL = "hf_smollm2-135m-instruct"
PROMPT = "What is the capital of France?"

#: Seconds until every service must be serving; a large model takes long to load.
_UP_TIMEOUT = 600.0

#: Seconds until the router must have connected to every service. It retries once a second.
_CONNECT_TIMEOUT = 10.0


def up(supervisor: Supervisor) -> None:
    """Start the services that do not run, wait until all of them serve, and ask one question.

    Raises DeployError; the services that this call started are then stopped again.
    """
    with supervisor.lock():
        state = supervisor.inspect()
        if state.managed:
            running = _running_services(addresses(supervisor))
            if not state.problem:
                supervisor.revive()
            _wait_serving(supervisor, running)
            say(f"already up: {_list(addresses(supervisor))}")
            _name_page(running)
            if state.problem:
                complain(state.problem)
            _ask(supervisor)
            return
        if supervisor.stop():
            say("stopped the services of an earlier process manager")
        services = selected_services()
        listening = _checked_addresses(services)
        _install_parts(services)
        prepare(services)
        try:
            supervisor.start(services, listening)
            _wait_serving(supervisor, services)
            say(f"up: {_list(listening)}")
            _name_page(services)
            _ask(supervisor)
        except BaseException:
            supervisor.stop()
            raise


def _install_parts(services: Sequence[ManagedService]) -> None:
    """Install the parts that the configured models need and .venv lacks. Raises DeployError."""
    needed = {
        part: f"{reason}, a model of {service.name}, needs it"
        for service in services
        if service.python == Path(sys.executable)
        for part, reason in service.check_config().items()
    }
    venv = Path(sys.prefix)
    # Another environment than `make setup` makes is its owner's.
    missing = needed.keys() - environment.installed_parts(venv)
    if not missing or venv != ROOT / ".venv":
        return
    for part in sorted(missing):
        size = "some GB" if environment.has_gpu() else f"about {environment.PARTS[part]} MB"
        say(f"installing {part}, {size}, once: {needed[part]}")
    try:
        environment.add_parts(missing)
    except subprocess.CalledProcessError:
        raise DeployError(
            f"{', '.join(sorted(missing))} cannot be installed: see above; or take the models "
            "that need it out of the configuration"
        ) from None


def prepare(services: Sequence[ManagedService]) -> None:
    """Make what services need before they start, such as the embedded model."""
    for service in services:
        if service.prepare:
            say(f"preparing {service.name}")
            command = [sys.executable, "-m", *service.prepare]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise DeployError(
                    f"{service.name}: python -m {' '.join(service.prepare)} failed: {reason}"
                )


def addresses(supervisor: Supervisor) -> dict[str, str]:
    """The address of each service that was started, or that `make up` would start."""
    return supervisor.addresses() or {s.name: s.address for s in selected_services()}


def _list(listening: dict[str, str]) -> str:
    return ", ".join(f"{name} on {address}" for name, address in listening.items())


def _name_page(services: Sequence[ManagedService]) -> None:
    """Print the address of the router's page, if the configuration says which port it has."""
    page = next(service.metrics for service in services if service.name == "router")
    if page is not None and not page.endswith(":0"):
        say(f"what is called, and by whom: http://{reachable(page)}/ or .venv/bin/arena-llm top")


def _checked_addresses(services: Sequence[ManagedService]) -> dict[str, str]:
    """Check the environment, the port and the configuration of each service before any starts.

    Returns the address of each. Raises DeployError, with all problems of the same kind.
    """
    for service in services:
        if not service.python.exists():
            raise DeployError(f"{service.name} has no environment: make setup-{service.name}")
    listening: dict[str, str] = {}
    problems = []
    for service in services:
        try:
            listening[service.name] = service.address
        except ConfigError as error:
            problems.append(f"{error}")
    _raise_all(problems)
    problems, moves = [], []
    wanted = [(service.name, listening[service.name], service.variable) for service in services]
    wanted += [
        (f"{service.name}: metrics", service.metrics, service.metrics_variable)
        for service in services
        if service.metrics is not None and not service.metrics.endswith(":0")
    ]
    for place, (name, address, variable) in enumerate(wanted):
        if address.endswith(":0"):
            problem = "the other services must know its port, so choose one from 1 to 65535"
        elif address in [other for _, other, _ in wanted[:place]]:
            problem = "another service of this system has the same address"
        else:
            problem = port_problem(address)
        if problem:
            problems.append(f"{name} cannot listen on {address}: {problem}")
            moves.append(f"{variable}={free_port_after(address) or 'PORT'}")
    if problems:
        problems.append(f"stop what holds a port, or choose others: make up {' '.join(moves)}")
    _raise_all(problems)
    for service in services:
        try:
            service.check_config()
        except ConfigError as error:
            problems.append(f"{error}")
    _raise_all(problems)
    return listening


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        raise DeployError("\n".join(problems))


def _running_services(listening: dict[str, str]) -> list[ManagedService]:
    """The services that were started. Raises DeployError if this call selects others."""
    for service in selected_services():
        if service.name not in listening:
            raise DeployError(
                f"the running system has no {service.name}: run make down, then make up"
            )
        if service.variable in os.environ and listening[service.name] != service.address:
            raise DeployError(
                f"{service.name} is up on {listening[service.name]}, not on {service.address}: "
                "to move it, first make down"
            )
    return [service for service in ALL_SERVICES if service.name in listening]


def _wait_serving(supervisor: Supervisor, services: Sequence[ManagedService]) -> None:
    """Wait until all serve. Raises DeployError if one has crashed, or at the time limit."""
    listening = addresses(supervisor)
    waiting = list(services)
    first_pids: dict[str, int] = {}
    give_up = time.monotonic() + _UP_TIMEOUT
    while waiting:
        # Ask for the processes before the health, so that a crash in between is noticed.
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
    while any(each.backend in services for each in llm.list_models().unreachable):
        if time.monotonic() > give_up:
            return
        time.sleep(0.1)


def _failure(supervisor: Supervisor, service: ManagedService, what: str) -> DeployError:
    lines = supervisor.log_lines(service.name)[-20:] or ["(empty)"]
    log = supervisor.log(service.name)
    return DeployError("\n".join([f"{service.name} {what}; the end of {log}:", *lines]))


def _ask(supervisor: Supervisor) -> None:
    """Send one Generate call through the router, and print what to try next."""
    target = reachable(addresses(supervisor)["router"])
    with Client(target) as llm:
        try:
            _wait_connected(llm, addresses(supervisor))
            reply = llm.generate(MODEL, PROMPT, max_tokens=32, temperature=0)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            say(f"{MODEL} was not asked, because the router has tokens: {error}")
            return
    say(f"\n{MODEL}, asked {PROMPT!r}:\n  {reply.text.strip()}\n")
    default = target == "127.0.0.1:50050"
    prefix = "" if default else f"ARENA_LLM_TARGET={target} "
    say(f"next: {prefix}.venv/bin/arena-llm generate {MODEL} 'Your move?' --choice 0 --choice 4")
