"""The services that `make up` runs: one entry each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from services.common.config import Address, ConfigError, config_path, load_config
from services.hf.backend import HfBackend
from services.litellm.backend import LiteLlmBackend
from services.openrouter.backend import OpenRouterBackend
from services.vllm.backend import VllmBackend

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Service:
    """A process of the system.

    `environment` are the variables (patterns of services.common.config.matches) that only
    this service sees, beside those that every service sees; `prepare` is a module to run before it;
    `python` is the interpreter of its environment.
    """

    name: str
    module: str
    config: str
    environment: tuple[str, ...] = ()
    prepare: str | None = None
    python: Path = Path(sys.executable)

    @property
    def variable(self) -> str:
        """The variable that moves its port."""
        return f"ARENA_{self.name.upper()}_PORT"

    @property
    def address(self) -> str:
        """host:port as its configuration says. Raises ConfigError."""
        try:
            return load_config(config_path(self.config), _Listen).listen
        except ConfigError as error:
            port = os.environ.get(self.variable)
            if port is None:
                raise
            raise ConfigError(f"{error}; {self.variable} is {port!r}") from error


class _Listen(BaseModel):
    listen: Address


#: Stopped in this order and started in the reverse one: the router stops first, so
#: that the calls it has accepted still find their backends.
SERVICES = (
    Service("router", "router", "router.yaml"),
    Service(
        "openrouter",
        "services.openrouter",
        "openrouter_models.yaml",
        OpenRouterBackend.environment,
    ),
    Service("litellm", "services.litellm", "litellm_models.yaml", LiteLlmBackend.environment),
    Service("hf", "services.hf", "hf_models.yaml", HfBackend.environment, "services.hf.embedded"),
)

#: Started where VLLM=1 asks for it: its environment takes minutes to make and gigabytes.
VLLM = Service(
    "vllm",
    "services.vllm",
    "vllm_models.yaml",
    VllmBackend.environment,
    python=ROOT / ".venv-vllm" / "bin" / "python",
)


def wanted() -> tuple[Service, ...]:
    """The services that `make up` starts."""
    return (*SERVICES, VLLM) if os.environ.get("VLLM", "0") not in ("", "0") else SERVICES


def run_dir() -> Path:
    """Where sockets, pid files and logs of the running system lie."""
    return ROOT / (os.environ.get("ARENA_RUN_DIR") or ".run")
