"""Arena LLM: one typed API for every language model that a game-playing experiment uses.

    from arena_llm import Client

    with Client() as llm:
        reply = llm.generate("hf_smollm2-135m-instruct", "Your move?", max_tokens=64)
        print(reply.text)

`AsyncClient` has the same methods, awaited. Errors: arena_llm.errors.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arena_llm.errors import (
    ArenaError,
    CallCancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnknownError,
    UnsupportedError,
)
from arena_llm.types import (
    Availability,
    Capability,
    Completion,
    Credits,
    Delta,
    EngineLoad,
    FinishReason,
    GenerateOptions,
    Message,
    Model,
    ModelList,
    ModelState,
    Price,
    Score,
    Timings,
    TokenLogprob,
    TopLogprob,
    UnreachableBackend,
    Usage,
)

if TYPE_CHECKING:
    from arena_llm._module import generate_response, get_available_models, is_model_available
    from arena_llm.aio import AsyncClient, AsyncStream
    from arena_llm.client import Client, Stream

__all__ = [
    "ArenaError",
    "AsyncClient",
    "AsyncStream",
    "Availability",
    "CallCancelledError",
    "Capability",
    "Client",
    "Completion",
    "Credits",
    "DeadlineExceededError",
    "Delta",
    "EngineLoad",
    "FailedPreconditionError",
    "FinishReason",
    "GenerateOptions",
    "InternalError",
    "InvalidArgumentError",
    "Message",
    "Model",
    "ModelList",
    "ModelState",
    "NotFoundError",
    "PermissionDeniedError",
    "Price",
    "ResourceExhaustedError",
    "Score",
    "Stream",
    "Timings",
    "TokenLogprob",
    "TopLogprob",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownError",
    "UnreachableBackend",
    "UnsupportedError",
    "Usage",
    "generate_response",
    "get_available_models",
    "is_model_available",
]

# Imported at first use. The services import the types of this package, and must not
# import a client, because it changes the fork support of grpc in the whole process.
_LAZY = {
    "AsyncClient": "aio",
    "AsyncStream": "aio",
    "Client": "client",
    "Stream": "client",
    "generate_response": "_module",
    "get_available_models": "_module",
    "is_model_available": "_module",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"arena_llm.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
