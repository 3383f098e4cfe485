"""Set-up of every test process, and how tests are distributed over several workers."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from tests.support.ray_serve import RayServe
    from tests.support.system import System

# Make idle OpenMP threads sleep: spinning threads slow down other models on the same cores.
# Set before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# pytest imports readline, which puts the width of a terminal here; no test has a terminal.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# Tests of several processes run the same services at the same time.
for _name in ("router", *(path.parent.name for path in Path("services").glob("*/__main__.py"))):
    os.environ.setdefault(f"ARENA_{_name.upper()}_METRICS_PORT", "0")

# A background job of a shell ignores Ctrl-C, and the processes that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Unit tests of which most import litellm.
HOSTED = PurePosixPath("tests/unit/hosted")

#: Conformance tests of the litellm service, and of the vllm service: these use the engine of the
#: tests in LOCAL.
LITELLM_CONFORMANCE = re.compile(r"^tests/conformance/.*\[(openai|anthropic|gemini)[\]-]")
VLLM_CONFORMANCE = re.compile(r"^tests/conformance/.*\[vllm[\]-]")
LOCAL = PurePosixPath("tests/integration/local")

#: Tests that use the Ray cluster of `ray_serve`.
RAY_CONFORMANCE = re.compile(r"^tests/conformance/.*\[ray[\]-]")
RAY = PurePosixPath("tests/integration/ray")

#: Folders whose tests start servers.
INTEGRATION = {Path(__file__).parent / name for name in ("integration", "doors")}

#: The clusters of this process.
_clusters: list[RayServe] = []

#: Memory for one worker and the engines that its tests start.
WORKER_BYTES = 5 * 2**30


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Let no garbage collection look at the collected tests and their modules, which stay.

    They are a million objects, and each load of a model collects garbage.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """The number of workers of `-n auto`: one more than cores, fewer where memory is short.

    Tests that start services wait for them: with a worker for each core, two fifths of the time of
    two cores are idle.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min((cores or 1) + 1, psutil.virtual_memory().total // WORKER_BYTES))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Distribute whole files and folders, in the order of collection."""
    config.option.loadscopereorder = False
    return FileScheduling(config, log)


class FileScheduling(LoadScopeScheduling):
    """Runs the tests of a file in one worker, so that they share its servers.

    The tests of a folder below tests/integration run in one worker as well: they share
    the server that the folder's conftest.py starts. The tests below tests/unit/hosted form two
    groups, so that only one worker imports litellm, which takes seconds.
    """

    def _split_scope(self, nodeid: str) -> str:
        if VLLM_CONFORMANCE.match(nodeid):
            return str(LOCAL)
        if LITELLM_CONFORMANCE.match(nodeid):
            return f"{HOSTED}/litellm"
        path = _test_file(nodeid)
        if HOSTED in path.parents:
            alone = path.parent.name == "openrouter" or re.search(r"[\[-]openrouter[\]-]", nodeid)
            return f"{HOSTED}/{'openrouter' if alone else 'litellm'}"
        return str(path.parent if path.parent.parent.name == "integration" else path)


def _test_file(nodeid: str) -> PurePosixPath:
    return PurePosixPath(nodeid.partition("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of servers, and run slow tests first: short ones then fill the time that
    remains on each worker."""
    for item in items:
        if not INTEGRATION.isdisjoint(item.path.parents):
            item.add_marker(pytest.mark.integration)
            if not item.get_closest_marker("timeout"):
                # The first test of a file starts its servers.
                item.add_marker(pytest.mark.timeout(600))
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    """Folders with a shared server, other integration tests, large unit tests, then the rest."""
    if VLLM_CONFORMANCE.match(item.nodeid):
        return 0
    if not item.get_closest_marker("integration"):
        return 2 if HOSTED in _test_file(item.nodeid).parents else 3
    return 0 if item.path.parent.parent.name == "integration" else 1


@pytest.fixture(scope="session")
def local_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with hf and vllm, for the tests in LOCAL and the conformance tests of vllm."""
    from tests.support.local_system import start_local_system  # imports torch

    system = start_local_system(tmp_path_factory.mktemp("local"), tmp_path_factory.mktemp("t"))
    yield system
    system.close()


@pytest.fixture(scope="session")
def ray_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServe]:
    """The hf service on a Ray cluster, for the tests in RAY and the conformance tests of ray."""
    from tests.support.ray_serve import RayServe  # imports torch

    with RayServe(tmp_path_factory.mktemp("ray")) as serve:
        _clusters.append(serve)
        yield serve


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop the cluster after the last test that uses it: it takes CPU while it is idle."""
    if _uses_ray_serve(item) and not (nextitem and _uses_ray_serve(nextitem)):
        for serve in _clusters:
            serve.stop()


def _uses_ray_serve(item: pytest.Item) -> bool:
    return bool(RAY_CONFORMANCE.match(item.nodeid)) or RAY in _test_file(item.nodeid).parents
