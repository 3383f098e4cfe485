"""A router in front of scripted backends, all on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from router.config import Route, RouterConfig
from router.servicer import Router
from tests.support.scripted import serving
from tests.support.wire import stub

Routed = Callable[..., AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def _routed(
    *,
    ask_timeout_seconds: float = 20.0,
    settings: Mapping[str, Any] | None = None,
    **routes: list[str] | Route,
) -> AsyncIterator[Any]:
    """A stub on a router with these routes: hf_=[address, ...] or hf_=Route(...).

    settings: further keys of its configuration.
    """
    config = RouterConfig(
        listen="127.0.0.1:0",
        routes={
            prefix: route if isinstance(route, Route) else Route(targets=route)
            for prefix, route in routes.items()
        },
        ask_timeout_seconds=ask_timeout_seconds,
        **(settings or {}),
    )
    async with serving(Router(config)) as server, stub(server.address) as llm:
        yield llm


@pytest.fixture
def routed() -> Routed:
    return _routed
