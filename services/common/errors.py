"""The errors of the services: gRPC code and reason. trailers.py sends them.

BackendError
├── UnknownPrefix          NOT_FOUND            no backend serves this prefix
├── ModelNotFound          NOT_FOUND            not configured, or upstream 404
├── NotRecorded            NOT_FOUND            the replayed recording has no reply to this
├── InvalidRequest         INVALID_ARGUMENT     a field is wrong
├── ContextTooLong         INVALID_ARGUMENT     prompt + max_tokens exceed the context
├── Unsupported            UNIMPLEMENTED        this backend cannot do that
├── UnknownField           UNIMPLEMENTED        the request has a field of a newer contract
├── ClientTooOld           FAILED_PRECONDITION  the client's contract is too old
├── ConstraintNotMet       ABORTED              the replies do not fit the constraint
├── RequestIdReused        ALREADY_EXISTS       another request has the same request_id
├── StateMismatch          FAILED_PRECONDITION  a part's state is from another provider or model
├── TokenMissing           UNAUTHENTICATED      the router needs a token
├── TokenRejected          UNAUTHENTICATED      the router does not know the token
├── ModelNotAllowed        PERMISSION_DENIED    the token does not include the model
├── QuotaExceeded          RESOURCE_EXHAUSTED   the token's quota is used up
├── RouteLoop              FAILED_PRECONDITION  the call came back to a router that it had passed
├── TooLarge               RESOURCE_EXHAUSTED   too many bytes
├── Interrupted            UNAVAILABLE          the answer broke off midway
├── ApiKeyMissing          FAILED_PRECONDITION  names the variable to set
├── ApiKeyRejected         FAILED_PRECONDITION  upstream 401
├── InsufficientCredits    FAILED_PRECONDITION  upstream 402
├── CreditsHeld            RESOURCE_EXHAUSTED   upstream 402: calls in flight hold the credits
├── ModelMisconfigured     FAILED_PRECONDITION  the model's entry or its files are wrong
├── RefusedByProvider      PERMISSION_DENIED    moderation, region
├── RateLimited            RESOURCE_EXHAUSTED   upstream 429
├── Overloaded             RESOURCE_EXHAUSTED   own queue full
├── UpstreamUnavailable    UNAVAILABLE          upstream 5xx, connection failure
│   ├── UpstreamTimeout    UNAVAILABLE          the provider took too long
│   └── UnreadableAnswer   UNAVAILABLE          the provider's answer cannot be parsed
├── BackendDown            UNAVAILABLE          backend not reachable from the router
├── DeadlineExceeded       DEADLINE_EXCEEDED    the deadline has passed
└── Internal               INTERNAL             a bug: the log describes it under an id
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import grpc

from arena_llm.types import CallReport
from arena_llm.v1 import REVISION


def repair_text(text: str) -> str:
    """Return text that can be sent: a surrogate pair becomes its character, a lone
    surrogate becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class BackendError(Exception):
    """An error that the caller gets unchanged.

    message: what is wrong and how to fix it, without prompt or key.
    field: the wrong field of the request, such as "config.temperature".
    retry_after: seconds after which a retry is useful.
    metadata: details for programs, such as {"variable": "OPENAI_API_KEY"}.
    report: what the call tried and paid until then.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        report: CallReport | None = None,
    ) -> None:
        message = repair_text(message)  # a provider's text may hold half a surrogate pair
        super().__init__(message)
        self.message = message
        self.field = repair_text(field)
        self.retry_after = retry_after
        self.metadata = {
            repair_text(name): repair_text(value) for name, value in (metadata or {}).items()
        }
        self.report = report


class UnknownPrefix(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "UNKNOWN_PREFIX"


class ModelNotFound(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"


class NotRecorded(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "NOT_RECORDED"


class InvalidRequest(BackendError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"


def make_field_error(field: str, problem: str) -> InvalidRequest:
    """Return the error of a field, such as ("prompt", "must not be empty")."""
    return InvalidRequest(f"{field} {problem}", field=field)


class ContextTooLong(BackendError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_TOO_LONG"


class Unsupported(BackendError):
    code, reason = grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"


#: Ends the error message of a request that probably follows another revision of the contract.
OTHER_REVISION = (
    f"its caller may be older or newer than this service, which implements revision {REVISION} of "
    "the contract. Use the same version of Arena LLM at both ends, or make the caller's stubs from "
    "its proto/ again"
)


class UnknownField(BackendError):
    code, reason = grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_FIELD"


class ClientTooOld(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "CLIENT_TOO_OLD"


class ConstraintNotMet(BackendError):
    code, reason = grpc.StatusCode.ABORTED, "CONSTRAINT_NOT_MET"


class RequestIdReused(BackendError):
    code, reason = grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"


class StateMismatch(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "STATE_MISMATCH"


class RouteLoop(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "ROUTE_LOOP"


class TokenMissing(BackendError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"


class TokenRejected(BackendError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REJECTED"


class ModelNotAllowed(BackendError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "MODEL_NOT_ALLOWED"


class QuotaExceeded(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"


class TooLarge(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE"


class Interrupted(BackendError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "INTERRUPTED"


class ApiKeyMissing(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_MISSING"


class ApiKeyRejected(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_REJECTED"


class InsufficientCredits(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_CREDITS"


class CreditsHeld(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "CREDITS_HELD"


class ModelMisconfigured(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISCONFIGURED"


class RefusedByProvider(BackendError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "REFUSED_BY_PROVIDER"


class RateLimited(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"


class Overloaded(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"


class UpstreamUnavailable(BackendError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"


class UpstreamTimeout(UpstreamUnavailable):
    """The provider sent nothing for too long, or did not end in time."""


class UnreadableAnswer(UpstreamUnavailable):
    """The provider's answer cannot be parsed. There is no retry, because it would cost again."""


class BackendDown(BackendError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "BACKEND_DOWN"

    @property
    def is_reached(self) -> bool:
        """Whether the backend may have got the call, so that a provider may bill it."""
        return self.metadata.get("reached") == "true"


class DeadlineExceeded(BackendError):
    code, reason = grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"


class ContractError(Exception):
    """A bug of a backend: its reply breaks the contract. The caller gets it as Internal.

    The message says what is wrong. It must not contain text of the prompt or of the reply,
    because it is logged and sent.
    """


class Internal(BackendError):
    """A bug of the service, or of the routers' configuration."""
