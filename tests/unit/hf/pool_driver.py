"""The hf service's backend over several tiny models, and questions to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from arena_llm.types import Completion, GenerationRequest, ModelState, Regex, Sampling
from services.hf.backend import HfBackend
from services.hf.config import HfConfig


@asynccontextmanager
async def backend(*models: dict[str, Any], **config: Any) -> AsyncIterator[HfBackend]:
    running = HfBackend(HfConfig(listen="127.0.0.1:0", device="cpu", models=list(models), **config))
    await running.start()
    try:
        yield running
    finally:
        await running.aclose()


def request(model: str, max_tokens: int = 2) -> GenerationRequest:
    """A request that does not end before max_tokens."""
    return GenerationRequest(model, "7", Sampling(max_tokens=max_tokens), Regex("[78]{900}"))


def ask(running: HfBackend, model: str) -> Awaitable[Completion]:
    return running.generate_response(request(model))


async def state(running: HfBackend, model: str) -> ModelState:
    return (await running.is_model_available(model)).state


async def states(running: HfBackend) -> str:
    """The initials of the models' states, such as "r" for ready."""
    names = [entry.name for entry in running.config.models]
    return "".join([(await state(running, name)).value[0] for name in names])
