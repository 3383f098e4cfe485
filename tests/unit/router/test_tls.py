"""Encrypted hops: client, router and service, each with certificates that are renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from arena_llm import AsyncClient, Client, DeadlineExceededError, UnavailableError
from arena_llm.errors import InvalidArgumentError
from arena_llm.tls import Tls, find_tls
from deploy.certificates import list_names, make_certificates
from deploy.supervisor import DeployError
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.config import ConfigError, ConnectionTls, ServerTls, ServiceConfig
from services.common.listener import Certificates
from services.common.server import Server
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, serving
from tests.support.waiting import eventually
from tests.support.wire import request, stub


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    make_certificates(folder, ["gpu1", "10.0.0.5"])
    return folder


def server_tls(folder: Path, mutual: bool = True) -> ServerTls:
    return ServerTls(
        certificate=folder / "server.crt",
        key=folder / "server.key",
        client_ca=folder / "ca.crt" if mutual else None,
    )


def client_tls(folder: Path, **changes: str) -> Tls:
    files = {"ca": "ca.crt", "certificate": "client.crt", "key": "client.key"}
    return Tls(**{field: str(folder / name) for field, name in files.items()} | changes)


@asynccontextmanager
async def encrypted(folder: Path) -> AsyncIterator[tuple[ScriptedBackend, str]]:
    """A service and a router, both with mutual TLS. Yields the backend and the router's address."""
    backend = ScriptedBackend()
    tls = server_tls(folder)
    config = ServiceConfig(listen="127.0.0.1:0", tls=tls)
    async with serving(LlmServicer(backend), config=config) as service:
        mine = ConnectionTls(
            **{f: getattr(client_tls(folder), f) for f in ("ca", "certificate", "key")}
        )
        route = Route(targets=[service.address], tls=mine)
        front = RouterConfig(listen="127.0.0.1:0", routes={"hf_": route}, tls=tls)
        async with serving(Router(front), config=front) as router:
            yield backend, router.address


async def ask(address: str, **settings: Any) -> str:
    def call() -> str:
        with Client(address, **settings) as llm:
            return llm.generate("hf_model", "hello").text

    return await asyncio.to_thread(call)


async def ask_in_vain(address: str, **settings: Any) -> None:
    """Call until the connection has been refused, which takes longer on a busy machine."""
    for timeout in (0.5, 2, 8):
        with suppress(DeadlineExceededError):
            await ask(address, timeout=timeout, **settings)


