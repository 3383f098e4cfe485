"""The services that `make up` runs: edge, gateway, router, every folder services/NAME that has a
__main__.py, and the backends that installed packages offer.

A backend needs no entry here. Its class says what is needed: in services/NAME/backend.py the one
whose `name` is NAME, or that of an entry point NAME of the group `arena_llm.backends`, whose module
starts it. configs/NAME_models.yaml is its configuration.
"""

from __future__ import annotations

import importlib
import os
import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.managed import EdgeService, ManagedService, ServiceNeeds
from services.common.config import ConfigError
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


def _make_service(name: str) -> ManagedService:
    python = ROOT / f".venv-{name}" / "bin" / "python"
    return ManagedService(
        name,
        f"services.{name}",
        f"{name}_models.yaml",
        partial(_find_needs, name),
        _PREPARE.get(name, ()),
        python if name in _OWN_ENVIRONMENT else Path(sys.executable),
        optional=name in _OWN_ENVIRONMENT,
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
    EdgeService("edge", "deploy.edge", "router.yaml", _find_edge_needs, optional=True),
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
SERVICES = tuple(s for s in ALL_SERVICES if not s.optional)

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
        if not service.optional or os.environ.get(service.name.upper(), "0") not in ("", "0")
    )


def run_dir() -> Path:
    """The folder of the running system's sockets, pid files and logs."""
    return ROOT / (os.environ.get("ARENA_RUN_DIR") or ".run")
