"""What the suite tests: a backend that is being served, a client of it, and the model to call."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import pytest

from arena_llm import AsyncClient
from arena_llm.types import Completion, Delta, EngineLoad, GenerationRequest, Progress
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.backend import BaseLLMBackend
from services.common.config import load_config
from services.common.server import Server, Service
from services.common.servicer import LlmServicer
from tests.support.edge import edge_before
from tests.support.ports import free_ports
from tests.support.system import System
from tests.support.upstreams.openai import LOGPROBS
from tests.support.upstreams.server import Reply

if TYPE_CHECKING:
    from tests.support.ray_serve import RayServe

#: What calls go through: nothing, the router, or Envoy before the router.
Door = Literal["service", "router", "edge"]

#: Fields of all requests to a backend that honours them, so that replies are short and repeatable.
STEADY: Mapping[str, int] = {"max_tokens": 16, "seed": 1}


class Calls(ABC):
    """The calls that are inside the backend."""

    @abstractmethod
    async def entered(self) -> int:
        """A number that is larger once another call has entered."""

    @abstractmethod
    async def running(self) -> int:
        """How many calls are inside now; in another process, as it last reported."""


@dataclass
class Target:
    """A backend that is being served, and the model to call.

    address: of the service, or of its router or Envoy. fields: those that the model lists.
    patience: seconds that a cancelled call may take to leave the backend. prepare: makes a fake
    provider answer a request with a field, by its path; None without one.
    """

    backend: type[BaseLLMBackend[Any]]
    llm: AsyncClient
    address: str
    model: str
    fields: frozenset[str]
    patience: float
    calls: Calls
    prepare: Callable[[str], None] | None = None

    @property
    def prefix(self) -> str:
        return f"{self.backend.name}_"

    def steady(self, *without: str) -> dict[str, int]:
        """The options of STEADY that the model honours, without those of these names."""
        return {
            name: value
            for name, value in STEADY.items()
            if f"config.{name}" in self.fields and name not in without
        }


async def list_fields(llm: AsyncClient, model: str) -> frozenset[str]:
    """The fields that a model lists, once it is available: on a busy machine that takes time."""
    async with asyncio.timeout(120):
        while True:
            answer = await llm.is_available(model)
            if answer.available and answer.model is not None:
                return frozenset(answer.model.supported_fields)
            await asyncio.sleep(0.1)


# --- a backend in this process ------------------------------------------------------------


class CountedCalls(Calls):
    """Counts the calls of a backend in this process."""

    def __init__(self, backend: BaseLLMBackend[Any]) -> None:
        self._entered = self._running = 0
        generate, stream = backend.generate_response, backend.stream_response

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

        backend.generate_response = generate_response  # type: ignore[method-assign]
        backend.stream_response = stream_response  # type: ignore[method-assign]

    async def entered(self) -> int:
        return self._entered

    async def running(self) -> int:
        return self._running

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self._entered += 1
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


@asynccontextmanager
async def serve(
    backend: BaseLLMBackend[Any], door: Door, model: str = "", patience: float = 20.0
) -> AsyncIterator[Target]:
    """Serve a backend on a free port. Without `model`, its first listed model is called.

    door: what the calls go through.
    """
    async with AsyncExitStack() as stack:
        address = await _start_server(stack, LlmServicer(backend))
        if door != "service":
            routes = {f"{backend.name}_": Route(targets=[address])}
            router, edge = (f"127.0.0.1:{port}" for port in free_ports(2))
            config = RouterConfig(listen=router, edge=edge, routes=routes, ask_timeout_seconds=20)
            address = await _start_server(stack, Router(config), router)
        if door == "edge":
            folder = Path(stack.enter_context(TemporaryDirectory()))
            await stack.enter_async_context(edge_before(config, folder))
            address = edge
        llm = await stack.enter_async_context(AsyncClient(address, timeout=120))
        model = model or (await llm.list_models())[0].name
        fields, calls = await list_fields(llm, model), CountedCalls(backend)
        yield Target(type(backend), llm, address, model, fields, patience, calls)


async def _start_server(
    stack: AsyncExitStack, service: Service, listen: str = "127.0.0.1:0"
) -> str:
    """Start a server that stops with the stack; return its address."""
    server = Server(service, listen)
    await server.start()
    stack.push_async_callback(server.stop, grace=0)
    return server.address


@asynccontextmanager
async def serve_parrot(door: Door) -> AsyncIterator[Target]:
    """The example in the documentation."""
    from examples.parrot import ParrotBackend, ParrotConfig

    file = Path(__file__).parents[2] / "examples/parrot.yaml"
    async with serve(ParrotBackend(load_config(file, ParrotConfig)), door) as target:
        yield target


@asynccontextmanager
async def serve_hf(door: Door, folder: Path) -> AsyncIterator[Target]:
    """The hf service with one small random model, which has parsers of tools and reasoning."""
    from services.hf.backend import HfBackend
    from services.hf.config import HfConfig
    from tests.support.local_models import hf_models, make_tiny

    models = hf_models(folder, make_tiny(folder / "tiny"))
    settings = {"listen": "127.0.0.1:0", "device": "cpu", "models": models[1:]}
    async with serve(HfBackend(HfConfig.model_validate(settings)), door) as target:
        yield target


#: The answer of a fake provider to a request with a field, by its path.
ANSWERS: Mapping[str, Reply] = {
    "constraint.choices": Reply("south-west"),
    "constraint.json_schema": Reply('{"move": "a"}'),
    "constraint.json_object": Reply("{}"),
    "config.stop": Reply(""),
    "returns.top_logprobs": LOGPROBS,
}


@asynccontextmanager
async def serve_hosted(name: str, door: Door) -> AsyncIterator[Target]:
    """A hosted service in front of one of the fake providers."""
    from tests.support.providers import PROVIDERS
    from tests.support.upstreams.openrouter import OpenRouterUpstream, list_everything

    provider = PROVIDERS[name]
    with pytest.MonkeyPatch.context() as environment:
        for variable in list(os.environ):
            if variable.endswith(("_API_KEY", "_API_BASE")):
                environment.delenv(variable)
        environment.setenv(provider.variable, provider.key)
        async with provider.upstream() as upstream:
            if isinstance(upstream, OpenRouterUpstream):
                upstream.models = [list_everything(provider.model.removeprefix("openrouter_"))]
            url: str = upstream.url  # type: ignore[attr-defined] # of every fake
            settings = {"listen": "127.0.0.1:0", "allow_unlisted": False}
            async with serve(provider.make_backend(url, {}, settings), door) as target:

                def prepare(path: str) -> None:
                    upstream.default = ANSWERS.get(path) or Reply()

                target.prepare = prepare
                yield target


# --- a service in another process ---------------------------------------------------------


class ReportedCalls(Calls):
    """The calls of a local model, as its service reports them."""

    def __init__(self, llm: AsyncClient, model: str) -> None:
        self._llm = llm
        self._model = model

    async def entered(self) -> int:
        load = await self._load()
        return load.generated_tokens + load.running

    async def running(self) -> int:
        load = await self._load()
        return load.running + load.waiting

    async def _load(self) -> EngineLoad:
        return (await self._llm.is_available(self._model)).load or EngineLoad()


@asynccontextmanager
async def join_vllm(door: Door, system: System) -> AsyncIterator[Target]:
    """The vllm service of a running system, with its real engine."""
    from services.vllm.backend import VllmBackend
    from tests.support.local_models import LocalService

    service = LocalService("vllm", system)
    address = system.target if door == "router" else service.address
    async with AsyncClient(address, timeout=120) as llm:
        fields, calls = await list_fields(llm, service.tiny), ReportedCalls(llm, service.tiny)
        yield Target(VllmBackend, llm, address, service.tiny, fields, 20.0, calls)


@asynccontextmanager
async def join_ray(serve: RayServe) -> AsyncIterator[Target]:
    """The hf service on Ray Serve, behind a router."""
    from services.hf.backend import HfBackend
    from tests.support.ray_serve import MODEL

    async with AsyncExitStack() as stack:
        route = Route(targets=[serve.address], application="hf")
        config = RouterConfig(listen="127.0.0.1:0", routes={"hf_": route}, ask_timeout_seconds=60)
        address = await _start_server(stack, Router(config))
        llm = await stack.enter_async_context(AsyncClient(address, timeout=120))
        fields, calls = await list_fields(llm, MODEL), ReportedCalls(llm, MODEL)
        yield Target(HfBackend, llm, address, MODEL, fields, 20.0, calls)
