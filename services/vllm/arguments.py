"""Turns a model's entry into vLLM's engine arguments, and sets the engine's environment."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any, get_args

from arena_llm.suggestions import did_you_mean
from services.common.config import ConfigError
from services.common.local.checks import CONTEXT_LENGTH_KEYS
from services.vllm.child import PARENT
from services.vllm.config import VllmConfig, VllmModel

#: Defaults for an engine on a CPU: no compilation, which takes minutes; the fastest type; blocks
#: that short prompts fill (a prefix is cached in whole blocks, of 128 tokens by default); a
#: bounded cache, which would otherwise take almost all memory; and long prompts in pieces that
#: leave room in a step: a move beside a prompt of 5,900 tokens waits 1.4 s instead of 13 s.
_ON_CPU: dict[str, Any] = {
    "enforce_eager": True,
    "dtype": "float32",
    "block_size": 32,
    "kv_cache_memory_bytes": 1 << 30,
    "max_num_seqs": 128,
    "max_num_batched_tokens": 512,
    "long_prefill_token_threshold": 256,
    "worker_cls": "services.vllm.cpu_worker.SeededCpuWorker",
}

#: The assumed context length of a model whose files give none. vLLM assumes a longer one.
_SHORT_CONTEXT = 2048

_ENVIRONMENT = {
    # No hub and no usage statistics: a model's files must be on this machine.
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "LLGUIDANCE_LOG_LEVEL": "0",  # its log would contain texts
    # Otherwise a request whose logits are NaN gets arbitrary tokens.
    "VLLM_COMPUTE_NANS_IN_LOGITS": "1",
    # Otherwise vLLM forces tool calls with structural tags, which its guidance backend cannot read.
    "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0",
    # The service has gRPC threads, which do not survive a fork.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # The engine's processes talk over loopback.
    "VLLM_HOST_IP": "127.0.0.1",
}


def prepare_environment() -> None:
    """Set the variables that vLLM reads on import, unless they are set already."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ[PARENT] = str(os.getpid())


def check_arguments(config: VllmConfig) -> None:
    """Raise ConfigError for an engine argument that the installed vLLM does not have."""
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs

    names = [field.name for field in fields(AsyncEngineArgs)]
    for entry in config.models:
        for name in entry.engine_args:
            if name not in names:
                raise ConfigError(
                    f"{config.path}: {entry.name}: vLLM {vllm.__version__} has no argument "
                    f"{name}, which engine_args sets{did_you_mean(name, names)}"
                )


def engine_args(entry: VllmModel) -> Any:
    """The entry as vLLM's AsyncEngineArgs."""
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    defaults: dict[str, Any] = {
        "enable_prefix_caching": True,
        # The service sends the same pixels several times, such as for a score. The cache expects
        # that its two halves see each of them once.
        "mm_processor_cache_gb": 0,
        # The hf service uses the same library, so both accept the same schemas. JSON is written
        # on one line, because a small model may otherwise never finish it.
        "structured_outputs_config": StructuredOutputsConfig(
            backend="guidance", disable_any_whitespace=True
        ),
    }
    if current_platform.is_cpu():
        defaults |= _ON_CPU
        if os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            del defaults["kv_cache_memory_bytes"]
        if entry.engine_args.get("enable_chunked_prefill") is False:
            # A prompt must then fit into one step.
            del defaults["max_num_batched_tokens"], defaults["long_prefill_token_threshold"]
        else:
            # vLLM wants a token for each row, and no piece that is longer than the context.
            rows = entry.engine_args.get("max_num_seqs", 0)
            piece, context = defaults["long_prefill_token_threshold"], find_context_length(entry)
            defaults["max_num_batched_tokens"] = max(defaults["max_num_batched_tokens"], rows)
            defaults["long_prefill_token_threshold"] = min(piece, context)
    if entry.lora:
        defaults |= {"max_loras": len(entry.lora), "max_lora_rank": _lora_rank(entry)}
    return AsyncEngineArgs(
        **{
            **defaults,
            **entry.engine_args,
            "model": str(entry.model_path),
            "tokenizer": str(entry.tokenizer_path or entry.model_path),
            "served_model_name": entry.name,
            "enable_lora": bool(entry.lora),
            "reasoning_parser": entry.reasoning_parser or "",
            "trust_remote_code": entry.trust_remote_code,
        }
    )


def find_context_length(entry: VllmModel) -> int:
    """At most the context length of the engine, if it is known before its start."""
    try:
        config = json.loads((entry.model_path / "config.json").read_text())
        parts = (config, config.get("text_config") or {})
        found = [part[key] for part in parts for key in CONTEXT_LENGTH_KEYS if key in part]
    except (OSError, ValueError, AttributeError, TypeError):
        found = []  # the start reports the file
    lengths = [entry.engine_args.get("max_model_len"), *found]
    return min((n for n in lengths if isinstance(n, int) and n > 0), default=_SHORT_CONTEXT)


def _lora_rank(entry: VllmModel) -> int:
    """The smallest rank that vLLM supports and that fits every adapter, with all of its modules.

    An adapter whose file cannot be read does not count: loading it reports the error.
    """
    from vllm.config.lora import MaxLoRARanks

    supported: tuple[int, ...] = get_args(MaxLoRARanks)
    ranks = [1]
    for adapter in entry.lora:
        try:
            settings = json.loads((adapter.path / "adapter_config.json").read_text())
            found = [settings["r"], *(settings.get("rank_pattern") or {}).values()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        ranks += (rank for rank in found if isinstance(rank, int))
    return min((rank for rank in supported if rank >= max(ranks)), default=max(supported))
