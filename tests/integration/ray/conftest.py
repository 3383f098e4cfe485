"""A client of a router before the hf service on Ray Serve."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from arena_llm import AsyncClient
from router.config import Route, RouterConfig
from router.servicer import Router
from tests.support.ray_serve import RayServe
from tests.support.scripted import serving


@pytest.fixture
async def llm(ray_serve: RayServe) -> AsyncIterator[AsyncClient]:
    """A client of a router, whose route leads to Serve's ingress."""
    route = Route(targets=[ray_serve.address], application="hf")
    config = RouterConfig(listen="127.0.0.1:0", routes={"hf_": route}, ask_timeout_seconds=60)
    async with serving(Router(config)) as server, AsyncClient(server.address, timeout=120) as llm:
        yield llm
