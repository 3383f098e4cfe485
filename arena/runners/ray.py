"""Plays episodes in several processes, on this machine or on a cluster, with Ray.

The coordinator is an actor on the driver's machine, which stores every reply before a worker
uses it. Workers are tasks: Ray restarts a worker that died, and the coordinator queues its
episodes again. Workers load no models; all of them call the same router.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from arena.runners.coordinator import Coordinator, Job, RunProgress
from arena.runners.worker import Watch, play, run_all, watch_run

#: Simultaneous episodes per worker: with fewer, another worker is not worth its start.
_PLACES = 16
#: How many times Ray restarts a worker that died.
_RETRIES = 3
#: Bytes of Ray's shared memory: Ray's minimum, because messages are small.
_OBJECT_STORE = 80 * 2**20
#: Maximum length in bytes of the path above Ray's folder. On macOS the path of a socket has
#: at most 103 bytes, and Ray appends 64 bytes to its folder's path.
_MAX_BASE_LENGTH = 103 - 64 - len("/arena-ray-12345678")


class RayError(Exception):
    """Ray cannot be reached, or has failed. All results so far are stored."""


async def run_ray(job: Job, watch: Watch) -> RunProgress:
    """Play all missing episodes. Raises ResultsError, RecordingError, RayError."""
    with _ray(job.experiment.settings.ray.address) as ray:
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        actor = ray.remote(_Actor).options(num_cpus=0, scheduling_strategy=here).remote()
        coordinator = cast(Coordinator, _RemoteCoordinator(actor))
        try:
            await _result(actor.open.remote(job))
            progress = await coordinator.progress()
            places = min(
                job.experiment.settings.episodes_in_flight,
                progress.total - progress.episodes.total(),
            )
            return await watch_run(_run_workers(ray, job, actor, places), coordinator, watch)
        finally:
            await coordinator.close()


async def _run_workers(ray: Any, job: Job, actor: Any, places: int) -> None:
    """Run one worker for each processor, but no more than `places` episodes need."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    count = max(1, min(cpus, math.ceil(places / _PLACES)))
    task = ray.remote(_work).options(max_retries=_RETRIES, scheduling_strategy="SPREAD")
    shared = ray.put(job)
    refs = [
        task.remote(shared, actor, number, math.ceil(places / count)) for number in range(count)
    ]
    try:
        await run_all(_result(ref) for ref in refs)
    finally:
        for ref in refs:
            ray.cancel(ref, force=True)


def _work(job: Job, actor: Any, number: int, places: int) -> None:
    """Run one worker: the task of a process."""
    coordinator = cast(Coordinator, _RemoteCoordinator(actor))
    asyncio.run(play(coordinator, job, places, number))


class _Actor:
    """The Ray actor in whose process the coordinator runs."""

    async def open(self, job: Job) -> None:
        """Make the coordinator. Not done in __init__, so that its errors reach the driver."""
        self._coordinator = Coordinator(job)

    async def call(self, calls: list[tuple[str, tuple[Any, ...]]]) -> list[tuple[Any, Any]]:
        """Call methods of the coordinator; returns (result, None) or (None, error) for each."""
        outcomes: list[tuple[Any, Any]] = []
        for method, arguments in calls:
            try:
                outcomes.append((await getattr(self._coordinator, method)(*arguments), None))
            except Exception as error:
                outcomes.append((None, error))
        return outcomes


class _RemoteCoordinator:
    """The coordinator's methods, for use in another process.

    Calls that are made while a message is on its way are sent together in the next message,
    because a message costs far more than the coordinator's work for one call.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._calls: list[tuple[str, tuple[Any, ...]]] = []
        self._futures: list[asyncio.Future[Any]] = []
        self._sender: asyncio.Task[None] | None = None

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return lambda *arguments: self._call(method, arguments)

    def _call(self, method: str, arguments: tuple[Any, ...]) -> asyncio.Future[Any]:
        future = asyncio.get_running_loop().create_future()
        self._calls.append((method, arguments))
        self._futures.append(future)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return future

    async def _send(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            futures, self._futures = self._futures, []
            try:
                outcomes = await _result(self._actor.call.remote(calls))
            except Exception as failure:  # each caller gets this error
                outcomes = [(None, failure)] * len(calls)
            for future, (result, error) in zip(futures, outcomes, strict=True):
                if future.done():
                    continue  # the caller was cancelled
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
        self._sender = None


async def _result(ref: Awaitable[Any]) -> Any:
    """Wait for the result of another process, and raise the error that it raised."""
    from ray.exceptions import RayError as Failure
    from ray.exceptions import RayTaskError

    try:
        return await ref
    except RayTaskError as error:
        raise error.cause from None
    except Failure as error:
        raise RayError(f"a process of Ray was lost: {' '.join(str(error).split())}") from None


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Connect Ray to the cluster at `address`, or start it on this machine for this run."""
    with ExitStack() as files:
        if address is None:
            # A secret token keeps other users of this machine out.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            options: dict[str, Any] = {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
                "_temp_dir": files.enter_context(_folder()),
            }
        else:
            _check(address)
            options = {"address": address}
        if address is None or address.startswith(("127.", "localhost:")):
            # Makes Ray listen on loopback only, in spite of the variable's name.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Skip Ray's messages about lost workers; the progress display reports them.
        os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "worker died|retries remaining"
        # Imported here because the import takes half a second and reads the variables above.
        try:
            import ray
            import ray.util.scheduling_strategies
        except ImportError as error:
            raise RayError(
                f"Ray is not installed ({error}): run `make setup WITH=ray`, or run the "
                "experiment without `--runner ray`"
            ) from error

        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
        except Exception as error:  # of many types; a start that takes too long is an Exception
            where = f"ray.address {address}: " if address else ""
            raise RayError(f"{where}{' '.join(str(error).split())}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _folder() -> Iterator[str]:
    """Make a temporary folder for Ray's files, which include sockets."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _MAX_BASE_LENGTH:
        base = "/tmp"  # noqa: S108 - the folder made in it is private
    try:
        folder = tempfile.TemporaryDirectory(
            prefix="arena-ray-", dir=base, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise RayError(
            f"Ray cannot make a folder for its sockets in {base} ({error.strerror}): set "
            f"TMPDIR to a folder with a path of at most {_MAX_BASE_LENGTH} bytes"
        ) from error
    with folder as path:
        yield path


def _check(address: str) -> None:
    """Raise RayError if nothing listens at the address. Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return  # "auto", or another special value
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise RayError(f"ray.address {address}: cannot be reached: {error}") from error
