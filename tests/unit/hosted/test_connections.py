"""Connections: dead ones in the pool, redirects, large headers, compressed answers, proxies."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest

from services.common.config import ConfigError
from tests.support.upstreams.answers import EVENTS, Odd
from tests.support.upstreams.checks import result
from tests.support.upstreams.server import Fault, Reply
from tests.support.waiting import eventually
from tests.unit.hosted.conftest import OPENAI_FORMAT, STREAMED, Provider, Start, call, fail


class Dead(asyncio.Protocol):
    """The other end of a connection that nobody knows any more: it answers with a reset.

    met: how many such connections were used.
    """

    met = 0

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        Dead.met += 1
        self._transport.abort()


@OPENAI_FORMAT
async def test_a_pool_of_dead_connections_costs_one_attempt(
    start: Start, upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dead, "met", 0)
    gate = asyncio.Event()
    async with start(max_attempts=2) as llm:
        assert await call(llm, False, provider.model) == "ok"  # litellm makes its client
        upstream.default = Reply(hold=gate)
        calls = [asyncio.create_task(call(llm, False, provider.model)) for _ in range(20)]
        await eventually(lambda: upstream.running == 20)
        gate.set()
        assert await asyncio.gather(*calls) == ["ok"] * 20
        for transport in upstream.transports:
            transport.set_protocol(Dead(transport))
        assert await call(llm, False, provider.model) == "ok"
        assert Dead.met == 1


@STREAMED
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_names_its_target(
    start: Start, upstream: Any, provider: Provider, streamed: bool, status: int
) -> None:
    target = "http://elsewhere.invalid/v2/chat?key=x"
    upstream.default = Fault(status, headers={"Location": target})
    async with start(max_attempts=2) as llm:
        error = await fail(llm, streamed, provider.model)
    assert "http://elsewhere.invalid/v2/chat (HTTP" in error.message
    moved = status in (301, 308)
    assert error.reason == ("MODEL_MISCONFIGURED" if moved else "UPSTREAM_UNAVAILABLE")
    assert len(upstream.history) == (1 if moved else 2)


@STREAMED
async def test_large_headers(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """A page's policies may take tens of KB. An answer with more than that is not bought twice."""
    headers = {f"X-Policy-{n}": "x" * 30_000 for n in range(3)}
    async with start(max_attempts=3) as llm:
        upstream.default = Reply(headers=headers)
        assert await call(llm, streamed, provider.model) == "ok"
        upstream.history.clear()
        upstream.default = Reply(headers={"X-Policy": "x" * 200_000})
        error = await fail(llm, streamed, provider.model)
        assert "not readable HTTP" in error.message
        assert len(upstream.history) == 1


@STREAMED
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@OPENAI_FORMAT
async def test_a_compressed_answer_is_read(
    start: Start, upstream: Any, provider: Provider, streamed: bool, coding: str
) -> None:
    """Although none is requested. Its bounds are those of what it holds."""
    pack = gzip.compress if coding == "gzip" else zlib.compress
    headers = {"Content-Encoding": coding}
    kind = EVENTS if streamed else "application/json"
    usual = Odd("ok").events() if streamed else Odd("ok").whole()
    async with start(max_answer_bytes=100_000, max_attempts=1) as llm:
        upstream.default = Fault(body=pack(usual), content_type=kind, headers=headers)
        assert await result(llm, provider.model, streamed) == "ok"
        bomb = pack(b"data: " + b" " * 50_000_000)
        upstream.default = Fault(body=bomb, content_type=kind, headers=headers)
        error = await fail(llm, streamed, provider.model)
        assert "max_answer_bytes" in error.message
    async with start(max_attempts=3) as llm:
        upstream.default = Fault(body=usual, content_type=kind, headers=headers)
        upstream.history.clear()
        error = await fail(llm, streamed, provider.model)
        assert error.reason == "UPSTREAM_UNAVAILABLE"
        assert len(upstream.history) == 1, "what cannot be unpacked has been paid for"
        words = pack(b'{"error": {"message": "no such luck"}}')
        upstream.default = Fault(400, body=words, headers=headers)
        assert "no such luck" in (await fail(llm, streamed, provider.model)).message


@OPENAI_FORMAT
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_a_proxy_without_a_scheme(
    start: Start, upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, upstream.origin.removeprefix("http://"))
    url = upstream.url.replace("127.0.0.1", "provider.invalid")
    async with start(url=url) as llm:
        assert await call(llm, False, provider.model) == "ok"


@OPENAI_FORMAT
@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
async def test_a_socks_proxy_stops_the_service(
    upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, "socks5://user:pass@127.0.0.1:1080")
    url = upstream.url.replace("127.0.0.1", "provider.invalid")
    backend = provider.make_backend(url, {}, {"listen": "127.0.0.1:0"})
    with pytest.raises(ConfigError, match=variable) as caught:
        await backend.start()
    assert "pass" not in str(caught.value)
