"""Plays episodes in several processes, on this machine or on a cluster, with Ray.

The coordinator is an actor on the driver's machine, which stores every reply before a worker
uses it. So no file is shared between machines, and a node that dies loses only the replies that
were on their way. Workers are tasks, which crew.py keeps on the nodes that can play.
They load no models; all of them call the same router.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from arena.experiment.model_calls import ModelCaller
from arena.experiment.patience import RouterAway
from arena.runners.coordinator import Coordinator
from arena.runners.crew import Crew, Node, RayError, WorkerLost
from arena.runners.job import Job, RunProgress
from arena.runners.nodes import check_node, find_versions, make_runtime_env
from arena.runners.worker import Watch, play, watch_run
from arena_llm.connection import is_local

#: Seconds that the check of a node may take: its process starts, and imports the arena.
_CHECK_SECONDS = 120
#: Seconds for which a worker of a cluster waits for the router, before it leaves its node.
_ROUTER_SECONDS = 15.0
#: Characters of an error of Ray that are shown.
_MOST_OF_ERROR = 300
#: Bytes of Ray's shared memory: Ray's minimum, because messages are small.
_OBJECT_STORE = 80 * 2**20
#: Maximum length in bytes of the path above Ray's folder. On macOS the path of a socket has
#: at most 103 bytes, and Ray appends 64 bytes to its folder's path.
_MAX_BASE_LENGTH = 103 - 64 - len("/arena-ray-12345678")


async def run_ray(job: Job, watch: Watch) -> RunProgress:
    """Play all missing episodes. Raises ResultsError, RecordingError, RayError."""
    entry = job.experiment.settings.ray
    runtime_env = make_runtime_env(job.experiment) if entry.address is not None else None
    with _ray(entry.address, runtime_env) as ray:
        here = _pin(ray, ray.get_runtime_context().get_node_id())
        actor = ray.remote(_Actor).options(num_cpus=0, scheduling_strategy=here).remote()
        coordinator = cast(Coordinator, _RemoteCoordinator(actor))
        try:
            cluster = _RayCluster(ray, job, actor)
            if refused := next((n for n in await cluster.list_nodes() if n.refusal), None):
                raise RayError(f"node {refused.address} cannot play: {refused.refusal}")
            places = await _result(actor.open.remote(job))
            crew = Crew(cluster, coordinator, places, job.experiment.settings.patience)
            return await watch_run(crew.run(), coordinator, watch)
        finally:
            await coordinator.close()


def _pin(ray: Any, node: str) -> Any:
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)


class _RayCluster:
    """The nodes of a cluster, for a crew (see crew.Cluster)."""

    def __init__(self, ray: Any, job: Job, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self._job = ray.put(job)
        entry = job.experiment.settings.ray
        self._is_ours = entry.address is None
        self._versions = find_versions()
        self._here = ray.get_runtime_context().get_node_id()
        # A loopback address in the file says that each node has a router.
        self._target = ""
        if isinstance(job.backend, ModelCaller) and entry.target is None:
            self._target = job.backend.target

    async def list_nodes(self) -> list[Node]:
        """See crew.Cluster."""
        nodes = await asyncio.to_thread(self._ray.nodes)
        here = {node["NodeManagerAddress"] for node in nodes if node["NodeID"] == self._here}
        return [
            Node(
                node["NodeID"],
                address := node["NodeManagerAddress"],
                int(node["Resources"].get("CPU", 0)),
                self._refuse(address not in here),
            )
            for node in nodes
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ]

    def _refuse(self, is_elsewhere: bool) -> str:
        if not (is_elsewhere and self._target and is_local(self._target)):
            return ""
        return (
            f"the router's address {self._target} is only right on this machine: add "
            "ray: {target: HOST:PORT} to the experiment, with the router's address for the nodes "
            "(localhost:PORT if a router runs on each of them)"
        )

    async def check(self, node: Node) -> str:
        """See crew.Cluster."""
        if self._is_ours:
            return ""
        task = self._ray.remote(check_node).options(**self._options(node), num_cpus=0)
        ref = task.remote(self._job, self._versions)
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                return cast(str, await _result(ref))
        except TimeoutError:
            self._ray.cancel(ref, force=True)
            return f"its check took longer than {_CHECK_SECONDS} s"
        except Exception as error:  # also what the node cannot import
            return f"it cannot run the experiment: {type(error).__name__}: {_shorten(error)}"

    async def work(self, node: Node, worker: int) -> str:
        """See crew.Cluster."""
        task = self._ray.remote(_work).options(**self._options(node))
        ref = task.remote(self._job, self._actor, worker, not self._is_ours)
        try:
            return cast(str, await _result(ref))
        except RayError as error:
            raise WorkerLost(_shorten(error)) from None
        finally:
            self._ray.cancel(ref, force=True)

    def _options(self, node: Node) -> dict[str, Any]:
        # Ray itself would try again on the same node only.
        return {"scheduling_strategy": _pin(self._ray, node.name), "max_retries": 0}


def _shorten(error: Exception) -> str:
    """Return the first characters of an error, which can hold the output of a process."""
    return " ".join(str(error).split())[:_MOST_OF_ERROR]


def _work(job: Job, actor: Any, worker: int, may_leave: bool) -> str:
    """Run one worker: the task of a process.

    may_leave: end if this node cannot reach the router, because others may. Returns why it left.
    """
    coordinator = cast(Coordinator, _RemoteCoordinator(actor))
    if may_leave and isinstance(job.backend, ModelCaller):
        job.backend.limit_router_patience(_ROUTER_SECONDS)
    try:
        asyncio.run(play(coordinator, job, worker))
    except RouterAway as away:
        return f"it cannot reach the router: {away.error}"
    return ""


class _Actor:
    """The Ray actor in whose process the coordinator runs."""

    async def open(self, job: Job) -> int:
        """Make the coordinator. Not done in __init__, so that its errors reach the driver.

        Returns the largest number of episodes in play.
        """
        self._coordinator = Coordinator(job)
        return self._coordinator.places

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
def _ray(address: str | None, runtime_env: dict[str, Any] | None = None) -> Iterator[Any]:
    """Connect Ray to the cluster at `address`, or start it on this machine for this run.

    runtime_env: what Ray sends to the nodes of the cluster.
    """
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
            options = {"address": address, "runtime_env": runtime_env}
        if address is None or address.startswith(("127.", "localhost:")):
            # Makes Ray listen on loopback only, in spite of the variable's name.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # Ray prints what happens to its processes on stdout, which is for results: skip all of it.
        # The progress display reports lost workers and nodes.
        os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."
        # Imported here because the import takes half a second and reads the variables above.
        try:
            import ray
            import ray.util.scheduling_strategies
        except ImportError as error:
            raise RayError(
                f"Ray is not installed ({error}): run `make setup WITH=ray`, install the extra "
                "ray of arena-llm-services, or run the experiment without `--runner ray`"
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
