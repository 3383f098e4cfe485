"""Configuration files: YAML checked by pydantic; every error has file, key and reason."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from arena_llm.suggestions import did_you_mean, strip_label
from arena_llm.terminal import one_line
from arena_llm.tls import Tls
from arena_llm.yaml_file import YamlError, read_mapping
from services.common.addresses import Address, HostPort, is_loopback, is_unix


class ConfigError(Exception):
    """A configuration that cannot be used. The message has the file, the key and the reason."""


def config_path(filename: str) -> Path:
    """Return the path of a configuration file: in $ARENA_CONFIG_DIR, else in ./configs."""
    return Path(os.environ.get("ARENA_CONFIG_DIR") or "configs") / filename


class StrictModel(BaseModel):
    """A mapping of a configuration file: unknown keys are errors, and values are immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class ServerTls(StrictModel):
    """The files of a listener, all PEM; relative paths begin at the working directory.

    client_ca: the authorities of the certificates that callers must show (mutual TLS); None:
    callers need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return (self.certificate, self.key, *filter(None, (self.client_ca,)))


#: Keys that need a restart: those of the listener, and of what its process makes only once.
_FIXED = frozenset(
    {
        *("listen", "tls", "insecure", "max_connections", "max_streams", "max_idle_seconds"),
        *("request_id_seconds", "request_id_bytes", "workers", "metrics", "drain_seconds"),
    }
)


#: The only keys that a service with engines changes while it runs.
RELOADED_LOCALLY = frozenset(
    {"models", "max_calls_in_flight", "max_bytes_in_flight", "max_calls_of_address"}
)


class ConnectionTls(StrictModel):
    """The encryption of outgoing connections, as in arena_llm.tls.Tls; relative paths begin at the
    working directory."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        self.settings  # noqa: B018 - it refuses a certificate without its key
        return self

    @property
    def settings(self) -> Tls:
        """The same settings, in the client's type."""
        return Tls(self.ca, self.certificate, self.key, self.server_name)


class ListenerConfig(StrictModel):
    """The keys that the configuration of every process with a listener has.

    listen: host:port, or unix:PATH for a socket that the file system protects. tls: certificate
    and key; None: no encryption. insecure: listen beyond loopback without encryption, or without
    knowing the callers. max_connections: of all callers together; further ones are refused.
    max_idle_seconds: after it, a connection without calls is closed; callers connect again by
    themselves. metrics: address for Prometheus, over HTTP at /metrics; None: no metrics.
    drain_seconds: the time that running calls get after SIGTERM; then they are cancelled.
    max_calls_in_flight, max_bytes_in_flight: of all calls and their requests; 0 means no limit.
    """

    listen: Address
    tls: ServerTls | None = None
    insecure: bool = False
    max_connections: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1024
    max_idle_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    metrics: HostPort | None = None
    drain_seconds: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    max_calls_in_flight: Annotated[int, Field(ge=0)] = 4096
    max_bytes_in_flight: Annotated[int, Field(ge=0)] = 512 * 2**20
    _path: Path = PrivateAttr(default=Path())

    @classmethod
    def needs_restart(cls, key: str) -> bool:
        """Whether a running service keeps the value of a key when its file changes."""
        return key in _FIXED

    @property
    def knows_callers(self) -> bool:
        """Whether callers must say who they are."""
        return self.tls is not None and self.tls.client_ca is not None

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        missing = [
            *([] if self.tls else ["no tls"]),
            *([] if self.knows_callers else ["neither tls.client_ca nor a router's tokens"]),
        ]
        if missing and not self.insecure and not is_loopback(self.listen):
            raise ValueError(
                f"listen: other machines can reach {self.listen}, and there is "
                f"{' and '.join(missing)}: see docs/security.md and `make certs`, or listen on "
                "127.0.0.1, or say `insecure: true` if the network is private"
            )
        if self.metrics and not self.insecure and not is_loopback(self.metrics):
            raise ValueError(
                f"metrics: other machines can read {self.metrics}, without encryption: listen on "
                "127.0.0.1, or say `insecure: true` if the network is private"
            )
        return self

    @property
    def model_names(self) -> list[str]:
        """The names of the models that the file lists."""
        return [entry.name for entry in getattr(self, "models", ())]

    @property
    def path(self) -> Path:
        """The file from which `load_config` read it, for errors."""
        return self._path


class ServiceConfig(ListenerConfig):
    """The keys that the configuration of every service has.

    max_streams: calls at a time on one connection; the caller's grpc lets further ones wait.
    request_id_seconds: how long the reply to a request_id is kept after its call has ended, so
    that the same request does not pay twice; 0 turns this off. request_id_bytes: of all kept
    replies together. max_calls_of_address: calls in flight of one machine; those of this machine
    are not counted. 0 means no limit. capture_content: traces have prompts and completions.
    """

    max_streams: Annotated[int, Field(ge=1, le=2**31 - 1)] = 4096
    request_id_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    request_id_bytes: Annotated[int, Field(ge=0)] = 64 * 2**20
    max_calls_of_address: Annotated[int, Field(ge=0)] = 0
    capture_content: bool = False
    _whole: ServiceConfig | None = PrivateAttr(default=None)

    @property
    def whole(self) -> ServiceConfig:
        """The configuration of all workers together: this one, if there is one process only."""
        return self._whole or self


