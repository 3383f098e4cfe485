"""`make up`: start the services, wait until all of them serve, and call the embedded model once."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from arena_llm import Client, PermissionDeniedError, UnauthenticatedError
from arena_llm.tls import find_tls
from deploy import environment
from deploy.changes import RunningSystem
from deploy.handshake import check_gateway
from deploy.instances import Instance, ReplicaCounts, find_sets, make_instances
from deploy.managed import ManagedService
from deploy.output import complain, say
from deploy.probe import free_port_after, port_problem, reachable
from deploy.services import ALL_SERVICES, ROOT, find_service, selected_services
from deploy.supervisor import DeployError, Supervisor
from deploy.waiting import wait_serving
from router.targets import update_sets
from services.common.config import ConfigError

MODEL = "hf_smollm2-135m-instruct"
PROMPT = "What is the capital of France?"

#: Seconds until the router must have connected to every service. It retries once a second.
_CONNECT_TIMEOUT = 10.0


def up(supervisor: Supervisor) -> None:
    """Start what does not run, restart what has changed, wait until all serve, ask one question.

    Raises DeployError; the processes that this call started are then stopped again.
    """
    with supervisor.lock():
        state = supervisor.inspect()
        if state.managed and state.problem:
            wait_serving(supervisor, list(supervisor.addresses()))
            complain(state.problem)
            _report(supervisor, "already up")
        elif state.managed:
            _update(supervisor)
        else:
            if supervisor.stop():
                say("stopped the services of an earlier process manager")
            _start(supervisor)


def _start(supervisor: Supervisor) -> None:
    services = selected_services()
    instances = _checked_instances(services, supervisor)
    _install_parts(services)
    prepare(services)
    try:
        supervisor.start()
        addresses = {instance.name: instance.address for instance in instances}
        update_sets(supervisor.replicas, find_sets(addresses))
        supervisor.add(instances, os.environ)
        wait_serving(supervisor, list(addresses))
        _report(supervisor, "up")
    except BaseException:
        supervisor.stop()
        raise


def _update(supervisor: Supervisor) -> None:
    """Add what is missing to a running system, and restart what has changed."""
    supervisor.revive()
    system = RunningSystem(supervisor)
    selected = selected_services()
    missing = [service for service in selected if service.name not in system.addresses]
    for service in selected:
        system.check_place(service)
    running = [service for service in ALL_SERVICES if service.name in system.addresses]
    _check_configs(running)
    changed = [
        instance
        for service in running
        for instance in system.instances(service)
        if system.is_changed(instance)
    ]
    _checked_instances(missing, supervisor, system.addresses)
    new = [instance for service in (*missing, *running) for instance in system.missing(service)]
    _install_parts([*missing, *running])
    prepare(missing)
    if new:
        system.start(new)
    for instance in changed:
        system.restart([instance])
    wait_serving(supervisor, list(system.addresses))
    system.publish()  # an interrupted change may have left replicas out, or calls waiting
    changes = [("started", new), ("restarted", changed)]
    done = [f"{verb} {', '.join(one.name for one in names)}" for verb, names in changes if names]
    _report(supervisor, "; ".join(done) or "already up")


def _report(supervisor: Supervisor, what: str) -> None:
    listening = addresses(supervisor)
    say(f"{what}: {', '.join(f'{name} on {address}' for name, address in listening.items())}")
    _name_page()
    _ask(supervisor)


def _install_parts(services: Sequence[ManagedService]) -> None:
    """Install the parts that the configured models need and .venv lacks. Raises DeployError."""
    needed = {
        part: f"{reason} needs it"
        if service.name == "edge"
        else f"{reason}, a model of {service.name}, needs it"
        for service in services
        if service.python == Path(sys.executable)
        for part, reason in service.check_config().items()
    }
    venv = Path(sys.prefix)
    # Only the environment of `make setup` is changed. Any other belongs to the user.
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


def _name_page() -> None:
    """Print the address of the router's page, if the configuration says which port it has."""
    page = find_service("router").metrics
    if page is not None and not page.endswith(":0"):
        say(f"what is called, and by whom: http://{reachable(page)}/ or .venv/bin/arena-llm top")


