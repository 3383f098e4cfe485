"""Envoy before a router that runs in this process, configured as by `make up EDGE=envoy`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from arena_llm.tls import Tls
from deploy.edge import clusters, routes
from deploy.edge.envoy import Envoy
from deploy.edge.parts import Json
from router.config import RouterConfig
from router.targets import KnownSets

#: Envoy has no build for some systems.
needs_envoy = pytest.mark.skipif(
    find_spec("envoy") is None, reason="Envoy is not installed: make setup WITH=edge"
)


def make_resources(
    config: RouterConfig, sets: KnownSets | None = None, tls: Tls | None = None
) -> dict[str, list[Json]]:
    """All files that Envoy follows. The prefix hf_ is that of a service with engines."""
    return {
        "secrets": routes.make_secrets(config),
        **clusters.make_endpoints(config, sets or {}),
        "clusters": clusters.make_clusters(config, {"hf_"}, tls),
        "routes": routes.make_routes(config, {"hf_"}),
        "listeners": routes.make_listeners(config),
    }


@asynccontextmanager
async def edge_before(
    config: RouterConfig, folder: Path, tls: Tls | None = None
) -> AsyncIterator[Envoy]:
    """Yield Envoy, which listens on the address `edge` of the configuration."""
    envoy = Envoy(folder)
    envoy.write_bootstrap(routes.make_bootstrap(config))
    envoy.write(make_resources(config, tls=tls))
    envoy.start()
    try:
        await asyncio.to_thread(envoy.wait_applied)
        yield envoy
    finally:
        await asyncio.to_thread(envoy.stop, 0)
