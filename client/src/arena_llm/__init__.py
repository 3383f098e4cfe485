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
    from arena_llm._module import (
        generate_response,
        get_available_models,
        is_model_available,
    )
    from arena_llm.aio import (
        AsyncClient,
        AsyncStream,
    )
    from arena_llm.client import (
        Client,
        Stream,
    )
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
        Attempt,
        Availability,
        CallReport,
        Capability,
        Completion,
        Continuation,
        Conversation,
        Credits,
        Delta,
        EngineLoad,
        FinishReason,
        FreePrice,
        GenerateOptions,
        Grammar,
        Image,
        LogprobKind,
        Message,
        Model,
        ModelList,
        ModelState,
        PriceTable,
        Progress,
        ProviderRouting,
        RawPrompt,
        Reasoning,
        ReasoningEffort,
        Refusal,
        Score,
        Scoring,
        ServedBy,
        ServiceInfo,
        StreamStart,
        Text,
        Timings,
        Token,
        TokenCount,
        TokenTrace,
        Tool,
        ToolCall,
        ToolChoice,
        ToolMode,
        ToolResult,
        UnknownPrice,
        UnreachableBackend,
        Usage,
    )

__all__ = [
    "ArenaError",
    "AsyncClient",
    "AsyncStream",
    "Attempt",
    "Availability",
    "CallCancelledError",
    "CallReport",
    "Capability",
    "Client",
    "Completion",
    "Continuation",
    "Conversation",
    "Credits",
    "DeadlineExceededError",
    "Delta",
    "EngineLoad",
    "FailedPreconditionError",
    "FinishReason",
    "FreePrice",
    "GenerateOptions",
    "Grammar",
    "Image",
    "InternalError",
    "InvalidArgumentError",
    "LogprobKind",
    "Message",
    "Model",
    "ModelList",
    "ModelState",
    "NotFoundError",
    "PermissionDeniedError",
    "PriceTable",
    "Progress",
    "ProviderRouting",
    "RawPrompt",
    "Reasoning",
    "ReasoningEffort",
    "Refusal",
    "ResourceExhaustedError",
    "Score",
    "Scoring",
    "ServedBy",
    "ServiceInfo",
    "Stream",
    "StreamStart",
    "Text",
    "Timings",
    "Token",
    "TokenCount",
    "TokenTrace",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolMode",
    "ToolResult",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownError",
    "UnknownPrice",
    "UnreachableBackend",
    "UnsupportedError",
    "Usage",
    "generate_response",
    "get_available_models",
    "is_model_available",
]

#: The module of each name. They are imported at first use: protobuf takes 60 ms. And the services
#: import the types of this package, but must not import a client, because it changes the fork
#: support of grpc in the whole process.
_MODULES = {
    "generate_response": "_module",
    "get_available_models": "_module",
    "is_model_available": "_module",
    "AsyncClient": "aio",
    "AsyncStream": "aio",
    "Client": "client",
    "Stream": "client",
    "ArenaError": "errors",
    "CallCancelledError": "errors",
    "DeadlineExceededError": "errors",
    "FailedPreconditionError": "errors",
    "InternalError": "errors",
    "InvalidArgumentError": "errors",
    "NotFoundError": "errors",
    "PermissionDeniedError": "errors",
    "ResourceExhaustedError": "errors",
    "UnauthenticatedError": "errors",
    "UnavailableError": "errors",
    "UnknownError": "errors",
    "UnsupportedError": "errors",
    "Attempt": "types",
    "Availability": "types",
    "CallReport": "types",
    "Capability": "types",
    "Completion": "types",
    "Continuation": "types",
    "Conversation": "types",
    "Credits": "types",
    "Delta": "types",
    "EngineLoad": "types",
    "FinishReason": "types",
    "FreePrice": "types",
    "GenerateOptions": "types",
    "Grammar": "types",
    "Image": "types",
    "LogprobKind": "types",
    "Message": "types",
    "Model": "types",
    "ModelList": "types",
    "ModelState": "types",
    "PriceTable": "types",
    "Progress": "types",
    "ProviderRouting": "types",
    "RawPrompt": "types",
    "Reasoning": "types",
    "ReasoningEffort": "types",
    "Refusal": "types",
    "Score": "types",
    "Scoring": "types",
    "ServedBy": "types",
    "ServiceInfo": "types",
    "StreamStart": "types",
    "Text": "types",
    "Timings": "types",
    "Token": "types",
    "TokenCount": "types",
    "TokenTrace": "types",
    "Tool": "types",
    "ToolCall": "types",
    "ToolChoice": "types",
    "ToolMode": "types",
    "ToolResult": "types",
    "UnknownPrice": "types",
    "UnreachableBackend": "types",
    "Usage": "types",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"arena_llm.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
