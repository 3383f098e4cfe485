"""Turns litellm's exceptions into BackendErrors."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress

from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    RefusedByProvider,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.hosted.errors import (
    OPENAI_CODES,
    make_error,
)
from services.common.hosted.keys import Redactor
from services.common.hosted.waits import read_wait
from services.common.hosted.wording import find_kind

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


def guess_type(error: Exception) -> str:
    """The name of litellm's class if it says more than that the provider failed, else "".

    litellm recognises some errors by their messages.
    """
    name = type(error).__name__
    says_more = not issubclass(TYPES.get(name, UpstreamUnavailable), UpstreamUnavailable)
    return name if says_more else ""


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
    message = hide_paths(_extract_message(str(error)))
    return make_error(
        status,
        redact(f"{provider}: {message}"),
        retry_after=read_wait(headers),
        kind=_find_type(error) or find_kind(message, status),
        metadata={"upstream_status": str(sent_status)} if sent_status else {},
    )


def _find_type(error: Exception) -> type[BackendError] | None:
    """The kind of the provider's own code if TYPES has it, otherwise that of the class."""
    body = getattr(error, "body", None)
    code = body.get("code") if isinstance(body, dict) else None
    known = isinstance(code, str) and code in TYPES
    return TYPES.get(str(code) if known else type(error).__name__)


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
