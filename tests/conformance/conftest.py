"""Starts the backend under test behind the real servicer and server, and behind a router.

    pytest tests/conformance --backend package.module:Class [--config FILE ...] [--model NAME]

Without --backend, the sample backend, the hf service, and the openrouter service in front of a fake
provider are tested.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arena_llm import AsyncClient
from arena_llm.types import Completion, Delta, GenerationRequest, Progress
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.backend import BaseLLMBackend
from services.common.config import load_config
from services.common.server import Server, Service
from services.common.servicer import LlmServicer

SAMPLE = "examples.parrot:ParrotBackend"
SAMPLE_CONFIG = Path(__file__).parents[2] / "examples/parrot.yaml"
HF = "services.hf.backend:HfBackend"
OPENROUTER = "services.openrouter.backend:OpenRouterBackend"


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

    address: of the service, or of the router before it. patience: seconds that a cancelled call
    may take to leave the backend. prepare: sets the text that a fake provider answers; None
    without one.
    running: calls that are inside the backend now. entered: all calls so far.
    """

    backend: BaseLLMBackend[Any]
    llm: AsyncClient
    address: str
    model: str
    patience: float
    prepare: Callable[[str], None] | None = None
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
        ) -> AsyncGenerator[Delta | Progress | Completion, None]:
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
    backends: list[tuple[str, Path | None]] = [
        (SAMPLE, SAMPLE_CONFIG),
        (HF, None),
        (OPENROUTER, None),
    ]
    if chosen:
        backends = [(chosen, file) for file in option("--config", default=None) or [None]]
    cases = [(path, file, routed) for path, file in backends for routed in (False, True)]
    metafunc.parametrize("target", cases, ids=map(_name, cases), indirect=True, scope="module")


def _name(case: tuple[str, Path | None, bool]) -> str:
    path, file, routed = case
    backend = path.rpartition(":")[2]
    return f"{backend}{f'-{file.stem}' if file else ''}{'-routed' if routed else ''}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Target, None]:
    """The backend with one of its configurations, ready to be called."""
    path, file, routed = request.param
    backend_type = load_backend(path)
    async with AsyncExitStack() as stack:
        prepare: Callable[[str], None] | None = None
        if file is None and path == HF:
            file = write_hf_config(tmp_path_factory.mktemp("hf"))
        if file is None and path == OPENROUTER:
            settings, prepare = await start_provider(stack)
        else:
            settings = {"listen": "127.0.0.1:0"}
        config = (
            backend_type.config_type.model_validate(settings)
            if file is None
            else load_config(file, backend_type.config_type)
        )
        target = await stack.enter_async_context(
            serve(backend_type(config), request.config, routed)
        )
        target.prepare = prepare
        yield target


@asynccontextmanager
async def serve(
    backend: BaseLLMBackend[Any], options: pytest.Config, routed: bool
) -> AsyncGenerator[Target, None]:
    """Serve a backend on a free port. Without --model, its first listed model is called.

    routed: calls go through a router.
    """
    async with AsyncExitStack() as stack:
        address = await start_server(stack, LlmServicer(backend))
        if routed:
            routes = {f"{backend.name}_": Route(targets=[address])}
            config = RouterConfig(listen="127.0.0.1:0", routes=routes, ask_timeout_seconds=20)
            address = await start_server(stack, Router(config))
        llm = await stack.enter_async_context(AsyncClient(address, timeout=120))
        model = options.getoption("--model", None) or (await llm.list_models())[0].name
        target = Target(backend, llm, address, model, options.getoption("--patience", 20.0))
        target.track()
        yield target


async def start_server(stack: AsyncExitStack, service: Service) -> str:
    """Start a server that stops with the stack; return its address."""
    server = Server(service, "127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, grace=0)
    return server.address


async def start_provider(
    stack: AsyncExitStack,
) -> tuple[dict[str, Any], Callable[[str], None]]:
    """Start a fake provider; return settings of the service, and a function that sets the text
    of its answers."""
    from tests.support.upstreams.openrouter import KEY, OpenRouterUpstream
    from tests.support.upstreams.server import Reply

    upstream = await stack.enter_async_context(OpenRouterUpstream())
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("OPENROUTER_API_KEY", KEY)

    def prepare(text: str) -> None:
        upstream.default = Reply(text)

    settings = {
        "listen": "127.0.0.1:0",
        "base_url": upstream.url,
        "models": [{"name": "openrouter_a/plain"}],
        "allow_unlisted": False,
    }
    return settings, prepare


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
