"""Imports litellm without its telemetry, downloads, logs and retries."""

from __future__ import annotations

import logging
import os
import warnings

#: Read by litellm while it is imported.
_ENVIRONMENT = {
    # The price map and the header list inside the package, not those of a web server.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    # In its "DEV" mode it loads all of .env, with the keys of the other services.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "CRITICAL",
    # Seconds that it takes at exit for callbacks that did not run; there are none.
    "MAX_TIME_TO_CLEAR_QUEUE": "0",
}

NEVER_AWAITED = "coroutine '.*' was never awaited"


def import_litellm() -> None:
    """Import litellm, which takes seconds, and switch off what a service must not have."""
    os.environ.update(_ENVIRONMENT)
    import litellm

    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).disabled = True  # its lines may hold a prompt or a key
    # Its call begins in a thread. A caller who leaves meanwhile does not await what it returns.
    warnings.filterwarnings("ignore", NEVER_AWAITED, RuntimeWarning)
    litellm.suppress_debug_info = True  # else it prints advice to standard output
    litellm.telemetry = False
    litellm.drop_params = False  # nothing is dropped in silence
    litellm.modify_params = False
    litellm.num_retries = 0  # services.common.hosted.attempts retries
    litellm.disable_streaming_logging = True  # a second copy of each stream, for callbacks
    litellm.disable_hf_tokenizer_download = True  # a model hub, to estimate tokens
