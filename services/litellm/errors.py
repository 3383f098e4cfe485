"""litellm's exceptions as errors of ours: one table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

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
from services.common.hosted import failures
from services.common.hosted.failures import Failure
from services.common.hosted.redaction import Redactor
from services.common.hosted.statuses import OPENAI_CODES, error_of, parse_retry_after

if TYPE_CHECKING:
    from services.litellm.wire import Wire

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
# ". Handle with `litellm.RateLimitError`." or advice for users of litellm itself after it.
_AROUND = re.compile(
    r"^(?:litellm\.\w+: )+(?:[\w ]+: )?(?:\w+(?:Exception|Error)(?: \w+)? - )?"
    r"|\.? Handle with `[\w.]+`\.$"
    r"|\.? To drop these, set `litellm\.drop_params=True`.*$",
    re.DOTALL,
)


def error_reported(
    error: Exception, failure: Failure, wire: Wire, provider: str, redact: Redactor
) -> BackendError:
    """The error that stands for a status of failure. litellm's class for it decides where it
    knows more than the status: it finds some errors by the words of their messages."""
    name = type(error).__name__
    kinds = failure.kinds
    if not issubclass(TYPES.get(name, UpstreamUnavailable), UpstreamUnavailable):
        kinds = (*kinds, name)
    reported = failures.error_from(
        replace(failure, kinds=kinds), wire.status, provider, redact,
        retry_after=wire.retry_after, types=TYPES,
    )  # fmt: skip
    reported.metadata.setdefault("provider", provider)
    return reported


def error_from(error: Exception, succeeded: bool, provider: str, redact: Redactor) -> BackendError:
    """The error that stands for what litellm raised without a status of failure.

    succeeded: whether the provider answered with a status of success.
    """
    # What broke a stream, litellm wraps into an error for its own router.
    error = getattr(error, "original_exception", None) or error
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else 500
    if status == 422 and succeeded:
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


def _said(text: str) -> str:
    """What the provider said, out of what litellm makes of it: often the whole body."""
    # litellm adds a traceback, with this machine's paths, to some of its own failures.
    said = _AROUND.sub("", text.partition("\nTraceback (most recent call last)")[0])
    body = said.removeprefix("b'").removesuffix("'")
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["error"]["message"])
    return said
