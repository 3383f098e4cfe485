"""Episodes in several processes, on this machine or on a cluster, by Ray.

The desk is an actor beside the driver, so that every reply is in the results before a
worker uses it. Workers are tasks: Ray begins a lost one again, and the desk deals its
episodes anew. No worker holds a model; all ask the same router.
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

from arena.runners.desk import Desk
from arena.runners.job import Job
from arena.runners.play import Watch, play, together, watched
from arena.runners.tally import Tally

#: Episodes at once, for which another worker is worth its start.
_PLACES = 16
#: How often a worker that died is begun again.
_RETRIES = 3
#: Bytes of Ray's shared memory, its least: what travels here is small.
_OBJECT_STORE = 80 * 2**20
#: Bytes of the path of the folder that holds Ray's. The path of a socket has at most 103 on
#: macOS, and Ray appends 64 to its folder's.
_LONGEST_BASE = 103 - 64 - len("/arena-ray-12345678")


class RayError(Exception):
    """Ray cannot be reached, or has failed. What was played is saved."""


async def run(job: Job, watch: Watch) -> Tally:
    """Play what is missing. Raises ResultsError, RecordingError, RayError."""
    with _ray(job.experiment.settings.ray.address) as ray:
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        actor = ray.remote(_Actor).options(num_cpus=0, scheduling_strategy=here).remote()
        desk = cast(Desk, _Remote(actor))
        try:
            await _done(actor.open.remote(job))
            tally = await desk.tally()
            places = min(
                job.experiment.settings.episodes_in_flight, tally.total - tally.episodes.total()
            )
            return await watched(_workers(ray, job, actor, places), desk, watch)
        finally:
            await desk.close()


async def _workers(ray: Any, job: Job, actor: Any, places: int) -> None:
    """As many as there are processors, and work for."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    count = max(1, min(cpus, math.ceil(places / _PLACES)))
    task = ray.remote(_work).options(max_retries=_RETRIES, scheduling_strategy="SPREAD")
    shared = ray.put(job)
    refs = [
        task.remote(shared, actor, number, math.ceil(places / count)) for number in range(count)
    ]
    try:
        await together(_done(ref) for ref in refs)
    finally:
        for ref in refs:
            ray.cancel(ref, force=True)


def _work(job: Job, actor: Any, number: int, places: int) -> None:
    """A worker's life, in a process of its own."""
    desk = cast(Desk, _Remote(actor))
    asyncio.run(play(desk, job.experiment, job.backend, places, number))


class _Actor:
    """The desk's process."""

    async def open(self, job: Job) -> None:
        self._desk = Desk(job)

    async def call(self, calls: list[tuple[str, tuple[Any, ...]]]) -> list[tuple[Any, Any]]:
        """Call methods of the desk: (result, None) or (None, error) of each."""
        outcomes: list[tuple[Any, Any]] = []
        for method, arguments in calls:
            try:
                outcomes.append((await getattr(self._desk, method)(*arguments), None))
            except Exception as error:
                outcomes.append((None, error))
        return outcomes


class _Remote:
    """The desk's methods, from another process.

    What is called while a message is on its way goes with the next one: a message costs
    far more than what the desk does for it.
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
                outcomes = await _done(self._actor.call.remote(calls))
            except Exception as failure:  # to be raised where each of them is awaited
                outcomes = [(None, failure)] * len(calls)
            for future, (result, error) in zip(futures, outcomes, strict=True):
                if future.done():
                    continue  # who asked has been cancelled
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
        self._sender = None


async def _done(ref: Awaitable[Any]) -> Any:
    """Wait for what another process does, and raise what it raised there."""
    from ray.exceptions import RayError as Failure
    from ray.exceptions import RayTaskError

    try:
        return await ref
    except RayTaskError as error:
        raise error.cause from None
    except Failure as error:
        raise RayError(f"a process of Ray's is lost: {' '.join(str(error).split())}") from None


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster, or started here for the time of the run."""
    with ExitStack() as files:
        if address is None:
            # For us alone.
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
            # Loopback only: the variable's name is older than its meaning.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Of a lost worker the tally tells, in fewer words.
        os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "worker died|retries remaining"
        # Imported here: it takes half a second, and reads what is set above.
        import ray
        import ray.util.scheduling_strategies

        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"ray.address {address}: " if address else ""
            raise RayError(f"{where}{' '.join(str(error).split())}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _folder() -> Iterator[str]:
    """Where Ray keeps its files for the time of the run, among them sockets."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _LONGEST_BASE:
        base = "/tmp"  # noqa: S108 - the folder below it is private
    try:
        folder = tempfile.TemporaryDirectory(
            prefix="arena-ray-", dir=base, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise RayError(
            f"Ray needs a folder for its sockets, and {base} takes none ({error.strerror}): set "
            f"TMPDIR to a folder with a path of at most {_LONGEST_BASE} bytes"
        ) from error
    with folder as path:
        yield path


def _check(address: str) -> None:
    """Raise RayError where nobody listens: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return  # "auto", or whatever else Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise RayError(f"ray.address {address}: cannot be reached: {error}") from error
