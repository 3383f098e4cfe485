"""What can go wrong, one class for each gRPC status code of the contract.

ArenaError
├── InvalidArgumentError     INVALID_ARGUMENT     a field is at fault, or the context is too short
├── NotFoundError            NOT_FOUND            nobody serves the prefix or the model
├── UnsupportedError         UNIMPLEMENTED        this backend cannot do that
├── FailedPreconditionError  FAILED_PRECONDITION  fix the key, the credits or the configuration
├── UnauthenticatedError     UNAUTHENTICATED      the caller's own token is missing or wrong
├── PermissionDeniedError    PERMISSION_DENIED    refused by the provider
├── ResourceExhaustedError   RESOURCE_EXHAUSTED   rate limit or full queue: see retry_after
├── UnavailableError         UNAVAILABLE          router, backend or provider cannot be reached
├── DeadlineExceededError    DEADLINE_EXCEEDED    out of time
├── CallCancelledError       CANCELLED            by the other end, or because the client was closed
├── InternalError            INTERNAL             a bug on the other end
└── UnknownError             UNKNOWN              any status that is not in the contract

No other exception leaves a call, apart from those of the caller's own making:
TypeError for an unknown option, and asyncio.CancelledError in a cancelled task.
"""

from __future__ import annotations

from collections.abc import Mapping


class ArenaError(Exception):
    """A call that failed; every instance pickles.

    code: the gRPC status code's name, such as "NOT_FOUND".
    reason: stable and finer than the code, such as "MODEL_NOT_FOUND"; empty where
        whoever sent the status gave none.
    message: what is wrong and how to fix it.
    retry_after: seconds after which another try makes sense; None if unknown.
    model: the model that was asked for; empty if none.
    field: path of the request's field at fault, such as "config.temperature".
    metadata: more for programs, such as {"variable": "OPENAI_API_KEY"}.
    """

    code: str = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        retry_after: float | None = None,
        model: str = "",
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        # One positional argument and a plain __dict__: all that pickle needs.
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.retry_after = retry_after
        self.model = model
        self.field = field
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        notes = [
            f"{label} {value}"
            for label, value in (("field", self.field), ("model", self.model))
            if value and value not in self.message
        ]
        if self.retry_after is not None:
            notes.append(f"retry after {self.retry_after:g} s")
        suffix = f" ({'; '.join(notes)})" if notes else ""
        return f"{self.reason or self.code}: {self.message}{suffix}"


class InvalidArgumentError(ArenaError, ValueError):
    """The request breaks the contract, or does not fit the model's context."""

    code = "INVALID_ARGUMENT"


class NotFoundError(ArenaError):
    """Nobody serves this prefix, or the model is not there."""

    code = "NOT_FOUND"


class UnsupportedError(ArenaError):
    """This backend cannot do what was asked; nothing is dropped in silence."""

    code = "UNIMPLEMENTED"


class FailedPreconditionError(ArenaError):
    """A key, credits, or a configuration must be fixed first."""

    code = "FAILED_PRECONDITION"


class UnauthenticatedError(ArenaError):
    """The caller's own token is missing or wrong."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(ArenaError):
    """The provider refuses: moderation, or a region."""

    code = "PERMISSION_DENIED"


class ResourceExhaustedError(ArenaError):
    """A rate limit or a full queue; `retry_after` tells when to come back."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(ArenaError):
    """The router, the backend or the provider cannot be reached now."""

    code = "UNAVAILABLE"


class DeadlineExceededError(ArenaError):
    """The call's time was over before the answer came."""

    code = "DEADLINE_EXCEEDED"


class CallCancelledError(ArenaError):
    """The other end cancelled the call, or the client was closed during it."""

    # Not "CancelledError", which in async code means asyncio's.
    code = "CANCELLED"


class InternalError(ArenaError):
    """A bug on the other end; the message names the line of its log."""

    code = "INTERNAL"


class UnknownError(ArenaError):
    """A status that is not in the contract; `code` is its own name."""


#: The one table: the class that a status code becomes. Other codes: UnknownError.
BY_CODE: Mapping[str, type[ArenaError]] = {
    cls.code: cls
    for cls in (
        InvalidArgumentError,
        NotFoundError,
        UnsupportedError,
        FailedPreconditionError,
        UnauthenticatedError,
        PermissionDeniedError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        CallCancelledError,
        InternalError,
        UnknownError,
    )
}
