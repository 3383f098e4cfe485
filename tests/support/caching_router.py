"""A router with a cache in front of a scripted service, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from router.config import RouterConfig
from router.servicer import Router
from tests.support.scripted import ScriptedBackend, serving
from tests.support.wire import request

#: A request whose reply the cache keeps.
GREEDY = {"config": {"temperature": 0}}
#: Runs a test with both calls that generate.
RPCS = pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])


class Stack(NamedTuple):
    """A client of the router, the router, and the backend behind it."""

    llm: Any
    router: Router
    backend: ScriptedBackend

    async def ask(self, rpc: str = "Generate", **fields: Any) -> Any:
        """Return the completion of a call."""
        return (await self.stream(rpc, **fields))[-1]

    async def stream(self, rpc: str, **fields: Any) -> list[Any]:
        """Return the texts of a call's deltas, and its completion."""
        call = getattr(self.llm, rpc)(request(**{**GREEDY, **fields}))
        if rpc == "Generate":
            return [await call]
        events = [event async for event in call]
        assert [event.sequence for event in events] == list(range(len(events)))
        kinds = [event.WhichOneof("event") for event in events]
        assert (kinds.count("start"), kinds[0], kinds[-1]) == (1, "start", "completion")
        deltas = [event.delta.text for event in events if event.HasField("delta")]
        return [*deltas, events[-1].completion]


@asynccontextmanager
async def routing(address: str, store: object, **cache: Any) -> AsyncIterator[tuple[str, Router]]:
    """A router with a cache in front of a service: its address, and the router."""
    config = RouterConfig.model_validate(
        {
            "listen": "127.0.0.1:0",
            "routes": {"hf_": {"targets": [address]}},
            "cache": {"store": str(store), **cache},
        }
    )
    router = Router(config)
    async with serving(router) as server:
        yield server.address, router


#: Opens a stack with these settings of the cache.
Open = Callable[..., AbstractAsyncContextManager[Stack]]
