"""Starts the backend under test behind the real servicer and server.

    pytest tests/conformance --backend package.module:Class [--config FILE ...] [--model NAME]

Without --backend, the sample backend and the hf service are tested.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arena_llm import AsyncClient
from arena_llm.types import Completion, Delta, GenerationRequest
from services.common.backend import BaseLLMBackend
from services.common.config import load_config
from services.common.server import Server
from services.common.servicer import LlmServicer

SAMPLE = "examples.parrot:ParrotBackend"
SAMPLE_CONFIG = Path(__file__).parents[2] / "examples/parrot.yaml"
HF = "services.hf.backend:HfBackend"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "the conformance suite for backends")
    group.addoption("--backend", metavar="MODULE:CLASS", help="the backend to test")
    group.addoption(
        "--config",
        action="append",
        type=Path,
        metavar="FILE",
        help="a configuration of it; once for each that is to be tested",
    )
    group.addoption(
        "--patience",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="how long a cancelled call may take to leave the backend; default: 20",
    )
    group.addoption("--model", help="the model to call; default: the first that is listed")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--backend", default=None):
        load_backend(path)


def load_backend(path: str) -> type[BaseLLMBackend[Any]]:
    """Return the class that MODULE:CLASS names. Raises UsageError if there is none."""
    module, _, name = path.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        backend = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"--backend {path}: {error}; write package.module:Class") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not (isinstance(backend, type) and issubclass(backend, BaseLLMBackend)):
        raise pytest.UsageError(f"--backend {path}: is not a subclass of BaseLLMBackend")
    return backend


@dataclass
class Target:
    """A backend that is being served, a client of it, and the model to call.

    patience: seconds that a cancelled call may take to leave the backend.
    running: calls that are inside the backend now. entered: all calls so far.
    """

    backend: BaseLLMBackend[Any]
    llm: AsyncClient
    model: str
    patience: float
    running: int = 0
    entered: int = 0

    def track(self) -> None:
        """Count the calls that are inside the backend from now on."""
        generate, stream = self.backend.generate_response, self.backend.stream_response

        async def generate_response(request: GenerationRequest) -> Completion:
            with self._inside():
                return await generate(request)

        async def stream_response(
            request: GenerationRequest,
        ) -> AsyncGenerator[Delta | Completion, None]:
            with self._inside():
                async with aclosing(stream(request)) as events:
                    async for event in events:
                        yield event

        self.backend.generate_response = generate_response  # type: ignore[method-assign]
        self.backend.stream_response = stream_response  # type: ignore[method-assign]

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self.entered += 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    chosen = option("--backend", default=None)
    cases: list[tuple[str, Path | None]] = [(SAMPLE, SAMPLE_CONFIG), (HF, None)]
    if chosen:
        cases = [(chosen, file) for file in option("--config", default=None) or [None]]
    names = [f"{path.rpartition(':')[2]}{f'-{file.stem}' if file else ''}" for path, file in cases]
    metafunc.parametrize("target", cases, ids=names, indirect=True, scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Target, None]:
    """The backend with one of its configurations, ready to be called."""
    path, file = request.param
    backend_type = load_backend(path)
    if file is None and path == HF:
        file = write_hf_config(tmp_path_factory.mktemp("hf"))
    config = (
        backend_type.config_type(listen="127.0.0.1:0")
        if file is None
        else load_config(file, backend_type.config_type)
    )
    async with serve(backend_type(config), request.config) as target:
        yield target


@asynccontextmanager
async def serve(
    backend: BaseLLMBackend[Any], options: pytest.Config
) -> AsyncGenerator[Target, None]:
    """Serve a backend on a free port. Without --model, its first listed model is called."""
    server = Server(LlmServicer(backend), "127.0.0.1:0")
    await server.start()
    try:
        async with AsyncClient(server.address, timeout=120) as llm:
            model = options.getoption("--model", None) or (await llm.list_models())[0].name
            target = Target(backend, llm, model, options.getoption("--patience", 20.0))
            target.track()
            yield target
    finally:
        await server.stop(grace=0)


def write_hf_config(folder: Path) -> Path:
    """Write the configuration of an hf service with one small random model."""
    from tests.support.tiny_models import make_checkpoint

    make_checkpoint(folder / "tiny", "llama", chat=True)
    config = folder / "hf_models.yaml"
    config.write_text(
        "listen: 127.0.0.1:0\ndevice: cpu\nmodels:\n"
        f"  - {{name: hf_tiny, model_path: '{folder / 'tiny'}', preload: true}}\n"
    )
    return config
