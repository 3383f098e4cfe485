"""litellm's exceptions as errors of ours: one table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ContextTooLong,
    InsufficientCredits,
    ModelNotFound,
    RateLimited,
    RefusedByProvider,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.hosted.redaction import Redactor
from services.common.hosted.statuses import OPENAI_CODES, error_of, parse_retry_after

#: By litellm's class (https://docs.litellm.ai/docs/exception_mapping) or the provider's
#: own code, where that says more than the HTTP status; for all others the status decides.
TYPES: Mapping[str, type[BackendError]] = {
    "AuthenticationError": ApiKeyRejected,
    "PermissionDeniedError": RefusedByProvider,
    "ContentPolicyViolationError": RefusedByProvider,
    "RejectedRequestError": RefusedByProvider,
    "NotFoundError": ModelNotFound,
    "LiteLLMUnknownProvider": ModelNotFound,
    "ContextWindowExceededError": ContextTooLong,
    "UnsupportedParamsError": Unsupported,
    "PaymentRequiredError": InsufficientCredits,
    "RateLimitError": RateLimited,
    "Timeout": UpstreamUnavailable,
    "APIConnectionError": UpstreamUnavailable,
    # An answer that cannot be read, whatever its status.
    "APIResponseValidationError": UpstreamUnavailable,
    # OpenAI's codes, where litellm looks for words in the message instead.
    **OPENAI_CODES,
}


# "litellm.RateLimitError: RateLimitError: OpenAIException - ", before what was said, and
# ". Handle with `litellm.RateLimitError`." after it.
_AROUND = re.compile(
    r"^(?:litellm\.\w+: )+(?:[\w ]+: )?(?:\w+(?:Exception|Error)(?: \w+)? - )?"
    r"|\.? Handle with `[\w.]+`\.$"
)


def error_from(error: Exception, provider: str, redact: Redactor) -> BackendError:
    """The error that stands for what litellm raised."""
    # What broke a stream, litellm wraps into an error for its own router.
    error = getattr(error, "original_exception", None) or error
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else 500
    if status == 422 and any(isinstance(cause, json.JSONDecodeError) for cause in _causes(error)):
        status = 502  # what litellm says of a Gemini answer that cannot be read
    headers = getattr(error, "litellm_response_headers", None) or {}
    return error_of(
        status,
        redact(f"{provider}: {_said(str(error))}"),
        retry_after=parse_retry_after(headers.get("retry-after")),
        error_type=_type(error),
        types=TYPES,
        metadata={"provider": provider, "upstream_status": str(status)},
    )


def _type(error: Exception) -> str:
    """The key in TYPES: the provider's own code where the table has it, else the class."""
    body = getattr(error, "body", None)
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) and code in TYPES else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__


def _said(text: str) -> str:
    """What the provider said, out of what litellm makes of it: often the whole body."""
    # litellm adds a traceback, with this machine's paths, to some of its own failures.
    said = _AROUND.sub("", text.partition("\nTraceback (most recent call last)")[0])
    body = said.removeprefix("b'").removesuffix("'")
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["error"]["message"])
    return said
