"""Which of litellm's providers a caller may name without an entry in the configuration.

The others ask servers that nobody configured (ports of this machine, huggingface.co, the clouds'
metadata), write into the home folder, or use connections that this service does not control. They
are only called if the configuration lists the model. `tests/unit/hosted/litellm` looks at each.
"""

from __future__ import annotations

import os

from services.common.errors import ModelNotFound

#: Providers that litellm calls at one public address, over this service's own transport.
_PUBLIC = frozenset(
    (
        *("ai21", "ai21_chat", "aiml", "amazon_nova", "anthropic", "anthropic_text", "apertis"),
        *("baseten", "bytez", "cerebras", "chutes", "codestral", "cognition", "cohere"),
        *("cohere_chat", "cometapi", "compactifai", "cortecs", "dashscope", "deepinfra"),
        *("deepseek", "empower", "featherless_ai", "fireworks_ai", "friendliai", "galadriel"),
        *("gemini", "github", "groq", "helicone", "hyperbolic", "inception", "lambda_ai"),
        *("libertai", "maritalk", "meta", "meta_llama", "minimax", "mistral", "modelscope"),
        *("moonshot", "morph", "nano-gpt", "nebius", "nlp_cloud", "novita", "nscale"),
        *("nvidia_nim", "openai", "openrouter", "ovhcloud", "parasail", "perplexity", "poe"),
        *("publicai", "qwencloud", "reka", "sambanova", "scaleway", "synthetic", "tencent"),
        *("text-completion-openai", "together_ai", "v0", "vercel_ai_gateway", "volcengine"),
        *("wandb", "xai", "xiaomi_mimo", "zai"),
    )
)

#: Providers at an address that the operator sets, and the variable that holds it. Without one,
#: litellm would ask a port of this machine or another provider.
_ADDRESSED = {
    "azure": "AZURE_API_BASE",
    "azure_ai": "AZURE_AI_API_BASE",
    "azure_text": "AZURE_API_BASE",
    "cloudflare": "CLOUDFLARE_ACCOUNT_ID",
    "databricks": "DATABRICKS_API_BASE",
    "hosted_vllm": "HOSTED_VLLM_API_BASE",
    "litellm_proxy": "LITELLM_PROXY_API_BASE",
    "llamafile": "LLAMAFILE_API_BASE",
    "lm_studio": "LM_STUDIO_API_BASE",
    "ollama": "OLLAMA_API_BASE",
    "ollama_chat": "OLLAMA_API_BASE",
    "watsonx": "WATSONX_URL",
    "watsonx_text": "WATSONX_URL",
}

#: Providers whose missing address raises ApiKeyMissing, which names its variable.
OWN_SERVERS = frozenset({"hosted_vllm", "litellm_proxy", "lm_studio"})

#: Providers that litellm calls without a transport that the service controls, and what to use
#: instead.
_UNUSABLE = {
    "aiohttp_openai": "use litellm_openai/<model>",
    "petals": "it would run models in this process",
    "vllm": "it would run models in this process; use vllm_<model>",
}


def check_usable(provider: str) -> None:
    """Raise ModelNotFound for a provider that no configuration can make usable."""
    if (reason := _UNUSABLE.get(provider)) is not None:
        raise ModelNotFound(
            f"litellm's provider {provider} cannot be used here: {reason}", field="model"
        )


def check_unlisted(provider: str) -> None:
    """Raise ModelNotFound for a provider of which only listed models are called."""
    check_usable(provider)
    if provider in _PUBLIC or provider in OWN_SERVERS:
        return
    advice = "list the model in configs/litellm_models.yaml"
    if (variable := _ADDRESSED.get(provider)) is not None:
        if os.environ.get(variable):
            return
        advice = f"set {variable}, or {advice}"
    raise ModelNotFound(
        f"a model of {provider} is only called if the configuration has it: {advice}",
        field="model",
    )
