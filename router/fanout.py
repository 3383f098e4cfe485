"""Calls all backends at the same time, and merges their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import grpc

from arena_llm.v1 import models_pb2
from router.backend import Backend
from router.routing import Metadata, find_prefix
from services.common.errors import BackendDown, BackendError, UnknownPrefix

#: A backend with its answer (bytes), or with the reason why it gave none (text).
Answer = tuple[Backend, bytes | str]
Answers = Sequence[Answer]  # in the order of the routes


async def ask_all(
    backends: Iterable[Backend], rpc: str, data: bytes, seconds: float, metadata: Metadata
) -> Answers:
    """Call all backends at the same time, each with this timeout."""
    return await asyncio.gather(
        *(_ask(backend, rpc, data, seconds, metadata) for backend in backends)
    )


async def _ask(
    backend: Backend, rpc: str, data: bytes, seconds: float, metadata: Metadata
) -> Answer:
    call = backend.call(rpc, data, seconds, metadata)
    try:
        return backend, await call
    except grpc.aio.AioRpcError as error:
        if failure := backend.explain_failure(error):
            return backend, failure.message
        return backend, f"backend {backend.name} answered {error.code().name}: {error.details()}"
    finally:
        call.cancel()


def merge_models(answers: Answers, prefixes: Mapping[str, object]) -> models_pb2.ListModelsResponse:
    """Return one list of models, without those whose name leads to another backend."""
    merged = models_pb2.ListModelsResponse()
    for backend, answer in answers:
        if isinstance(answer, str):
            merged.unreachable.append(backend.unreachable(answer))
            continue
        listed = models_pb2.ListModelsResponse.FromString(answer)
        merged.models.extend(
            model for model in listed.models if _leads_to(backend.prefix, model.name, prefixes)
        )
        merged.unreachable.extend(listed.unreachable)
    return merged


def _leads_to(prefix: str, model: str, prefixes: Mapping[str, object]) -> bool:
    try:
        return find_prefix(model, prefixes) == prefix
    except UnknownPrefix:
        return False


def merge_availability(answers: Answers) -> models_pb2.IsAvailableResponse:
    """Return whether any backend answered, and which backends did not."""
    unreachable = [
        backend.unreachable(answer) for backend, answer in answers if isinstance(answer, str)
    ]
    up = [backend.name for backend, answer in answers if not isinstance(answer, str)]
    names = f" ({', '.join(up)})" if up else ""
    return models_pb2.IsAvailableResponse(
        available=bool(up),
        state=models_pb2.MODEL_STATE_READY if up else models_pb2.MODEL_STATE_UNKNOWN,
        detail=f"{len(up)} of {len(answers)} backends answer{names}",
        reason="" if up else BackendDown.reason,
        unreachable=unreachable,
    )


def build_unavailable(error: BackendError) -> models_pb2.IsAvailableResponse:
    """Return the answer for a model whose prefix is unknown or whose backend is down."""
    if isinstance(error, UnknownPrefix):
        state, reason = models_pb2.MODEL_STATE_MISCONFIGURED, error.reason
    else:
        state, reason = models_pb2.MODEL_STATE_UNKNOWN, BackendDown.reason
    return models_pb2.IsAvailableResponse(
        available=False, state=state, detail=error.message, reason=reason
    )
