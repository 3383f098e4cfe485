"""The environment's proxy is for providers elsewhere, not for a server on this machine."""

from __future__ import annotations

import pytest

from tests.support.system import refusing
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.unit.openrouter.conftest import MODEL, Start


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "0.0.0.0"])  # noqa: S104
async def test_a_server_on_this_machine_is_called_directly(
    host: str, start: Start, upstream: OpenRouterUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with refusing() as [nobody]:
        monkeypatch.setenv("http_proxy", f"http://{nobody}")
        url = upstream.url.replace("127.0.0.1", host)
        async with start(base_url=url) as llm:
            assert (await llm.generate(MODEL, "hi")).text


async def test_others_are_called_through_it(
    start: Start, upstream: OpenRouterUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that exists only for the proxy, which is the upstream itself."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", upstream.url.rpartition("/api")[0] or upstream.url)
    url = upstream.url.replace("127.0.0.1", "provider.invalid")
    async with start(base_url=url) as llm:
        assert (await llm.generate(MODEL, "hi")).text