def _checked_instances(
    services: Sequence[ManagedService],
    supervisor: Supervisor,
    running: Mapping[str, str] = {},
) -> list[Instance]:
    """Check the environment, the port and the configuration of each service before any starts.

    running: addresses of processes that run, by name. Returns the processes to start. Raises
    DeployError, with all problems of the same kind.
    """
    for service in services:
        if not service.python.exists():
            raise DeployError(f"{service.name} has no environment: make setup-{service.name}")
    # With a certificate that is refused, the wait for the services would reach its time limit.
    problems = [*_find_problems(services, _check_listener)]
    _raise_all(problems)
    moves: dict[str, str] = {}
    taken = {*running.values()}
    wanted = [(service.name, service.address, service.variable) for service in services]
    wanted += [
        (f"{service.name}: metrics", service.metrics, service.metrics_variable)
        for service in services
        if service.metrics is not None and not service.metrics.endswith(":0")
    ]
    taken.update(address for _, address, _ in wanted)
    for place, (name, address, variable) in enumerate(wanted):
        if address.endswith(":0"):
            problem = "the other services must know its port, so choose one from 1 to 65535"
        elif address in [other for _, other, _ in wanted[:place]]:
            problem = "another service of this system has the same address"
        else:
            problem = port_problem(address)
        if problem:
            problems.append(f"{name} cannot listen on {address}: {problem}")
            port = free_port_after(address, taken)
            taken.add(f"{address.rpartition(':')[0]}:{port}")
            moves[variable] = str(port or "PORT")
    if problems:
        command = shlex.join(f"{name}={value}" for name, value in (_given() | moves).items())
        problems.append(f"stop what holds a port, or choose others:\n  make up {command}")
    _raise_all(problems)
    _check_configs(services)
    return _make_instances(services, supervisor, {address for _, address, _ in wanted}, running)


def _given() -> dict[str, str]:
    """The variables in the command line of make, such as VLLM=1."""
    words = shlex.split(os.environ.get("MAKEFLAGS", "").partition("-- ")[2])
    return dict(word.split("=", 1) for word in words if "=" in word)


def _make_instances(
    services: Sequence[ManagedService],
    supervisor: Supervisor,
    taken: Collection[str],
    running: Mapping[str, str],
) -> list[Instance]:
    counts = ReplicaCounts(supervisor.run_dir)
    used = {*taken, *running.values()}
    instances: list[Instance] = []
    for service in services:
        try:
            instances += make_instances(service, counts.read(service.name), used)
        except ValueError as error:
            raise DeployError(f"{service.name}: {error}") from error
        used.update(instance.address for instance in instances)
    return instances


def _check_configs(services: Sequence[ManagedService]) -> None:
    """Raise DeployError for all configurations that cannot be used."""
    _raise_all([*_find_problems(services, lambda service: service.check_config())])


def _check_listener(service: ManagedService) -> None:
    """Raise ConfigError if its address or its certificate cannot be used."""
    service.address  # noqa: B018 - reads it
    service.check_tls()
    if service.name == "gateway":
        router = find_service("router")
        check_gateway(service.config_path, reachable(router.address), router.tls)


def _find_problems(
    services: Sequence[ManagedService], read: Callable[[ManagedService], object]
) -> Iterator[str]:
    for service in services:
        try:
            read(service)
        except ConfigError as error:
            yield str(error)


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        raise DeployError("\n".join(problems))


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


def find_target(supervisor: Supervisor) -> str:
    """The address that callers of this system use: of the edge, else of the router."""
    found = addresses(supervisor)
    return reachable(found.get("edge", found["router"]))


def _ask(supervisor: Supervisor) -> None:
    """Send one Generate call through the router, and print what to try next."""
    target = find_target(supervisor)
    tls = find_service("router").caller_tls
    with Client(target, tls=tls or False) as llm:
        try:
            _wait_connected(llm, addresses(supervisor))
            reply = llm.generate(MODEL, PROMPT, max_tokens=32, temperature=0)
        except (UnauthenticatedError, PermissionDeniedError) as error:
            say(f"{MODEL} did not answer, because this command has no access: {error}")
            return
    say(f"\n{MODEL}, asked {PROMPT!r}:\n  {reply.text.strip()}\n")
    default = target == "127.0.0.1:50050"
    prefix = "" if default else f"ARENA_LLM_TARGET={target} "
    if tls is not None and not find_tls(None):
        prefix += f"ARENA_LLM_CA={tls.ca} "
    say(f"next:\n  {prefix}.venv/bin/arena-llm generate {MODEL} 'Your move?' --choice 0 --choice 4")