async def test_every_hop_is_encrypted_and_needs_a_certificate(
    certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificates(tmp_path, [])  # of another authority
    async with encrypted(certs) as (backend, address):
        assert await ask(address, tls=client_tls(certs)) == "ok"
        async with AsyncClient(address, tls=client_tls(certs)) as llm:
            assert (await llm.generate("hf_model", "hello")).text == "ok"
        own = {f: getattr(client_tls(tmp_path), f) for f in ("certificate", "key")}
        for wrong in (
            False,  # plain text
            client_tls(certs, certificate="", key=""),  # no certificate
            client_tls(certs, **own),  # of an unknown authority
            client_tls(tmp_path),  # does not know the server's authority
            client_tls(certs, server_name="gpu2"),  # another name
        ):
            with pytest.raises(UnavailableError, match="ARENA_LLM_CA"):
                await ask_in_vain(address, tls=wrong)
        for variable, name in (
            ("CA", "ca.crt"),
            ("CERTIFICATE", "client.crt"),
            ("KEY", "client.key"),
        ):
            monkeypatch.setenv(f"ARENA_LLM_{variable}", str(certs / name))
        monkeypatch.setenv("ARENA_LLM_SERVER_NAME", "gpu1")
        assert await ask(address) == "ok"
        assert len(backend.history) == 3


async def test_new_certificates_are_used_without_a_broken_stream(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even those of another authority, which the old certificates do not fit."""
    make_certificates(tmp_path, [])
    finish = asyncio.Event()

    async def step() -> str:
        await finish.wait()
        return "finished"

    async with (
        encrypted(tmp_path) as (backend, address),
        AsyncClient(address, tls=client_tls(tmp_path)) as llm,
    ):
        backend.enqueue(step)
        stream = asyncio.create_task(read(llm))
        await eventually(lambda: backend.running)
        old = client_tls(tmp_path).read()
        for name in ("ca.crt", "ca.key"):
            (tmp_path / name).unlink()
        make_certificates(tmp_path, [])
        assert await ask(address, tls=client_tls(tmp_path)) == "ok"
        credentials = grpc.ssl_channel_credentials(*old)
        async with grpc.aio.secure_channel(address, credentials) as channel:
            method = channel.unary_unary("/arena_llm.v1.LlmService/Generate")
            with pytest.raises(grpc.aio.AioRpcError, match="handshake"):
                await method(request().SerializeToString())
        finish.set()
        assert await stream == "finished"
        assert await answers(llm) == "ok"
    assert "certificates reloaded" in capfd.readouterr().err


async def read(llm: AsyncClient) -> str:
    async with llm.stream("hf_model", "hello") as stream:
        return "".join([text async for text in stream])


async def answers(llm: AsyncClient) -> str:
    return (await llm.generate("hf_model", "hello")).text


async def test_broken_certificates_are_not_taken(
    certs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("server.crt", "server.key", "ca.crt"):
        (tmp_path / name).write_bytes((certs / name).read_bytes())
    files = Certificates(server_tls(tmp_path))
    assert files.fetch() is None
    for broken in (b"no certificate", (certs / "client.crt").read_bytes()):  # not of this key
        (tmp_path / "server.crt").write_bytes(broken)
        assert files.fetch() is None
        assert files.fetch() is None
    assert capfd.readouterr().err.count("certificates not reloaded") == 2
    (tmp_path / "server.crt").write_bytes((certs / "server.crt").read_bytes())
    assert files.fetch() is not None
    (tmp_path / "server.key").unlink()
    service = LlmServicer(ScriptedBackend())
    config = ServiceConfig(listen="127.0.0.1:0", tls=server_tls(tmp_path))
    with pytest.raises(ConfigError, match=r"server\.key"):
        Server(service, "127.0.0.1:0", config=config)


async def test_a_socket_of_the_file_system(tmp_path: Path) -> None:
    inner, outer = f"unix:{tmp_path}/hf.sock", f"unix:{tmp_path}/router.sock"
    async with serving(LlmServicer(ScriptedBackend()), inner):
        config = RouterConfig(listen=outer, routes={"hf_": Route(targets=[inner])})
        async with serving(Router(config), outer) as router, stub(router.address) as llm:
            assert (await llm.Generate(request())).text == "ok"
            assert await ask(outer) == "ok"


TLS = {"certificate": "a", "key": "b"}
MUTUAL = {**TLS, "client_ca": "c"}
ROUTES = {"hf_": {"targets": ["127.0.0.1:9"]}}


@pytest.mark.parametrize(
    ("listen", "settings", "is_refused"),
    [
        ("127.0.0.1:1", {}, False),
        ("[::1]:1", {}, False),
        ("localhost:1", {}, False),
        ("unix:/tmp/a", {}, False),
        ("0.0.0.0:1", {}, True),
        ("[::]:1", {}, True),
        ("gpu1:1", {}, True),
        ("10.0.0.5:1", {"tls": TLS}, True),
        ("10.0.0.5:1", {"tokens": "t.yaml"}, True),
        ("10.0.0.5:1", {"tls": TLS, "tokens": "t.yaml"}, False),
        ("10.0.0.5:1", {"tls": MUTUAL}, False),
        ("10.0.0.5:1", {"insecure": True}, False),
    ],
)
def test_a_listener_beyond_loopback_needs_encryption_and_callers(
    listen: str, settings: dict[str, Any], is_refused: bool
) -> None:
    made = {"listen": listen, "routes": ROUTES, **settings}
    if is_refused:
        with pytest.raises(ValueError, match="insecure: true"):
            RouterConfig.model_validate(made)
    else:
        RouterConfig.model_validate(made)


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen": "unix:"},
        {"listen": "unix:/" + "x" * 200},
        {"listen": "unix:/tmp/a", "workers": 2},
        {"routes": {"hf_": {**ROUTES["hf_"], "tls": {"certificate": "a"}}}},
        {"routes": {"hf_": {"targets": ["127.0.0.1:1", "127.0.0.1:2"], "tls": {"ca": "a"}}}},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unix|tls"):
        RouterConfig.model_validate({"listen": "127.0.0.1:1", "routes": ROUTES, **wrong})


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        (None, {}, None),
        (None, {"ARENA_LLM_TLS": "1"}, Tls()),
        (None, {"ARENA_LLM_TLS": "0"}, None),
        (None, {"ARENA_LLM_CA": "ca"}, Tls(ca="ca")),
        (False, {"ARENA_LLM_CA": "ca"}, None),
        (True, {"ARENA_LLM_CA": "ca"}, Tls()),
        (Tls(ca="mine"), {"ARENA_LLM_CA": "ca"}, Tls(ca="mine")),
    ],
)
def test_the_settings_of_a_client(argument: Any, environ: dict[str, str], expected: Any) -> None:
    assert find_tls(argument, environ) == expected


def test_a_file_without_what_is_needed_is_named(tmp_path: Path) -> None:
    make_certificates(tmp_path, [])
    ca, key, own = (str(tmp_path / name) for name in ("ca.crt", "client.key", "client.crt"))
    assert all(Tls(ca, own, key).read())
    for wrong, problem in (
        (Tls(key), r"client\.key has no certificate"),
        (Tls(ca, own, ca), r"ca\.crt has no private key"),
        (Tls(str(tmp_path / "none")), "cannot be read: No such file"),
    ):
        with pytest.raises(InvalidArgumentError, match=problem):
            wrong.read()


async def test_connections_have_bounds() -> None:
    config = ServiceConfig(listen="127.0.0.1:0", max_connections=1, max_idle_seconds=0.2)
    async with (
        serving(LlmServicer(ScriptedBackend()), config=config) as server,
        stub(server.address) as first,
        stub(server.address) as second,
    ):
        assert (await first.Generate(request())).text == "ok"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await second.Generate(request(), timeout=0.1)
        refusals = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        assert caught.value.code() in refusals
        # The idle connection of the first one makes room.
        assert (await second.Generate(request(), wait_for_ready=True, timeout=60)).text == "ok"


def test_renewed_certificates_keep_their_names(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["gpu1", "10.0.0.5"])
    names = list_names(tmp_path / "server.crt")
    assert {"gpu1", "10.0.0.5", "::1"} < {*names}
    before = (tmp_path / "server.crt").read_bytes()
    make_certificates(tmp_path, [])
    assert (tmp_path / "server.crt").read_bytes() != before
    assert list_names(tmp_path / "server.crt") == names
    make_certificates(tmp_path, ["*.lab"])
    assert {*list_names(tmp_path / "server.crt")} == {*names, "*.lab"} - {"gpu1", "10.0.0.5"}


@pytest.mark.parametrize("host", ["h\u00e4st", "host*", "gpu1:50053", "https://gpu1", "-x", "a,b"])
def test_a_wrong_name_of_a_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(DeployError, match="HOSTS"):
        make_certificates(tmp_path / "certs", ["gpu1", host])
    assert not (tmp_path / "certs").exists()


def test_an_authority_without_its_key_is_named(tmp_path: Path) -> None:
    make_certificates(tmp_path, [])
    (tmp_path / "ca.key").write_bytes((tmp_path / "client.key").read_bytes())
    with pytest.raises(DeployError, match="are not an authority and its key"):
        make_certificates(tmp_path, [])
    (tmp_path / "ca.key").unlink()
    with pytest.raises(DeployError, match=r"ca\.key is missing: make certificates on the machine"):
        make_certificates(tmp_path, [])
