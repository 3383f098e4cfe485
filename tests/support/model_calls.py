"""A caller of models as a run has it, with the real client and a scripted service."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from arena.agents.calls import ModelCall
from arena.experiment.model_calls import ModelCaller
from arena.results.rows import CallKey
from arena_llm import AsyncClient
from arena_llm.types import (
    Attempt,
    Completion,
    CostBasis,
    Enforcement,
    FinishReason,
    GenerationRequest,
    Message,
    Reasoning,
    Score,
    Scoring,
    ScoringRequest,
    ServedBy,
    TokenTrace,
    Usage,
)
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, serving

KEY = CallKey("tic_tac_toe/0/a,b", 3, 1, 0)
ID = "0123456789abcdef-0"
CALL = ModelCall("hf_model", (("system", "s"), ("user", "u")), {"temperature": 0.5})

USAGE = Usage(10, 5, 2, 1, cost_picousd=25 * 10**10, cost_basis=CostBasis.BILLED)
SERVED_BY = ServedBy("hf", "hf_real", provider="there", precision="fp8")
TOKENS = TokenTrace(ids=(1, 2), logprobs=(-0.5, -math.inf), bytes=(b"x", b"\xc3"))
ATTEMPTS = (
    Attempt("here", http_status=500, reason="UPSTREAM_UNAVAILABLE", cost_picousd=3),
    Attempt("there", http_status=200, cost_picousd=7),
)


class ModelBackend(ScriptedBackend):
    """Its completions have every field that a completion can have."""

    usage = USAGE
    attempts = ATTEMPTS

    async def score(self, request: ScoringRequest) -> Scoring:
        await super().score(request)
        texts = [continuation.text or "" for continuation in request.continuations]
        scores = tuple(Score(-float(len(text))) for text in texts)
        return Scoring(scores, usage=Usage(3, 1))

    async def generate_response(self, request: GenerationRequest) -> Completion:
        plain = await super().generate_response(request)
        return replace(
            plain,
            message=Message("assistant", (Reasoning("why"), *plain.message.parts)),
            usage=self.usage,
            served_by=SERVED_BY,
            finish_reason=FinishReason.LENGTH,
            completion_tokens=TOKENS,
            attempts=self.attempts,
            enforcement=Enforcement.PROVIDER,
        )


@asynccontextmanager
async def models(
    timeout: float = 60.0,  # noqa: ASYNC109 - of the client
    patience: float = 0,
) -> AsyncIterator[tuple[ModelBackend, ModelCaller]]:
    """A backend, and a caller of it. patience: seconds for a model that is away."""
    backend = ModelBackend()
    async with (
        serving(LlmServicer(backend)) as server,
        AsyncClient(server.address, timeout=timeout) as client,
    ):
        yield backend, ModelCaller(client, "tournament", patience=patience)
