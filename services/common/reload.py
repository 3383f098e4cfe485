"""Reads a service's configuration again while it runs: after a file has changed, or on SIGHUP.

A new configuration is checked as a whole and then takes effect as a whole. If it cannot be used,
the old one stays. A look at the files each second also works for network file systems and for the
links of a Kubernetes ConfigMap, where inotify says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from services.common.config import ConfigError, ModelEntry, ServiceConfig, of_process
from services.common.environment import DOTENV, DotenvChange, read_dotenv_again
from services.common.log import log
from services.common.metrics import meter

#: Seconds between two looks, and for which a file must have stayed the same: an editor may write
#: it in several steps.
_PAUSE = 1.0
_STILL = 0.2


class Reloadable(Protocol):
    """A service whose configuration can change."""

    @property
    def watched(self) -> Iterable[Path]:
        """Further files that its configuration names."""

    async def reconfigure(self, config: Any) -> None:
        """Let the next call use another configuration; calls that run keep theirs.

        Raises ConfigError if it cannot be used; nothing has changed then.
        """


class Reloader:
    """Follows the files of one process. load: reads and checks the configuration.

    Make it before the first configuration is read, so that no change is missed.
    """

    def __init__(
        self, path: Path, load: Callable[[], ServiceConfig], environment: Sequence[str]
    ) -> None:
        self._path = path
        self._load = load
        self._environment = environment
        self._stamps = self._stamp(())
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Read the configuration again even if no file has changed."""
        self._wanted.set()

    async def follow(self, service: Reloadable, config: ServiceConfig) -> None:
        """Apply every change to a service, which has this configuration now. Never returns."""
        self._stamps |= self._stamp(service.watched)
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), _PAUSE)
            requested = self._wanted.is_set()
            self._wanted.clear()
            stamps = self._stamp(service.watched)
            if stamps == self._stamps and not requested:
                continue
            while stamps != (stamps := await self._stamp_later(service.watched)):
                pass
            files = sorted(str(path) for path in stamps if stamps[path] != self._stamps.get(path))
            self._stamps = stamps
            config = await self._reload(service, config, files)

    async def _reload(
        self, service: Reloadable, old: ServiceConfig, files: Sequence[str]
    ) -> ServiceConfig:
        """Return the configuration that the service has now."""
        environ: DotenvChange | None = None
        try:
            environ = read_dotenv_again(self._environment)
            new, fixed = _keep_fixed(old, self._load())
            await service.reconfigure(of_process(new))
        except Exception as error:  # not even a bug may end a service that runs
            if environ is not None:
                environ.undo()
            # The text of another exception may hold a key.
            reason = str(error) if isinstance(error, ConfigError) else type(error).__name__
            log.error("configuration not reloaded", files=files, reason=reason)
            return old
        meter.know(new.model_names)
        changed = [*list_changes(old, new), *environ.names]
        log.info("configuration reloaded", files=files, changed=", ".join(changed) or "nothing")
        if fixed:
            log.warning("a change needs a restart", keys=", ".join(fixed))
        return new

    async def _stamp_later(self, watched: Iterable[Path]) -> dict[Path, object]:
        await asyncio.sleep(_STILL)
        return self._stamp(watched)

    def _stamp(self, watched: Iterable[Path]) -> dict[Path, object]:
        return {path: _stamp(path) for path in (self._path, DOTENV, *watched)}


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns


def _keep_fixed(old: ServiceConfig, new: ServiceConfig) -> tuple[ServiceConfig, list[str]]:
    """Return the new configuration with the old values of the keys that need a restart, and these
    keys."""
    fixed = {
        name: getattr(old, name)
        for name in type(new).model_fields
        if new.needs_restart(name) and getattr(old, name) != getattr(new, name)
    }
    return (new.model_copy(update=fixed) if fixed else new), sorted(fixed)


def list_changes(old: ServiceConfig, new: ServiceConfig) -> Iterator[str]:
    """Yield the names of what has changed; never a value, which may be a key."""
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        before, after = _by_name(before), _by_name(after)
        if before is None or after is None:
            yield name
            continue
        for key in dict.fromkeys((*before, *after)):
            if before.get(key) != after.get(key):
                sign = "-" if key not in after else "+" if key not in before else ""
                yield f"{name}.{sign}{key}"


def _by_name(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and all(isinstance(item, ModelEntry) for item in value):
        return {item.name: item for item in value}
    return None
