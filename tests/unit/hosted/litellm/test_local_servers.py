"""Local servers with OpenAI's or Ollama's API work from one entry, with constraints."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.upstreams.answers import dump
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.unit.hosted.conftest import OPENAI, make_start

SERVERS = ("ollama_chat", "hosted_vllm", "lm_studio", "llamafile")
OLLAMA = {
    "model": "m",
    "message": {"role": "assistant", "content": '{"choice": "e4"}'},
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 12,
    "eval_count": 5,
}


def answer(call: Call) -> Step:
    return Fault(body=dump(OLLAMA)) if "api/" in call.path else Reply('{"choice": "e4"}')


@pytest.mark.parametrize("provider", ["openai"], indirect=True)
@pytest.mark.parametrize("server", SERVERS)
async def test_a_local_server(upstream: Any, monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    model = f"litellm_{server}/m"
    entry = {"name": model, "api_base": upstream.url, "structured_output": True}
    monkeypatch.setattr(upstream, "special", lambda call: _none())
    upstream.default = answer
    start = make_start(upstream, OPENAI, monkeypatch)
    async with start(entry) as llm:
        reply = await llm.generate(model, "hi", choices=["e4", "d4"])
    assert (reply.text, reply.enforcement) == ("e4", "provider")
    assert reply.usage.prompt_tokens == 12
    body = next(call.body for call in upstream.history if call.body and "messages" in call.body)
    assert "e4" in str(body.get("format") or body.get("response_format"))


async def _none() -> None: ...
