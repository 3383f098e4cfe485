"""The processes of each service on this machine: how many, and on which addresses.

`make scale` sets the number, which `make down` does not change. The first process of a service
listens on the address of its configuration; the others on free ports above it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from arena_llm.tls import Tls
from deploy.managed import ManagedService
from deploy.probe import free_port_after, health, reachable
from deploy.services import find_service
from router.targets import KnownReplicas
from services.common.addresses import is_unix
from services.common.config import ConfigError

#: A larger number of processes of one service on one machine is a mistake.
MOST = 64

#: counts.json: the number of processes of a service; one without an entry has one.
_COUNTS = TypeAdapter(dict[str, Annotated[int, Field(ge=1, le=MOST)]])


@dataclass(frozen=True)
class Instance:
    """One process of a service. number: 1 for the first one, which its configuration describes."""

    service: ManagedService
    number: int
    address: str

    @property
    def name(self) -> str:
        """Its name in the process manager, in the logs and in `make status`."""
        return self.service.name if self.number == 1 else f"{self.service.name}-{self.number}"

    @property
    def command(self) -> list[str]:
        """Its command line."""
        command = [str(self.service.python), "-m", self.service.module]
        if self.number > 1:
            command += ["--listen", self.address]
            if metrics := self.service.metrics:
                # The port of a replica's metrics is in its log.
                command += ["--metrics", f"{metrics.rpartition(':')[0]}:0"]
        return command


def split_name(name: str) -> tuple[str, int]:
    """Return the service and the number of a process with this name."""
    service, dash, number = name.rpartition("-")
    return (service, int(number)) if dash and number.isdecimal() else (name, 1)


def ask_health(name: str, address: str) -> str:
    """Return whether the process of this name serves at an address, see probe.health."""
    service = find_service(split_name(name)[0])
    return health(address, find_tls(service), over_http=service.speaks_http)


def find_tls(service: ManagedService) -> Tls | None:
    """How a service is called; None: without encryption, or unknown, so it seems unreachable."""
    try:
        return service.caller_tls
    except ConfigError:
        return None


class ReplicaCounts:
    """The number of processes of each service, in a file of the run folder."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "counts.json"

    def read(self, service: str) -> int:
        """Return a service's number of processes; 1 if the file cannot be read."""
        with suppress(OSError, ValueError):
            return _COUNTS.validate_json(self._path.read_bytes()).get(service, 1)
        return 1

    def write(self, service: str, count: int) -> None:
        """Set a service's number of processes."""
        counts: dict[str, int] = {}
        with suppress(OSError, ValueError):
            counts = _COUNTS.validate_json(self._path.read_bytes())
        counts[service] = count
        counts = {name: number for name, number in counts.items() if number > 1}
        if not counts:
            self._path.unlink(missing_ok=True)
            return
        new = self._path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(counts))
        new.replace(self._path)


def make_instances(
    service: ManagedService, count: int, taken: Collection[str], running: Mapping[str, str] = {}
) -> list[Instance]:
    """Return the processes of a service.

    taken: addresses that others will have. running: addresses by name, which stay. Raises
    ConfigError, and ValueError if there are not enough addresses.
    """
    first = service.address
    instances = [Instance(service, 1, first)]
    used = {*taken, first, *running.values()}
    address = first
    for number in range(2, count + 1):
        known = running.get(f"{service.name}-{number}")
        if known is None:
            address = known = _next_address(address, used)
            used.add(known)
        instances.append(Instance(service, number, known))
    return instances


def _next_address(address: str, used: Collection[str]) -> str:
    if is_unix(address):
        raise ValueError(f"{address} is one socket, which several processes cannot share")
    host = address.rpartition(":")[0]
    while port := free_port_after(address):
        address = f"{host}:{port}"
        if address not in used:
            return address
    raise ValueError(f"there is no free port above {address}")


def find_sets(
    addresses: Mapping[str, str], without: Collection[str] = (), held: Collection[str] = ()
) -> dict[str, KnownReplicas]:
    """Return what the router must know: the replicas of each scaled or held service.

    addresses: by name. without: names of processes that get no further calls. held: names of
    services whose calls wait.
    """
    sets: dict[str, KnownReplicas] = {}
    for service, names in _by_service(addresses).items():
        targets = [reachable(addresses[name]) for name in names if name not in without]
        if service in addresses and targets and (len(names) > 1 or service in held):
            key = reachable(addresses[service])
            sets[key] = KnownReplicas(targets=targets, held=service in held)
    return sets


def _by_service(names: Iterable[str]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(split_name(name)[0], []).append(name)
    return found
