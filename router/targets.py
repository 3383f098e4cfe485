"""The replicas that `make scale` and `make restart` change while the router runs.

The process manager of `make up` writes them to a file of its run folder; the router reads it again
when it changes. A route in the configuration names the first replica of a service only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from router.config import Route, RouterConfig
from services.common.addresses import Address
from services.common.config import ConfigError, StrictModel


class KnownReplicas(StrictModel):
    """The replicas behind a target of a route.

    targets: the addresses of the replicas. held: none of them may serve now, because the only one
    restarts. Calls then wait up to their deadlines.
    """

    targets: Annotated[list[Address], Field(min_length=1)]
    held: bool = False


#: Calls that wait while the only replica of a service restarts.
_HELD = 4096

#: By the target that a route names.
KnownSets = Mapping[str, KnownReplicas]

_FILE = TypeAdapter(dict[Address, KnownReplicas])


def read_sets(path: Path) -> KnownSets:
    """Read the file; a missing one is empty. Raises ConfigError."""
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{path}: cannot be read: {type(error).__name__}") from error


def update_sets(path: Path, sets: KnownSets) -> bool:
    """Replace the file as a whole. Returns whether its content has changed."""
    with suppress(ConfigError):
        if read_sets(path) == sets:
            return False
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(_FILE.dump_json(dict(sets)))
    new.replace(path)
    return True


def expand_routes(config: RouterConfig) -> Mapping[str, Route]:
    """Return each route as `expand` does, by its prefix. Raises ConfigError."""
    sets = read_sets(config.replicas)
    try:
        return {prefix: expand(route, sets) for prefix, route in config.routes.items()}
    except ValueError as error:
        raise ConfigError(f"{config.replicas}: {error}") from error


def expand(route: Route, sets: KnownSets) -> Route:
    """Return a route with all replicas of its targets. It holds calls if none may serve now.

    Raises ValueError if such a route is not allowed, such as without `tls.server_name`.
    """
    if not any(target in sets for target in route.targets):
        return route
    found = [sets.get(target, KnownReplicas(targets=[target])) for target in route.targets]
    targets = dict.fromkeys(target for one in found for target in one.targets)
    hold = max(route.hold, _HELD) if all(one.held for one in found) else route.hold
    return Route.model_validate(route.model_dump() | {"targets": list(targets), "hold": hold})
