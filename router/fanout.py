"""Calls all backends at the same time, and merges their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

import grpc

from arena_llm.types import Availability, ModelState
from arena_llm.v1 import models_pb2
from router.backend import Backend
from router.fallback import add_field
from router.routing import Metadata, find_prefix
from services.common.errors import BackendDown, BackendError, UnknownPrefix
from services.common.pages import LARGEST_PAGE

#: A backend with all its pages in one, or with the reason why it returned none.
Listed = tuple[Backend, models_pb2.ListModelsResponse | str]


async def list_models(
    backends: Iterable[Backend], name_prefix: str, seconds: float, metadata: Metadata
) -> Sequence[Listed]:
    """Ask all backends for all their models at the same time, each with this timeout.

    The answers are in the order of the backends.
    """
    return await asyncio.gather(
        *(_list(backend, name_prefix, seconds, metadata) for backend in backends)
    )


async def _list(backend: Backend, name_prefix: str, seconds: float, metadata: Metadata) -> Listed:
    deadline = time.monotonic() + seconds
    whole = models_pb2.ListModelsResponse()
    request = models_pb2.ListModelsRequest(page_size=LARGEST_PAGE, name_prefix=name_prefix)
    while True:
        left = deadline - time.monotonic()
        call = backend.call("ListModels", request.SerializeToString(), left, metadata)
        try:
            page = models_pb2.ListModelsResponse.FromString(await call)
        except grpc.aio.AioRpcError as error:
            return backend, explain(backend, error)
        finally:
            call.cancel()
        whole.models.extend(page.models)
        if not page.next_page_token:
            whole.unreachable.extend(page.unreachable)  # the same on all pages
            return backend, whole
        request.page_token = page.next_page_token


def explain(backend: Backend, error: grpc.aio.AioRpcError, addresses: str = "") -> str:
    """Return in one line why a backend did not answer. addresses: the replica that was asked."""
    if failure := backend.explain_failure(error, addresses):
        return failure.message
    return f"backend {backend.name} answered {error.code().name}: {error.details()}"


def merge_models(
    answers: Sequence[Listed], prefixes: Mapping[str, object]
) -> tuple[list[models_pb2.ModelInfo], list[models_pb2.UnreachableBackend]]:
    """Return the models whose calls reach the backend that lists them, and what is unreachable."""
    models: list[models_pb2.ModelInfo] = []
    unreachable: list[models_pb2.UnreachableBackend] = []
    for backend, answer in answers:
        if isinstance(answer, str):
            unreachable.append(backend.unreachable(answer))
        else:
            found = [m for m in answer.models if _leads_to(backend.prefix, m.name, prefixes)]
            for model in found:
                add_field(model)
            models += found
            unreachable += answer.unreachable
    return models, unreachable


def _leads_to(prefix: str, model: str, prefixes: Mapping[str, object]) -> bool:
    try:
        return find_prefix(model, prefixes) == prefix
    except UnknownPrefix:
        return False


def make_unavailable(error: BackendError) -> Availability:
    """Return the answer for a model whose prefix is unknown or whose backend is down."""
    if isinstance(error, UnknownPrefix):
        return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
    return Availability(False, ModelState.UNKNOWN, error.message, reason=BackendDown.reason)
