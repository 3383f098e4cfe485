"""What the service turns off in litellm."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import AsyncClient
from tests.support.upstreams.server import Fault
from tests.unit.hosted.conftest import OPENAI, STREAMED, call, fail


@STREAMED
async def test_litellm_makes_no_log_record_of_a_call(
    llm: AsyncClient, upstream: Any, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litellm

    records: list[str] = []

    def record(details: dict[str, Any], *_: object) -> None:
        records.append(details["log_event_type"])

    monkeypatch.setattr(litellm, "success_callback", [record])
    monkeypatch.setattr(litellm, "failure_callback", [record])
    await call(llm, streamed, OPENAI.model)
    upstream.default = Fault(400)
    await fail(llm, streamed, OPENAI.model)
    assert records == []
