"""A process of the system: its configuration, addresses, TLS, and the variables that it sees."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

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
    speaks_http: it shows its health over HTTP. optional: `make up` starts it only if asked to.
    """

    name: str
    module: str
    config: str
    find_needs: Callable[[], ServiceNeeds]
    prepare: tuple[str, ...] = ()
    python: Path = Path(sys.executable)
    speaks_http: bool = False
    optional: bool = False

    @cached_property
    def needs(self) -> ServiceNeeds:
        """What its code declares. Most commands do not need it: the import takes a second."""
        return self.find_needs()

    @property
    def variable(self) -> str:
        """The variable that sets its port."""
        return f"ARENA_{self.name.upper()}_PORT"

    @property
    def start(self) -> str:
        """The command that starts it."""
        return f"make up {self.name.upper()}=1" if self.optional else "make up"

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

        ARENA_LLM_CA and similar variables take precedence. Else it is the files that `make certs`
        makes beside its certificate. Raises ConfigError if there are none.
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
                f"ARENA_LLM_CA etc. (docs/security.md), or {' and '.join(missing)}, which "
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
        """A block that has the variables of .env for the service, and removes them at its end."""
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

        environ: the variables that it would see. Variables of ports count only if its configuration
        names them. Variables of callers (ARENA_LLM_*) never count.
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
    """Envoy in front of the router, whose configuration it shares."""

    start = "make up EDGE=envoy"

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


def common_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the process manager: those that every service sees, and no key."""
    return {name: value for name, value in environ.items() if matches(name, _COMMON)}
