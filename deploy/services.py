"""The services that `make up` runs: the router, and every folder services/NAME with a __main__.py.

A backend needs no entry here. Its folder and its class say what is needed: the class in
services/NAME/backend.py whose `name` is NAME, and configs/NAME_models.yaml.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from services.common.config import Address, ConfigError, HostPort, config_path, load_config
from services.common.environment import load_dotenv, matches

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
    this service sees, such as its keys. list_parts: see BaseLLMBackend.
    """

    config_type: type[BaseModel]
    environment: tuple[str, ...] = ()
    list_parts: Callable[[Any], Mapping[str, str]] = lambda config: {}


@dataclass(frozen=True)
class ManagedService:
    """A process of the system.

    config: file name of its configuration. find_needs: imports the service's code. prepare:
    module to run before it starts, with its arguments. python: interpreter of its environment.
    """

    name: str
    module: str
    config: str
    find_needs: Callable[[], ServiceNeeds]
    prepare: tuple[str, ...] = ()
    python: Path = Path(sys.executable)

    @cached_property
    def needs(self) -> ServiceNeeds:
        """What its code declares. Most commands do without: the import takes a second."""
        return self.find_needs()

    @property
    def variable(self) -> str:
        """The variable that sets its port."""
        return f"ARENA_{self.name.upper()}_PORT"

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
    def _addresses(self) -> _Addresses:
        try:
            return load_config(self.config_path, _Addresses)
        except ConfigError as error:
            variables = (self.variable, self.metrics_variable)
            ports = [f"{name} is {os.environ[name]!r}" for name in variables if name in os.environ]
            raise ConfigError("; ".join([f"{error}", *ports])) from error

    def check_config(self) -> Mapping[str, str]:
        """Read its configuration as the service will. Returns the parts that it needs.

        Raises ConfigError.
        """
        before = dict(os.environ)
        try:
            load_dotenv(("ARENA_*", *self.needs.environment))
            return self.needs.list_parts(load_config(self.config_path, self.needs.config_type))
        finally:  # this process must not keep the service's keys
            os.environ.clear()
            os.environ.update(before)

    def hides(self, environ: Iterable[str]) -> list[str]:
        """The names of the variables that it may not see."""
        seen = (*_COMMON, *self.needs.environment)
        return sorted(name for name in environ if not matches(name, seen))


class _Addresses(BaseModel):
    listen: Address
    metrics: HostPort | None = None


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


def _find_needs(name: str) -> ServiceNeeds:
    backend = _backend_class(name)
    return ServiceNeeds(backend.config_type, backend.environment, backend.list_parts)


def _find_router_needs() -> ServiceNeeds:
    from router.config import RouterConfig

    return ServiceNeeds(RouterConfig)


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


#: Every service that can be started, in the order in which they stop: the router first, so that
#: calls in progress still reach their backends. They start in the reverse order.
ALL_SERVICES = (
    ManagedService("router", "router", "router.yaml", _find_router_needs),
    *map(_make_service, sorted(p.parent.name for p in ROOT.glob("services/*/__main__.py"))),
)

#: The services that `make up` always starts.
SERVICES = tuple(s for s in ALL_SERVICES if s.name not in _OWN_ENVIRONMENT)

VLLM = next(s for s in ALL_SERVICES if s.name == "vllm")


def selected_services() -> tuple[ManagedService, ...]:
    """The services that `make up` starts, according to the environment."""
    return tuple(
        service
        for service in ALL_SERVICES
        if service in SERVICES or os.environ.get(service.name.upper(), "0") not in ("", "0")
    )


def visible_environment(
    services: Sequence[ManagedService], environ: Mapping[str, str]
) -> dict[str, str]:
    """The variables of the process manager: those that any of its services may see."""
    hidden = [set(service.hides(environ)) for service in services]
    return {name: value for name, value in environ.items() if any(name not in h for h in hidden)}


def run_dir() -> Path:
    """The folder of the running system's sockets, pid files and logs."""
    return ROOT / (os.environ.get("ARENA_RUN_DIR") or ".run")
