"""The variables of litellm's providers."""

from __future__ import annotations

#: The openrouter service's key, which this one never gets.
NOT_OURS = "OPENROUTER_API_KEY"

#: What litellm's providers read: keys, addresses, the clouds' own ways to log in.
ENVIRONMENT = (
    "!OPENROUTER_*",
    *("*_API_KEY", "*_API_TOKEN", "*_AUTH_TOKEN", "*_API_BASE", "*_API_VERSION"),
    *("TOGETHER_AI_TOKEN", "FIREWORKS_AI_TOKEN", "CLOUDFLARE_*", "DATABRICKS_*", "WATSONX_*"),
    *("AWS_*", "AZURE_*", "VERTEX*", "GOOGLE_*"),
    *("*_proxy", "*_PROXY"),
)

#: The variable to name where several would do; litellm.validate_environment names them
#: all, as if all were wanted, or the least usual one.
USUAL = {
    "fireworks_ai": "FIREWORKS_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "together_ai": "TOGETHER_API_KEY",
}

#: Servers of one's own. Without an address litellm would ask api.openai.com for them.
OWN_SERVERS = frozenset({"hosted_vllm", "litellm_proxy", "lm_studio"})
