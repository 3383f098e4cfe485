"""`python -m tests.doors.stack BACKEND`: a backend, a router and the gateway in one process.

BACKEND: `echo` (tests/support/echo.py), or `hf`: the hf service with the embedded model. Prints the
addresses as one line of JSON when all serve, and ends when its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from gateway.config import GatewayConfig
from gateway.process import GatewayServer
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.log import configure_logging
from services.common.servicer import LlmServicer
from tests.support.echo import EchoBackend
from tests.support.scripted import serving


async def main(name: str) -> None:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(serving(LlmServicer(_make_backend(name))))
        routes = {f"{name}_": Route(targets=[backend.address])}
        router = await stack.enter_async_context(
            serving(Router(RouterConfig(listen="127.0.0.1:0", routes=routes)))
        )
        gateway = GatewayServer(GatewayConfig(listen="127.0.0.1:0", router=router.address))
        running = asyncio.create_task(gateway.serve())
        addresses = {
            "backend": backend.address,
            "router": router.address,
            "gateway": f"http://{gateway.address}",
        }
        print(json.dumps(addresses), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        gateway.stop()
        await running


def _make_backend(name: str) -> object:
    if name == "echo":
        return EchoBackend()
    from services.common.config import config_path, load_config
    from services.hf.backend import HfBackend
    from services.hf.config import HfConfig

    return HfBackend(load_config(config_path("hf_models.yaml"), HfConfig))


if __name__ == "__main__":
    configure_logging()
    asyncio.run(main(sys.argv[1]))
