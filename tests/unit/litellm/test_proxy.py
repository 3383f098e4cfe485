"""The environment's proxy is for providers elsewhere, not for a server on this machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.system import refusing
from tests.unit.litellm.conftest import PROVIDERS, Provider, Start, drained


@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST"])
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
        async with start({"api_base": upstream.url.replace("127.0.0.1", host)}) as llm:
            assert (await llm.generate(provider.model, "hi")).text
            assert await drained(llm.stream(provider.model, "hi"))
