"""The services that `make up` runs: edge, gateway, router, every folder services/NAME that has a
__main__.py, and the backends that installed packages offer.

A backend needs no entry here. Its class says what is needed: in services/NAME/backend.py the one
whose `name` is NAME, or that of an entry point NAME of the group `arena_llm.backends`, whose module
starts it. configs/NAME_models.yaml is its configuration.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from arena_llm.tls import Tls, find_tls
from deploy.handshake import find_server_name, try_handshake
from deploy.probe import reachable
from services.common.addresses import Address, HostPort, is_unix
from services.common.config import (
    ConfigError,
    ListenerConfig,
    ServerTls,
    ServiceConfig,
    SharedConfig,
    config_path,
    load_config,
)
from services.common.environment import load_dotenv, matches
from services.common.offered import list_offered, load_offered

if TYPE_CHECKING:
    from services.common.backend import BaseLLMBackend

ROOT = Path(__file__).resolve().parent.parent

#: Services that have their own environment, .venv-NAME. `make up` starts them only if the
#: variable NAME is 1 (VLLM=1), because the environment takes gigabytes.
_OWN_ENVIRONMENT = ("vllm",)

#: Modules that `make up` runs before a service starts, with their arguments.
_PREPARE = {
    "hf": ("services.hf.embedded",),
    "vllm": ("services.hf.embedded", "--weights"),
}

#: Variables that every service sees.
_COMMON = (
    *("PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("XDG_*", "SSL_CERT_*", "PYTHON*", "ARENA_*", "OTEL_*"),
)


class ServiceNeeds(NamedTuple):
    """What the code of a service declares.

    environment: patterns (see services.common.environment.matches) of the variables that only
    this service sees, such as its keys. list_parts, count_uncallable: see BaseLLMBackend.
    """

    config_type: type[BaseModel]
    environment: tuple[str, ...] = ()
    list_parts: Callable[[Any], Mapping[str, str]] = lambda config: {}
    count_uncallable: Callable[[Any], Mapping[str, int]] = lambda config: {}


@dataclass(frozen=True)
class ManagedService:
    """A process of the system.

    config: file name of its configuration. find_needs: imports the service's code. prepare:
    module to run before it starts, with its arguments. python: interpreter of its environment.
    speaks_http: it shows its health over HTTP.
    """

    name: str
    module: str
    config: str
    find_needs: Callable[[], ServiceNeeds]
    prepare: tuple[str, ...] = ()
    python: Path = Path(sys.executable)
    speaks_http: bool = False

    @cached_property
    def needs(self) -> ServiceNeeds:
        """What its code declares. Most commands do without: the import takes a second."""
        return self.find_needs()

    @property
    def variable(self) -> str:
        """The variable that sets its port."""
        return f"ARENA_{self.name.upper()}_PORT"

    @property
    def start(self) -> str:
        """The command that starts it."""
        if self in SERVICES:
            return "make up"
        return f"make up {self.name.upper()}={'envoy' if self.name == 'edge' else 1}"

    @property
    def metrics_variable(self) -> str:
        """The variable that sets the port of its metrics."""
        return f"ARENA_{self.name.upper()}_METRICS_PORT"

    @property
    def config_path(self) -> Path:
        """Its configuration file."""
        return config_path(self.config)

    @property
    def address(self) -> str:
        """host:port from its configuration. Raises ConfigError."""
        return self._addresses.listen

    @property
    def metrics(self) -> str | None:
        """host:port of its metrics; None: it has none. Raises ConfigError."""
        return self._addresses.metrics

    @property
    def caller_tls(self) -> Tls | None:
        """How this machine's own commands call it; None: without encryption.

        ARENA_LLM_CA and its like take precedence; else the files beside its certificate that `make
        certs` makes. Raises ConfigError if there are none.
        """
        server = self.tls
        if server is None:
            return None
        host = reachable(self.address).rpartition(":")[0]
        name = "" if is_unix(self.address) else find_server_name(server.certificate, host)
        if (tls := find_tls(None)) is not None:
            return tls if tls.server_name else replace(tls, server_name=name)
        ca, certificate, key = (
            server.certificate.with_name(name) for name in ("ca.crt", "client.crt", "client.key")
        )
        needed = [ca, certificate, key] if server.client_ca else [ca]
        if missing := [str(path) for path in needed if not path.exists()]:
            raise ConfigError(
                f"{self.config_path}: tls: to see whether the service works, this command needs "
                f"ARENA_LLM_CA and its like (docs/security.md), or {' and '.join(missing)}, which "
                "`make certs` makes"
            )
        files = dict(zip(("ca", "certificate", "key"), map(str, needed), strict=False))
        return Tls(**files, server_name=name)

    @property
    def tls(self) -> ServerTls | None:
        """The encryption of its listener; None: there is none."""
        return self._addresses.tls

    def check_tls(self) -> None:
        """Raise ConfigError if this machine's own commands cannot call it."""
        caller, server = self.caller_tls, self.tls
        if caller is None or server is None or not all(path.exists() for path in server.files):
            return  # the service names a file that is missing
        host = reachable(self.address).rpartition(":")[0]
        if problem := try_handshake(server, caller, host or "localhost"):
            trusted = f"ARENA_LLM_CA={caller.ca}" if find_tls(None) else caller.ca
            raise ConfigError(
                f"{self.config_path}: {problem}: callers that trust {trusted} would refuse the "
                f"certificate {server.certificate}, or it them; `make certs` makes new ones"
            )

    @property
    def _addresses(self) -> _Addresses:
        try:
            return load_config(self.config_path, _Addresses)
        except ConfigError as error:
            variables = (self.variable, self.metrics_variable)
            ports = [f"{name} is {os.environ[name]!r}" for name in variables if name in os.environ]
            raise ConfigError("; ".join([f"{error}", *ports])) from error

    @property
    def has_engines(self) -> bool:
        """Whether it runs models itself, so that it is scaled by replicas and not by `workers`."""
        kind = self.needs.config_type
        return issubclass(kind, ServiceConfig) and not issubclass(kind, SharedConfig)

    def check_config(self) -> Mapping[str, str]:
        """Read its configuration as the service will. Returns the parts that it needs.

        Raises ConfigError.
        """
        return self.needs.list_parts(self.read_config())

    def count_uncallable(self) -> Mapping[str, int]:
        """See BaseLLMBackend. Raises ConfigError."""
        config = self.read_config()
        with self._own_keys():
            return self.needs.count_uncallable(config)

    def read_config(self) -> Any:
        """Read its configuration, with its variables of .env. Raises ConfigError."""
        with self._own_keys():
            return load_config(self.config_path, self.needs.config_type)

    @contextmanager
    def _own_keys(self) -> Iterator[None]:
        """Have the variables of .env that the service reads; this process must not keep them."""
        before = dict(os.environ)
        try:
            load_dotenv(("ARENA_*", *self.needs.environment))
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def sees(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables that it may see: its own keys, and those that every service sees."""
        seen = (*_COMMON, *self.needs.environment)
        return {name: value for name, value in environ.items() if matches(name, seen)}

    def stamp(self, environ: Mapping[str, str]) -> str:
        """A hash of what only a restart changes: its command, and what it reads at its start.

        environ: the variables that it would see. Those of ports count if its configuration names
        them, and those of callers (ARENA_LLM_*) never.
        """
        text = self.config_path.read_text()
        others = ("!ARENA_LLM_*", "!ARENA_*_PORT")
        patterns = ("ARENA_*", "OTEL_*", *others, *self.needs.environment)
        variables = {
            name: value
            for name, value in environ.items()
            if matches(name, patterns) or (name.endswith("_PORT") and f"${{{name}" in text)
        }
        config = self.read_config()
        fixed = {
            name: repr(getattr(config, name))
            for name in type(config).model_fields
            if isinstance(config, ListenerConfig) and config.needs_restart(name)
        }
        parts = [str(self.python), self.module, sorted(variables.items()), sorted(fixed.items())]
        return sha256(json.dumps(parts).encode()).hexdigest()


class EdgeService(ManagedService):
    """Envoy before the router, whose configuration it shares."""

    @property
    def address(self) -> str:
        """host:port of the key `edge`. Raises ConfigError."""
        try:
            found = load_config(self.config_path, _EdgeAddress).edge
        except ConfigError as error:
            port = os.environ.get(self.variable)
            raise ConfigError(
                f"{error}" + (f"; {self.variable} is {port!r}" if port else "")
            ) from error
        if found is None:
            raise ConfigError(f"{self.config_path}: edge: Envoy's address is missing")
        return found

    @property
    def metrics(self) -> None:
        """None: the services count the calls."""
        return None

    def check_config(self) -> Mapping[str, str]:
        """See ManagedService."""
        from deploy.edge.routes import check

        config = self.read_config()
        check(config)
        return self.needs.list_parts(config)


class _EdgeAddress(BaseModel):
    edge: HostPort | None = None


class _Addresses(BaseModel):
    listen: Address
    metrics: HostPort | None = None
    tls: ServerTls | None = None


def _make_service(name: str) -> ManagedService:
    python = ROOT / f".venv-{name}" / "bin" / "python"
    return ManagedService(
        name,
        f"services.{name}",
        f"{name}_models.yaml",
        partial(_find_needs, name),
        _PREPARE.get(name, ()),
        python if name in _OWN_ENVIRONMENT else Path(sys.executable),
    )


def _make_own_service(point: EntryPoint) -> ManagedService:
    """The service of a backend that an installed package offers. Its module starts it."""
    config = f"{point.name}_models.yaml"
    return ManagedService(
        point.name, point.module, config, lambda: _list_needs(load_offered(point))
    )


def _find_needs(name: str) -> ServiceNeeds:
    return _list_needs(_backend_class(name))


def _list_needs(backend: type[BaseLLMBackend[Any]]) -> ServiceNeeds:
    return ServiceNeeds(
        backend.config_type, backend.environment, backend.list_parts, backend.count_uncallable
    )


def _find_router_needs() -> ServiceNeeds:
    from router.config import ENVIRONMENT, RouterConfig

    return ServiceNeeds(RouterConfig, ENVIRONMENT)


def _find_edge_needs() -> ServiceNeeds:
    from router.config import ENVIRONMENT, RouterConfig

    return ServiceNeeds(RouterConfig, ENVIRONMENT, lambda config: {"edge": "Envoy"})


def _find_gateway_needs() -> ServiceNeeds:
    from gateway.config import GatewayConfig

    return ServiceNeeds(GatewayConfig)


def _backend_class(name: str) -> type[BaseLLMBackend[Any]]:
    from services.common.backend import BaseLLMBackend

    module = importlib.import_module(f"services.{name}.backend")
    for member in vars(module).values():
        if (
            isinstance(member, type)
            and issubclass(member, BaseLLMBackend)
            and getattr(member, "name", None) == name
        ):
            return member
    raise LookupError(f"services/{name}/backend.py has no backend with name = {name!r}")


#: The services of this repository, in the order in which they stop: those that call others
#: first, so that calls in progress still reach their backends. They start in the reverse order.
_OWN = (
    EdgeService("edge", "deploy.edge", "router.yaml", _find_edge_needs),
    ManagedService("gateway", "gateway", "gateway.yaml", _find_gateway_needs, speaks_http=True),
    ManagedService("router", "router", "router.yaml", _find_router_needs),
    *map(_make_service, sorted(p.parent.name for p in ROOT.glob("services/*/__main__.py"))),
)

#: Every service that can be started, in the same order.
ALL_SERVICES = (
    *_OWN,
    *(_make_own_service(p) for p in list_offered() if p.name not in {s.name for s in _OWN}),
)

#: The services that `make up` always starts.
SERVICES = tuple(s for s in ALL_SERVICES if s.name not in (*_OWN_ENVIRONMENT, "edge"))

VLLM = next(s for s in ALL_SERVICES if s.name == "vllm")


def find_service(name: str) -> ManagedService:
    """Return the service with this name. Raises KeyError."""
    return {service.name: service for service in ALL_SERVICES}[name]


def stop_priority(service: ManagedService) -> int:
    """Return a number that is higher for services that stop before others."""
    return len(ALL_SERVICES) - ALL_SERVICES.index(service)


def selected_services() -> tuple[ManagedService, ...]:
    """The services that `make up` starts, according to the environment. Raises ConfigError."""
    if (edge := os.environ.get("EDGE", "")) not in ("", "0", "envoy"):
        raise ConfigError(f"EDGE must be envoy, not {edge!r}")
    return tuple(
        service
        for service in ALL_SERVICES
        if service in SERVICES or os.environ.get(service.name.upper(), "0") not in ("", "0")
    )


def common_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the process manager: those that every service sees, and no key."""
    return {name: value for name, value in environ.items() if matches(name, _COMMON)}


def run_dir() -> Path:
    """The folder of the running system's sockets, pid files and logs."""
    return ROOT / (os.environ.get("ARENA_RUN_DIR") or ".run")
