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

if TYPE_CHECKING:
    from arena_llm._shared import generate_response, get_available_models, is_model_available
    from arena_llm.aio import AsyncClient, AsyncStream
    from arena_llm.client import Client, Stream
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

# Loaded when first asked for: the services import the types and the stubs of
# this package, and must not load a client (nor its choice of fork support).
_MODULES = ("errors", "types", "client", "aio", "_shared")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"arena_llm.{module}")).get(name)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
