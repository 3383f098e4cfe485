"""Imports litellm, turns off its telemetry, downloads, logs and retries, and fixes one bug."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

#: litellm reads these while it is imported.
_ENVIRONMENT = {
    # The price map and the header list inside the package, not those of a web server.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    # In "DEV" mode, litellm loads all of .env, including the keys of other services.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "CRITICAL",
    # Seconds that litellm waits at exit for unfinished callbacks. There are none.
    "MAX_TIME_TO_CLEAR_QUEUE": "0",
}

NEVER_AWAITED = "coroutine '.*' was never awaited"


def import_litellm() -> None:
    """Import litellm, which takes seconds, and switch off what a service must not have."""
    os.environ.update(_ENVIRONMENT)
    import litellm

    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).disabled = True  # its lines may hold a prompt or a key
    # litellm starts a call in a thread. A cancelled caller never awaits the coroutine that the
    # thread returns.
    warnings.filterwarnings("ignore", NEVER_AWAITED, RuntimeWarning)
    litellm.suppress_debug_info = True  # else it prints advice to standard output
    litellm.telemetry = False
    litellm.drop_params = False  # no parameter is dropped silently
    litellm.modify_params = False
    litellm.num_retries = 0  # services.common.hosted.retry is the only layer that retries
    litellm.disable_streaming_logging = True  # it would copy each stream for callbacks
    litellm.disable_hf_tokenizer_download = True  # it would download tokenizers to count tokens
    _disable_call_logs()
    _correct_gemini_streams()


def _disable_call_logs() -> None:
    """Make no log record of a call: a service has no callback that would read it.

    For a failed call, litellm redacts the whole traceback twice, which takes milliseconds on the
    event loop. The message of the exception is still redacted.
    """
    from litellm.litellm_core_utils.litellm_logging import Logging

    Logging.should_run_logging = lambda *_, **__: False  # litellm has no setting for it


def _correct_gemini_streams() -> None:
    """Give a finish reason only to those pieces of a Gemini stream that have one.

    litellm puts "stop" into all others, so a stream that broke off would look complete.
    """
    from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
    from litellm.types.utils import StreamingChoices

    original = VertexGeminiConfig._create_streaming_choice
    if getattr(original, "corrected", False):
        return

    def create(*, candidate: Any, **others: Any) -> StreamingChoices:
        choice = original(candidate=candidate, **others)
        if not candidate.get("finishReason") and choice.finish_reason == "stop":
            choice.finish_reason = None
        return choice

    create.corrected = True  # type: ignore[attr-defined] # so that it is wrapped once
    VertexGeminiConfig._create_streaming_choice = staticmethod(create)