class SharedConfig(ServiceConfig):
    """The configuration of a service that may run as several processes.

    workers: their number. They share the port, and each gets its part of all bounds, so that the
    bounds hold for all of them together. Each connection of a caller leads to one of them.
    """

    workers: Annotated[int, Field(ge=1, le=64)] = 1

    @model_validator(mode="after")
    def _check_socket(self) -> Self:
        if self.workers > 1 and is_unix(self.listen):
            raise ValueError("workers: several processes cannot share a unix: socket")
        return self

    def of_worker(self) -> Self:
        """Return the configuration of one worker: its part of the bounds."""
        bounds = (
            *("max_calls_in_flight", "max_bytes_in_flight", "max_calls_of_address"),
            *("request_id_bytes", "max_connections"),
        )
        own = divide(self, self.workers, bounds)
        own._whole = self
        return own


def of_process(config: ListenerConfig) -> Any:
    """Return the configuration of this process: that of a worker, if there are several."""
    if isinstance(config, SharedConfig) and config.workers > 1:
        return config.of_worker()
    return config


D = TypeVar("D", bound=StrictModel)


def divide(config: D, parts: int, names: Iterable[str]) -> D:
    """Return a copy in which these bounds are divided.

    Whole numbers are rounded down, but not to 0, because 0 means no limit.
    """
    changed: dict[str, Any] = {}
    for name in names:
        if value := getattr(config, name):
            changed[name] = max(1, value // parts) if isinstance(value, int) else value / parts
    return config.model_copy(update=changed)


class ModelEntry(StrictModel):
    """One model. In YAML its name alone is enough if no other key is set."""

    name: str
    description: str = ""


def _make_entries(value: Any) -> Any:
    """Turn the names of a list into entries, and a blank value into an empty list."""
    if value is None:
        return []
    if not isinstance(value, list):
        return value
    return [{"name": item} if isinstance(item, str) else item for item in value]


E = TypeVar("E", bound=ModelEntry)

#: A list of models of one entry type.
ModelEntries = Annotated[list[E], BeforeValidator(_make_entries)]


def check_names(entries: Sequence[ModelEntry], prefix: str) -> None:
    """Raise ValueError where a model's name lacks the prefix or appears twice."""
    seen: set[str] = set()
    for entry in entries:
        if not entry.name.startswith(prefix) or entry.name == prefix:
            raise ValueError(f"models: {entry.name!r} must be {prefix!r} followed by a name")
        if entry.name in seen:
            raise ValueError(f"models: {entry.name!r} is listed twice")
        seen.add(entry.name)


_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def _expand(text: str, path: Path) -> str:
    """Replace ${NAME} and ${NAME:-default} by values of the environment."""

    def value(match: re.Match[str]) -> str:
        text = os.environ.get(match["name"]) or match["default"]
        if text is None:
            raise ConfigError(f"{path}: the variable {match['name']} is not set")
        return text

    return _VARIABLE.sub(value, text)


def _expand_values(value: Any, path: Path) -> Any:
    if isinstance(value, str):
        return _expand(value, path)
    if isinstance(value, list):
        return [_expand_values(item, path) for item in value]
    if isinstance(value, dict):
        return {key: _expand_values(item, path) for key, item in value.items()}
    return value


#: Lines of one error. A file with YAML aliases can have very many problems.
_MAX_PROBLEMS = 20
#: Characters of a key or of a reason in an error.
_MAX_LENGTH = 400

C = TypeVar("C", bound=BaseModel)


def load_config(path: Path, config_type: type[C], values: Mapping[str, Any] = {}) -> C:
    """Read and check one YAML file. values: override those of the file.

    A type that ignores unknown keys gets only its own keys: the others may name variables that
    this process must not have.

    Raises ConfigError for a missing file, broken YAML, a duplicate key, an unknown key and
    a value out of range. The message has the file and, if there is one, the key.
    """
    try:
        raw = read_mapping(path)
    except YamlError as error:
        raise ConfigError(f"{error}") from error
    if config_type.model_config.get("extra") != "forbid":
        raw = {key: value for key, value in raw.items() if key in config_type.model_fields}
    config = check_config(path, config_type, {**_expand_values(raw, path), **values})
    if isinstance(config, ListenerConfig):
        config._path = path
    return config


def check_config(path: Path, config_type: type[C], values: Mapping[str, Any]) -> C:
    """Return a configuration of these values. path: for the errors. Raises ConfigError."""
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        lines = [
            f"{path}: {_describe(problem, config_type)}" for problem in problems[:_MAX_PROBLEMS]
        ]
        if len(problems) > len(lines):
            lines.append(f"{path}: and {len(problems) - len(lines)} more")
        raise ConfigError("\n".join(lines)) from error


def _describe(problem: ErrorDetails, config_type: type[BaseModel]) -> str:
    """Return the key, the reason and, for an unknown key, the most similar one."""
    key = one_line(_format_key(problem["loc"]), _MAX_LENGTH)
    if problem["type"] != "extra_forbidden":
        reason = one_line(strip_label(problem["msg"]), _MAX_LENGTH)
        # An error of the file as a whole names its keys itself.
        return f"{key}: {reason}" if key else reason
    hint = did_you_mean(str(problem["loc"][-1]), set(_all_keys(config_type)), most=1)
    return f"{key}: unknown key{hint}"


def _format_key(location: tuple[int | str, ...]) -> str:
    """Format ("models", 0, "name") as models[0].name."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def _all_keys(kind: Any) -> Iterator[str]:
    """Yield all keys of a configuration and of its parts."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name
            yield from _all_keys(field.annotation)
    for part in get_args(kind):
        yield from _all_keys(part)
