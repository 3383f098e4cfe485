"""Targets: which are refused, and which lead to this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import arena_llm
from arena_llm.cli import main
from arena_llm.connection import is_local
from arena_llm.errors import InvalidArgumentError
from tests.unit.client.scripted import MODEL, Script, settle, start

LOCAL = [
    "localhost:{port}",
    "LOCALHOST:{port}",
    "arena.localhost:{port}",
    "127.0.0.1:{port}",
    "0.0.0.0:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "dns:localhost:{port}",
    "dns:///localhost:{port}",
    "DNS:///LocalHost:{port}",
    "dns:///%6cocalhost:{port}",
    "ipv4:127.0.0.1:{port}",
    "ipv4:127.0.0.2:{port},127.0.0.1:{port}",
]
LOCAL_IPV6 = ["[::1]:{port}", "[::]:{port}", "ipv6:[::1]:{port}", "ipv6:%5B::1%5D:{port}"]
LOCAL_SOCKETS = ["unix:{path}", "unix://{path}", "unix-abstract:arena{path}"]
#: Not every resolver knows these.
LOCAL_UNUSUAL = [
    "localhost.:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "UNIX:{path}",
    socket.gethostname() + ":{port}",
]
ELSEWHERE = [
    "router:50050",
    "my_router.ns.svc.cluster.local:50050",
    "localhost.example.com:50050",
    "10.0.0.1:50050",
    "[fe80::1]:50050",
    "dns:///router:50050",
    "dns://10.0.0.53/router:50050",
    "ipv4:10.0.0.1:50050,10.0.0.2:50050",
]

REFUSED = {
    "http://localhost:50050": "begins with http://",
    "https://user:secret@router:443/x": "begins with https://",
    "grpc://localhost:50050": "begins with grpc://",
    "localhost": "no port",
    "[::1]": "no port",
    "dns:///localhost": "no port",
    "dns:localhost": "no port",
    "ipv4:127.0.0.1": "no port",
    "localhost:": "port ''",
    "localhost:0": "port '0'",
    "localhost:65536": "port '65536'",
    "localhost:99999": "port '99999'",
    "localhost:-1": "port '-1'",
    "localhost:+1": "port '+1'",
    "localhost:http": "port 'http'",
    "localhost:50050/": "port '50050/'",
    "localhost:\u0665": "port",
    ":50050": "no host",
    "dns:///:50050": "no host",
    "": "empty",
    "   ": "empty",
    " localhost:50050": "blanks",
    "localhost:50050\n": "blanks",
    "local\x1bhost:50050": "control characters",
    "local host:50050": "not a host",
    "a..b:50050": "not a host",
    "999.0.0.1:50050": "not a host",
    "[localhost]:50050": "not a host",
    "::1:50050": "brackets",
    "localhost:50050:50051": "more than one port",
    "dns://localhost:50050": "three slashes",
    "unix://run/arena": "three slashes",
    "unix:": "no path",
    "unix:/" + 120 * "a": "at most 107",
    "ipv4:localhost:50050": "not an ipv4 address",
    "ipv6:127.0.0.1:50050": "not an ipv6 address",
    "ipv4:127.0.0.1:1,": "no port",
}

BOTH = pytest.mark.parametrize("make", [arena_llm.Client, arena_llm.AsyncClient])


def test_where_a_target_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARENA_LLM_TARGET", raising=False)
    monkeypatch.delenv("ARENA_ROUTER_PORT", raising=False)
    assert arena_llm.Client().target == "localhost:50050"
    monkeypatch.setenv("ARENA_LLM_TARGET", "")
    assert arena_llm.Client().target == "localhost:50050"
    monkeypatch.setenv("ARENA_ROUTER_PORT", "61800")
    assert arena_llm.Client().target == "localhost:61800"
    monkeypatch.setenv("ARENA_ROUTER_PORT", "http")
    with pytest.raises(InvalidArgumentError, match=r"\(ARENA_ROUTER_PORT\) has the port 'http'"):
        arena_llm.Client()
    monkeypatch.setenv("ARENA_LLM_TARGET", "router:1")
    assert arena_llm.Client().target == "router:1"
    assert arena_llm.AsyncClient().target == "router:1"
    assert arena_llm.Client("here:2").target == "here:2"


@BOTH
@pytest.mark.parametrize("target", REFUSED)
def test_a_malformed_target_is_refused(
    target: str, make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        make(target)
    assert (caught.value.reason, caught.value.field) == ("INVALID_TARGET", "target")
    for part in (REFUSED[target], "(argument)", "write HOST:PORT, such as localhost:50050"):
        assert part in str(caught.value)
    assert "secret" not in str(caught.value)
    if target:
        monkeypatch.setenv("ARENA_LLM_TARGET", target)
        with pytest.raises(InvalidArgumentError, match=r"\(ARENA_LLM_TARGET\)"):
            make()
    assert main(["models", f"--target={target}"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("arena-llm: INVALID_TARGET: the target ")
    assert shown.err.count("\n") == 1


@BOTH
@pytest.mark.parametrize("target", [50050, b"localhost:1", Path("localhost:1")])
def test_a_target_is_a_string(target: object, make) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a string"):
        make(target)


@pytest.mark.parametrize(
    "target", [*LOCAL, *LOCAL_IPV6, *LOCAL_SOCKETS, *LOCAL_UNUSUAL, *ELSEWHERE]
)
def test_every_spelling_is_a_target(target: str) -> None:
    target = target.format(port=50050, path="/run/my arena")
    assert arena_llm.Client(target).target == target
    assert is_local(target) == (target not in ELSEWHERE)


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A proxy in the environment that refuses every connection."""
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


async def answer(target: str) -> list[str]:
    """Return the replies that both clients get."""
    with arena_llm.Client(target) as llm:
        texts = [llm.generate(MODEL, "hi").text]
    async with arena_llm.AsyncClient(target) as asynchronous:
        return [*texts, (await settle(asynchronous.generate(MODEL, "hi"))).text]


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.parametrize("spelling", LOCAL)
async def test_a_proxy_is_not_for_this_machine(spelling: str, target: str, script: Script) -> None:
    port = target.rpartition(":")[2]
    assert await answer(spelling.format(port=port)) == ["hi", "hi"]


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.parametrize("spelling", LOCAL_IPV6)
async def test_a_proxy_is_not_for_this_machine_by_ipv6(spelling: str, script: Script) -> None:
    try:
        server, port = start(script, "[::1]:0")
    except RuntimeError:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        assert await answer(spelling.format(port=port)) == ["hi", "hi"]
    finally:
        server.stop(None).wait()


@pytest.mark.usefixtures("dead_proxy")
@pytest.mark.parametrize("spelling", LOCAL_SOCKETS)
async def test_a_proxy_is_not_for_a_socket(spelling: str, script: Script, tmp_path: Path) -> None:
    address = spelling.format(path=tmp_path / "my socket")
    server, _ = start(script, address)
    try:
        assert await answer(address) == ["hi", "hi"]
    finally:
        server.stop(None).wait()
