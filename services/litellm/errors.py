"""Turns litellm's exceptions into BackendErrors."""

from __future__ import annotations

import json
import os
import re
import sys
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
from services.common.hosted.errors import (
    OPENAI_CODES,
    Failure,
    convert_failure,
    make_error,
)
from services.common.hosted.keys import Redactor
from services.common.hosted.waits import read_wait

if TYPE_CHECKING:
    from services.litellm.rewriting import RawAnswer

#: By litellm's class (https://docs.litellm.ai/docs/exception_mapping) or the provider's own
#: code, if it says more than the HTTP status. For all others the status decides.
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
    # litellm raises it for an unreadable answer with any HTTP status.
    "APIResponseValidationError": UpstreamUnavailable,
    # For these codes, litellm looks for words in the message instead.
    **OPENAI_CODES,
}


# What litellm puts around a provider's message: "litellm.RateLimitError: RateLimitError:
# OpenAIException - " before it, and ". Handle with `litellm.RateLimitError`." or advice for users
# of litellm after it.
_AROUND = re.compile(
    r"^(?:litellm\.\w+: )+(?:[\w ]+: )?(?:\w+(?:Exception|Error)(?: \w+)? - )?"
    r"|\.? Handle with `[\w.]+`\.$"
    r"|\.? To drop these, set `litellm\.drop_params=True`.*$",
    re.DOTALL,
)


def convert_reported(
    error: Exception, failure: Failure, answer: RawAnswer, provider: str, redact: Redactor
) -> BackendError:
    """Make the error for an answer with an error status.

    error: what litellm raised for it. Its class takes precedence if it says more than the
    status, because litellm recognises some errors by the words of their messages.
    """
    name = type(error).__name__
    kinds = failure.kinds
    if not issubclass(TYPES.get(name, UpstreamUnavailable), UpstreamUnavailable):
        kinds = (*kinds, name)
    return convert_failure(
        replace(failure, kinds=kinds),
        answer.status,
        provider,
        redact,
        retry_after=answer.retry_after,
        types=TYPES,
    )


def convert_exception(
    error: Exception, sent_status: int, succeeded: bool, provider: str, redact: Redactor
) -> BackendError:
    """Make the error for what litellm raised without an error status.

    sent_status: the HTTP status of the provider's answer, 0 if there was none. succeeded: it was
    a success, and the connection did not break.
    """
    # litellm wraps what broke a stream into an error for its own router.
    error = getattr(error, "original_exception", None) or error
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else 500
    if status == 422 and succeeded:
        status = 502  # litellm's status for a Gemini answer that it cannot read
    headers = getattr(error, "litellm_response_headers", None) or {}
    return make_error(
        status,
        redact(f"{provider}: {hide_paths(_extract_message(str(error)))}"),
        retry_after=read_wait(headers),
        error_type=_find_type(error),
        types=TYPES,
        metadata={"upstream_status": str(sent_status)} if sent_status else {},
    )


def _find_type(error: Exception) -> str:
    """The key in TYPES: the provider's own code if TYPES has it, otherwise the class."""
    body = getattr(error, "body", None)
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, str) and code in TYPES else type(error).__name__


def hide_paths(text: str) -> str:
    """Hide the paths of this machine in an error of litellm's own."""
    return _PATH.sub("[path]", text)


#: A path of a file or a folder, with the installation's and the user's own folders.
_PATH = re.compile(
    r"(?<![\w/:.-])(?:~|"
    + "|".join(
        map(re.escape, (sys.prefix, os.path.expanduser("~"), "/usr", "/opt", "/home", "/var"))
    )
    + r")/[^\s'\",)]+|[^\s'\",(]*site-packages[^\s'\",)]*"
)


def _extract_message(text: str) -> str:
    """The provider's message. litellm often has the whole body as its text."""
    # litellm adds a traceback, with paths of this machine, to some of its own errors.
    message = _AROUND.sub("", text.partition("Traceback (most recent call last)")[0])
    body = message.removeprefix("b'").removesuffix("'")
    with suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["error"]["message"])
    return message
