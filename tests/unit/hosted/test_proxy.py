"""The environment's proxy is used for providers elsewhere, but not for servers on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.ports import refusing
from tests.unit.hosted.conftest import OPENAI_FORMAT, Provider, Start, call


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_a_server_on_this_machine_is_called_directly(
    variable: str,
    host: str,
    provider: Provider,
    start: Start,
    upstream: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with refusing() as [nobody]:
        monkeypatch.setenv(variable, f"http://{nobody}")
        async with start(url=upstream.url.replace("127.0.0.1", host)) as llm:
            for streamed in (False, True):
                assert await call(llm, streamed, provider.model) == "ok"


@OPENAI_FORMAT
async def test_another_server_is_called_through_the_proxy(
    start: Start, upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host name exists only for the proxy, which is the fake provider itself."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", upstream.origin)
    async with start(url=upstream.url.replace("127.0.0.1", "provider.invalid")) as llm:
        assert await call(llm, False, provider.model) == "ok"
