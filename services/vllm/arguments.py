"""From an entry to the engine's arguments, and the environment that the engine sees."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_args

from services.common.config import ConfigError
from services.vllm.child import PARENT
from services.vllm.config import VllmModel

#: What an engine on a CPU gets unless the entry says otherwise: no minutes of compiling,
#: the fastest type there, blocks that short prompts fill (a prefix is cached in whole
#: blocks, of 128 tokens by default), and not nearly all memory for the cache.
_ON_CPU = {
    "enforce_eager": True,
    "dtype": "float32",
    "block_size": 32,
    "kv_cache_memory_bytes": 1 << 30,
}

_ENVIRONMENT = {
    # No hub, no usage statistics: a model's files are here, or the model says so.
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "LLGUIDANCE_LOG_LEVEL": "0",  # it logs texts
    # Without it, a request whose logits are NaN gets arbitrary tokens.
    "VLLM_COMPUTE_NANS_IN_LOGITS": "1",
    # The service has threads of gRPC, which do not survive a fork.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # Engine processes on this machine talk over loopback.
    "VLLM_HOST_IP": "127.0.0.1",
}


def prepare_environment() -> None:
    """Set what vLLM reads while it is imported; what is set already stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ[PARENT] = str(os.getpid())


def check_arguments(models: Sequence[VllmModel]) -> None:
    """Raise ConfigError for an engine argument that this vLLM does not have."""
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = [field.name for field in fields(AsyncEngineArgs)]
    for entry in models:
        for name in entry.engine_args:
            if name not in known:
                near = ", ".join(get_close_matches(name, known)) or "none"
                raise ConfigError(
                    f"configs/vllm_models.yaml: {entry.name}: engine_args.{name} is no argument "
                    f"of vLLM {vllm.__version__}; nearest names: {near}"
                )


def engine_args(entry: VllmModel) -> Any:
    """The entry as vLLM's AsyncEngineArgs."""
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    defaults: dict[str, Any] = {
        "enable_prefix_caching": True,
        # The library that constrains the hf service's models: one dialect for both.
        # JSON comes on one line, or a small model may never get to its end.
        "structured_outputs_config": StructuredOutputsConfig(
            backend="guidance", disable_any_whitespace=True
        ),
    }
    if current_platform.is_cpu():
        defaults |= _ON_CPU
        if os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            del defaults["kv_cache_memory_bytes"]
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


def _lora_rank(entry: VllmModel) -> int:
    """The least rank that vLLM knows and that holds every adapter's.

    An adapter whose file cannot be read does not count; loading it tells why.
    """
    from vllm.config.lora import MaxLoRARanks

    known: tuple[int, ...] = get_args(MaxLoRARanks)
    ranks = [1]
    for adapter in entry.lora:
        try:
            rank = json.loads((adapter.path / "adapter_config.json").read_text())["r"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        ranks.append(rank if isinstance(rank, int) else 1)
    return min((rank for rank in known if rank >= max(ranks)), default=max(known))
