"""The variables that hold keys: which are missing, and which values to keep secret."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

#: What litellm's providers read: keys, addresses, the clouds' own ways to log in.
ENVIRONMENT = (
    *("*_API_KEY", "*_API_TOKEN", "*_AUTH_TOKEN", "*_API_BASE", "*_API_VERSION"),
    *("TOGETHER_AI_TOKEN", "FIREWORKS_AI_TOKEN", "CLOUDFLARE_*", "DATABRICKS_*", "WATSONX_*"),
    *("AWS_*", "AZURE_*", "VERTEX*", "GOOGLE_*"),
    *("*_proxy", "*_PROXY"),
)

_SECRET = ("*KEY", "*KEY_ID", "*TOKEN", "*SECRET*", "*PASSWORD*")

#: The variable to name where several would do; litellm.validate_environment names them
#: all, as if all were wanted, or the least usual one.
USUAL = {
    "fireworks_ai": "FIREWORKS_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "together_ai": "TOGETHER_API_KEY",
}

#: Servers of one's own. Without an address litellm would ask api.openai.com for them.
OWN_SERVERS = frozenset({"hosted_vllm", "litellm_proxy", "lm_studio"})


def forget_empty() -> None:
    """Unset the variables that are set to nothing, which litellm would take for keys."""
    for name, value in list(os.environ.items()):
        if not value.strip() and any(fnmatchcase(name, pattern) for pattern in ENVIRONMENT):
            del os.environ[name]


def secrets() -> list[str]:
    """The values of all variables that may be keys."""
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= 6  # shorter ones are words: hiding them would garble texts
        and any(fnmatchcase(name, pattern) for pattern in ENVIRONMENT)
        and any(fnmatchcase(name, pattern) for pattern in _SECRET)
    ]
