"""Configuration files: YAML checked by pydantic; every error has file, key and reason."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic_core import ErrorDetails

from arena_llm.connection import split_host_port
from arena_llm.suggestions import did_you_mean
from arena_llm.terminal import one_line
from arena_llm.yaml_file import YamlError, read_mapping


class ConfigError(Exception):
    """A configuration that cannot be used. The message has the file, the key and the reason."""


def config_path(filename: str) -> Path:
    """Return the path of a configuration file: in $ARENA_CONFIG_DIR, else in ./configs."""
    return Path(os.environ.get("ARENA_CONFIG_DIR") or "configs") / filename


def _check_address(value: str) -> str:
    try:
        split_host_port(value, lowest_port=0)
    except ValueError as error:
        raise ValueError(
            f"{value!r} {error}: write host:port, such as 127.0.0.1:50051, with a name or an IP "
            "address (IPv6 in brackets) and a port from 0 to 65535"
        ) from None
    return value


#: "host:port"; port 0 lets the system choose one.
Address = Annotated[str, AfterValidator(_check_address)]


class StrictModel(BaseModel):
    """A mapping of a configuration file: unknown keys are errors, and values are immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class ServiceConfig(StrictModel):
    """The keys that the configuration of every service has.

    request_id_seconds: how long the reply to a request_id is kept after its call has ended, so
    that the same request does not pay twice; 0 turns this off. request_id_bytes: of all kept
    replies together. max_calls_in_flight, max_bytes_in_flight: of all calls and their requests; 0
    means no limit.
    """

    listen: Address
    request_id_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    request_id_bytes: Annotated[int, Field(ge=0)] = 64 * 2**20
    max_calls_in_flight: Annotated[int, Field(ge=0)] = 4096
    max_bytes_in_flight: Annotated[int, Field(ge=0)] = 512 * 2**20
    _path: Path = PrivateAttr(default=Path())
    _whole: ServiceConfig | None = PrivateAttr(default=None)

    @property
    def whole(self) -> ServiceConfig:
        """The configuration of all workers together: this one, if there is one process only."""
        return self._whole or self

    @property
    def path(self) -> Path:
        """The file from which `load_config` read it, for errors."""
        return self._path


class SharedConfig(ServiceConfig):
    """The configuration of a service that may run as several processes.

    workers: their number. They share the port, and each gets its part of all bounds, so that the
    bounds hold for all of them together. Each connection of a caller leads to one of them.
    """

    workers: Annotated[int, Field(ge=1, le=64)] = 1

    def of_worker(self) -> Self:
        """Return the configuration of one worker: its part of the bounds."""
        bounds = ("max_calls_in_flight", "max_bytes_in_flight", "request_id_bytes")
        own = divide(self, self.workers, bounds)
        own._whole = self
        return own


D = TypeVar("D", bound=StrictModel)


def divide(config: D, parts: int, names: Iterable[str]) -> D:
    """Return a copy in which these bounds are divided.

    Whole numbers are rounded down, but not to 0, which means that there is no limit.
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
            raise ValueError(f"{entry.name!r} must be {prefix!r} followed by a name")
        if entry.name in seen:
            raise ValueError(f"{entry.name!r} is listed twice")
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


def load_config(path: Path, config_type: type[C]) -> C:
    """Read and check one YAML file.

    Raises ConfigError for a missing file, broken YAML, a duplicate key, an unknown key and
    a value out of range. The message has the file and, if there is one, the key.
    """
    try:
        raw = read_mapping(path)
    except YamlError as error:
        raise ConfigError(f"{error}") from error
    try:
        config = config_type.model_validate(_expand_values(raw, path))
    except ValidationError as error:
        problems = error.errors()
        lines = [
            f"{path}: {_describe(problem, config_type)}" for problem in problems[:_MAX_PROBLEMS]
        ]
        if len(problems) > len(lines):
            lines.append(f"{path}: and {len(problems) - len(lines)} more")
        raise ConfigError("\n".join(lines)) from error
    if isinstance(config, ServiceConfig):
        config._path = path
    return config


def _describe(problem: ErrorDetails, config_type: type[BaseModel]) -> str:
    """Return the key, the reason and, for an unknown key, the most similar one."""
    key = one_line(_format_key(problem["loc"]), _MAX_LENGTH) or "the file"
    if problem["type"] != "extra_forbidden":
        return f"{key}: {one_line(problem['msg'], _MAX_LENGTH)}"
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
