"""A gateway in front of a router and a scripted backend, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.config import GatewayConfig
from gateway.process import GatewayServer
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, serving

MESSAGES = [{"role": "user", "content": "Your move?"}]


@dataclass
class OpenDoor:
    """A running gateway, and what is behind it."""

    backend: ScriptedBackend
    server: GatewayServer
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    async def post(
        self, path: str = "/v1/chat/completions", headers: Any = None, **body: Any
    ) -> tuple[int, Any, Any]:
        """Return status, headers and body of an answer."""
        if path.endswith("/chat/completions"):
            body = {"messages": MESSAGES, **body}
        body = {"model": "hf_model", **body}
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            return answer.status, answer.headers, await answer.json()


#: Opens a door; its arguments are keys of the gateway's configuration, and `tokens` of the router.
Opener = Callable[..., AbstractAsyncContextManager[OpenDoor]]


@asynccontextmanager
async def open_gateway(
    tokens: Any = None, usage: Any = None, **settings: Any
) -> AsyncIterator[OpenDoor]:
    backend = ScriptedBackend()
    async with serving(LlmServicer(backend)) as service:
        own = {} if tokens is None else {"tokens": tokens, "usage": usage}
        routes = {"hf_": Route(targets=[service.address])}
        config = RouterConfig(listen="127.0.0.1:0", routes=routes, **own)
        async with serving(Router(config)) as router:
            target = settings.pop("router", router.address)
            gateway = GatewayServer(GatewayConfig(listen="127.0.0.1:0", router=target, **settings))
            running = asyncio.create_task(gateway.serve())
            try:
                async with aiohttp.ClientSession() as session:
                    yield OpenDoor(backend, gateway, session)
            finally:
                gateway.stop()
                await running


@pytest.fixture
def open_door() -> Opener:
    return open_gateway


@pytest.fixture
async def door() -> AsyncIterator[OpenDoor]:
    async with open_gateway() as door:
        yield door
