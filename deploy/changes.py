"""Changes of a running system: `make scale`, `make restart`, and changes that `make up` finds.

A process stops only after the router sends it no further calls. If it is the only one of its
service, calls for it wait in the router meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections import ChainMap
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from deploy.instances import MOST, Instance, ReplicaCounts, find_sets, make_instances, split_name
from deploy.managed import ManagedService
from deploy.output import say
from deploy.probe import reachable
from deploy.services import find_service
from deploy.supervisor import DeployError, Supervisor
from deploy.waiting import wait_serving
from router.targets import update_sets

#: Seconds within which the router must read the replicas. It looks at the file once a second.
_READ_SECONDS = 15.0

_RELOADED = re.compile('event="configuration (not )?reloaded"')


class RunningSystem:
    """The system of a run folder, whose process manager answers. Hold the folder's lock."""

    def __init__(self, supervisor: Supervisor) -> None:
        state = supervisor.inspect()
        if not state.managed:
            raise DeployError("nothing is up: run make up")
        if state.problem:
            raise DeployError(state.problem)
        self._supervisor = supervisor
        self._counts = ReplicaCounts(supervisor.run_dir)
        self.starts = supervisor.starts()
        self.addresses = {
            name: address for name, address in supervisor.addresses().items() if name in self.starts
        }
        #: A variable that this shell does not set keeps its earlier value.
        self._environ = {
            **ChainMap(*(environ for environ, _ in self.starts.values())),
            **os.environ,
        }
        for name, value in self._environ.items():
            if name.startswith("ARENA_"):
                os.environ.setdefault(name, value)

    def scale(self, service: ManagedService, count: int) -> None:
        """Start or stop processes of a service until there are `count`. Raises DeployError."""
        self._check_scale(service, count)
        running = self.instances(service)
        wanted = self.make(service, count)
        names = {instance.name for instance in running}
        if new := [instance for instance in wanted if instance.name not in names]:
            self.start(new)
        elif gone := [one for one in running if one.number > count]:
            self._stop([instance.name for instance in gone])
        self._counts.write(service.name, count)
        left = ", ".join(instance.address for instance in wanted)
        say(f"{service.name}: {count} {'replicas' if count > 1 else 'process'} on {left}")

    def _check_scale(self, service: ManagedService, count: int) -> None:
        if service.name == "edge":
            raise DeployError("edge is one process, which uses all cores of the machine")
        if not service.has_engines:
            raise DeployError(
                f"{service.name} has no replicas on one machine, because each would have all of "
                f"its limits: set `workers` in {service.config_path} and run make up"
            )
        if not 1 <= count <= MOST:
            raise DeployError(f"N must be from 1 to {MOST}, not {count}")
        if service.name not in self.addresses:
            raise DeployError(f"{service.name} does not run: run {service.start}")
        first = reachable(self.addresses[service.name])
        router = find_service("router").read_config()
        routes = [route for route in router.routes.values() if first in route.targets]
        if not routes:
            raise DeployError(
                f"no route of {router.path} has {first}, so that the router would not find replicas"
            )
        if any(route.tls and not route.tls.server_name for route in routes) and count > 1:
            raise DeployError(
                f"{router.path}: the route of {service.name} needs tls.server_name, a name that is "
                "in the certificates of all replicas"
            )

    def missing(self, service: ManagedService) -> list[Instance]:
        """The processes that a service should have and that were not started."""
        wanted = self.make(service, self._counts.read(service.name))
        return [instance for instance in wanted if instance.name not in self.addresses]

    def make(self, service: ManagedService, count: int) -> list[Instance]:
        """Return `count` processes of a service; those that run keep their addresses."""
        taken = set(self.addresses.values())
        try:
            return make_instances(service, count, taken, self.addresses)
        except ValueError as error:
            raise DeployError(f"{service.name}: {error}") from error

    def instances(self, service: ManagedService) -> list[Instance]:
        """The processes of a service that were started."""
        names = [name for name in self.addresses if split_name(name)[0] == service.name]
        return [Instance(service, split_name(name)[1], self.addresses[name]) for name in names]

    def start(self, instances: Sequence[Instance]) -> None:
        """Start processes, and let the router call them once they serve.

        Raises DeployError; these processes are then stopped again.
        """
        try:
            self._supervisor.add(instances, self._environ)
            wait_serving(self._supervisor, [instance.name for instance in instances])
        except BaseException:
            known = self._supervisor.processes()
            self._supervisor.remove([one.name for one in instances if one.name in known])
            raise
        self.addresses = self._supervisor.addresses()
        self.publish()

    def _stop(self, names: Sequence[str]) -> None:
        self.publish(without=names)
        self._supervisor.remove(names)
        self.addresses = self._supervisor.addresses()

    def check_place(self, service: ManagedService) -> None:
        """Raise DeployError if a service runs at another address than its configuration names."""
        if self.addresses.get(service.name, service.address) != service.address:
            raise DeployError(
                f"{service.name} is up on {self.addresses[service.name]}, not on "
                f"{service.address}: to move it, first make down"
            )

    def restart(self, instances: Sequence[Instance]) -> None:
        """Restart processes of one service, one after another. Raises DeployError."""
        for instance in instances:
            say(f"restarting {instance.name}")
            with self._uncalled(instance):
                self._supervisor.restart(instance, self._environ)
                wait_serving(self._supervisor, [instance.name])

    @contextmanager
    def _uncalled(self, instance: Instance) -> Iterator[None]:
        """Send a process's calls to other replicas, or let them wait if there is no other."""
        if instance.service.name in ("edge", "gateway", "router"):  # the router calls none of them
            yield
            return
        if len(self.instances(instance.service)) == 1:
            self.publish(held=[instance.service.name])
        else:
            self.publish(without=[instance.name])
        try:
            yield
        finally:
            self.publish()

    def is_changed(self, instance: Instance) -> bool:
        """Whether a process needs a restart to follow its present files and variables."""
        seen = instance.service.sees(self._environ)
        return self.starts[instance.name][1] != instance.service.stamp(seen)

    def publish(self, without: Collection[str] = (), held: Collection[str] = ()) -> None:
        """Tell the router who may be called, and wait until it knows. Raises DeployError."""
        path = self._supervisor.replicas
        self._supervisor.mark_logs(["router", "edge"])
        is_new = update_sets(path, find_sets(self.addresses, without, held))
        if not is_new or self._supervisor.processes()["router"].state != "RUNNING":
            return  # a router that starts reads the file
        workers = find_service("router").read_config().workers
        readers = (
            {"router": workers, "edge": 1} if "edge" in self.addresses else {"router": workers}
        )
        for name in readers:
            self._supervisor.signal(name, "HUP")
        give_up = time.monotonic() + _READ_SECONDS
        for name, processes in readers.items():
            while self._count_readers(name, path.name) < processes:
                if time.monotonic() > give_up:
                    raise DeployError(f"{name} does not read its configuration: see make logs")
                time.sleep(0.02)

    def _count_readers(self, name: str, file: str) -> int:
        """Return how many processes of a service have read a file. Raises DeployError."""
        lines = self._supervisor.log_lines(name)
        read = [line for line in lines if _RELOADED.search(line) and file in line]
        if refused := [line for line in read if "not reloaded" in line]:
            raise DeployError(f"{name} keeps its old configuration: {refused[0]}")
        return len(read)
