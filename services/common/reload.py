"""Reads a service's configuration again while it runs: after a file has changed, or on SIGHUP.

A new configuration is checked as a whole and then takes effect as a whole. If it cannot be used,
the old one stays. Checking the files each second also works for network file systems and for the
links of a Kubernetes ConfigMap, where inotify says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from services.common.config import (
    ConfigError,
    ListenerConfig,
    ModelEntry,
    check_config,
    of_process,
)
from services.common.environment import DOTENV, DotenvChange, read_dotenv_again
from services.common.log import log
from services.common.metrics import meter

#: Seconds between two checks of the files, and seconds for which a file must be unchanged before it
#: is read: an editor may write it in several steps.
_PAUSE = 1.0
_STILL = 0.2


class Reloadable(Protocol):
    """A service whose configuration can change."""

    @property
    def watched(self) -> Iterable[Path]:
        """Further files that its configuration names."""

    async def reconfigure(self, config: Any) -> Iterable[str] | None:
        """Let the next call use another configuration; calls that run keep theirs.

        Returns the names of what has changed in the files that it names; None if there are none.
        Raises ConfigError if it cannot be used; nothing has changed then.
        """


class Reloader:
    """Follows the files of one process. load: reads and checks the configuration.

    Make it before the first configuration is read, so that no change is missed.
    """

    def __init__(
        self, path: Path, load: Callable[[], ListenerConfig], environment: Sequence[str]
    ) -> None:
        self._path = path
        self._load = load
        self._environment = environment
        self._stamps = self._stamp(())
        self._wanted = asyncio.Event()

    def request(self) -> None:
        """Read the configuration again even if no file has changed."""
        self._wanted.set()

    async def follow(self, service: Reloadable, config: ListenerConfig) -> None:
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
        self, service: Reloadable, old: ListenerConfig, files: Sequence[str]
    ) -> ListenerConfig:
        """Return the configuration that the service has now."""
        environ: DotenvChange | None = None
        try:
            environ = read_dotenv_again(self._environment)
            new, fixed = _keep_fixed(old, self._load())
            found = await service.reconfigure(of_process(new))
        except Exception as error:  # not even a bug may end a service that runs
            if environ is not None:
                environ.undo()
            # The text of another exception may hold a key.
            reason = str(error) if isinstance(error, ConfigError) else type(error).__name__
            log.error("configuration not reloaded", files=files, reason=reason)
            return old
        meter.know(new.model_names)
        changed = [*list_changes(old, new), *(found or ()), *environ.names]
        log.info("configuration reloaded", files=files, changed=", ".join(changed) or "nothing")
        if fixed:
            log.warning("a change needs a restart", keys=", ".join(fixed))
        return new

    async def _stamp_later(self, watched: Iterable[Path]) -> dict[Path, object]:
        await asyncio.sleep(_STILL)
        return self._stamp(watched)

    def _stamp(self, watched: Iterable[Path]) -> dict[Path, object]:
        return {path: stamp_file(path) for path in (self._path, DOTENV, *watched)}


def stamp_file(path: Path) -> object:
    """A value that changes when a file is written, replaced or removed."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns


def _keep_fixed(old: ListenerConfig, new: ListenerConfig) -> tuple[ListenerConfig, list[str]]:
    """Return the new configuration with the old values of the keys that need a restart, and these
    keys.

    Raises ConfigError if the two do not fit: a file that moves the listener to loopback and drops
    the tokens is valid, but this process still listens for other machines.
    """
    fixed = {
        name: getattr(old, name)
        for name in type(new).model_fields
        if new.needs_restart(name) and getattr(old, name) != getattr(new, name)
    }
    keys = sorted(fixed)
    if not fixed:
        return new, keys
    merged = new.model_copy(update=fixed)
    try:
        check_config(new.path, type(new), dict(merged))
    except ConfigError as error:
        raise ConfigError(f"{error} (only a restart changes {', '.join(keys)})") from error
    return merged, keys


def list_changes(old: ListenerConfig, new: ListenerConfig) -> Iterator[str]:
    """Yield the names of what has changed; never a value, which may be a key."""
    for name in type(new).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        before, after = _by_name(before), _by_name(after)
        if before is None or after is None:
            yield name
        else:
            yield from list_entries(name, before, after)


def list_entries(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the changes of a mapping: .+KEY is new, .-KEY is removed, .KEY has changed."""
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
