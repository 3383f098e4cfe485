"""Our services, and foreign programs, together in a network in which only loopback is up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.services import ROOT
from tests.doors.environments import find_base, find_python, list_names
from tests.support.guard import kill_at_exit
from tests.support.network import LoopbackNetwork, can_isolate

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Stack:
    """The addresses of a backend, a router and the gateway, in the network of the tests."""

    backend: str
    router: str
    gateway: str


#: Runs a file of programs/ with the interpreter of a foreign program, and returns its output.
RunProgram = Callable[..., str]


@pytest.fixture(scope="session")
def network() -> Iterator[LoopbackNetwork]:
    if not can_isolate():
        pytest.skip("needs unshare and ip, and the right to use them")
    with LoopbackNetwork() as network:
        yield network


@pytest.fixture(scope="session")
def echo_stack(network: LoopbackNetwork) -> Iterator[Stack]:
    """A backend that shows what it gets: its model is echo_model."""
    with _start(network, "echo") as stack:
        yield stack


@pytest.fixture(scope="session")
def hf_stack(network: LoopbackNetwork) -> Iterator[Stack]:
    """The hf service with the embedded model, hf_smollm2-135m-instruct."""
    with _start(network, "hf") as stack:
        yield stack


@pytest.fixture(scope="session")
def run_program(network: LoopbackNetwork) -> RunProgram:
    """Run `PYTHON file *words` of a foreign program in the network; return what it prints.

    name: of its environment. file: of programs/; without one the words are the whole command.
    ours: it may import the arena and the client. Fails with its output if the program fails.
    """

    def run(
        name: str, *words: str, file: str = "", cwd: Path | None = None, ours: bool = False,
        timeout: float = 300,
    ) -> str:  # fmt: skip
        python = find_python(name)
        if python is None:
            assert name in list_names(), f"tests/doors/requirements has no {name}.in"
            if find_base(name) is None:
                pytest.skip(f"{name} needs a newer Python than any that is installed")
            pytest.skip(f"{name} is not installed: make test-doors")
        command = [str(PROGRAMS / file), *words] if file else list(words)
        # Nothing of our own environment reaches it, and it needs no offline variable.
        environ = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), "LANG": "C.UTF-8"}
        if ours:
            environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'client/src'}"
        done = subprocess.run(
            network.command([str(python), *command]),
            cwd=cwd or tempfile.gettempdir(), env=environ, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{name} failed:\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        return done.stdout

    return run


@contextmanager
def _start(network: LoopbackNetwork, backend: str) -> Iterator[Stack]:
    command: Sequence[str] = [sys.executable, "-m", "tests.doors.stack", backend]
    with tempfile.NamedTemporaryFile(suffix=".log") as log, subprocess.Popen(
        network.command(command), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=log, text=True,
    ) as running:  # fmt: skip
        guard = kill_at_exit(running.pid)
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line, Path(log.name).read_text()[-4000:]
        yield Stack(**json.loads(line))
        guard.cancel()
