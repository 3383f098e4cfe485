"""Where Ray Serve listens: its ports have neither encryption nor tokens."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from arena_llm import AsyncClient
from deploy.ray.replica import listen_privately
from services.common.addresses import is_loopback
from tests.support.ports import free_ports
from tests.support.ray_serve import MODEL, RayServe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.mark.cluster
async def test_only_figures_are_shown_to_other_machines(
    ray_serve: RayServe, llm: AsyncClient
) -> None:
    await llm.generate(MODEL, "a b c", max_tokens=4)
    ingress = int(ray_serve.address.rpartition(":")[2])
    addresses = ray_serve.listening()
    assert ingress in {port for _, port in addresses}
    # Of HAProxy: docs/ray.md.
    open_to_all = {port for host, port in addresses if not is_loopback(f"{host}:{port}")}
    assert open_to_all == {ingress + 2, ingress + 3}
    # A replica's own, to which HAProxy sends the calls.
    assert [port for host, port in addresses if 40000 <= port <= 41000 and host == "127.0.0.1"]


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own
async def test_a_server_of_serve_has_its_nodes_addresses_and_a_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray.serve._private import grpc_util, replica
    from ray.serve.config import gRPCOptions

    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.2")
    for module, name in ((grpc_util, "gRPCGenericServer"), (replica, "add_port_to_grpc_server")):
        monkeypatch.setattr(module, name, getattr(module, name))  # undone after the test
    listen_privately()
    (port,) = free_ports(1)

    def start() -> object:
        return grpc_util.start_grpc_server(
            lambda **_: None, gRPCOptions(port=port), event_loop=asyncio.get_running_loop()
        )

    task, server = await start()  # type: ignore[misc]
    try:
        reached = [host for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3") if accepts(host, port)]
        assert reached == ["127.0.0.1", "127.0.0.2"]
        with pytest.raises(RuntimeError, match="Failed to bind"):
            await start()  # type: ignore[misc]
    finally:
        await server.stop(None)
        await task


def accepts(host: str, port: int) -> bool:
    with closing(socket.socket()) as connection:
        return connection.connect_ex((host, port)) == 0
