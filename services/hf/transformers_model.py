"""A model that transformers reads and computes. Importing this file imports torch."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from services.common.local.checks import describe_precision
from services.hf.config import HfModel
from services.hf.context import read_context_length
from services.hf.description import Description
from services.hf.forward import LoadLimits, ModelCore
from services.hf.forward_causal import suppressed_tokens, usable_tokens
from services.hf.forward_single import SingleForward
from services.hf.selftest import make_forward
from services.hf.weights import check_fit

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


def describe(entry: HfModel, folder: Path) -> Description:
    """What the files of a folder say."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    trust = {"trust_remote_code": entry.trust_remote_code}
    config = AutoConfig.from_pretrained(folder, **trust)
    return Description(
        tokenizer=AutoTokenizer.from_pretrained(folder, **trust),
        context_length=read_context_length(entry, config),
        encoder_decoder=bool(config.is_encoder_decoder),
    )


def load_model(
    entry: HfModel, folder: Path, device: str, limits: LoadLimits, description: Description
) -> ModelCore:
    """Load the weights, and find the forward pass that is right for the model."""
    if device == "cpu":
        tune_cpu(limits.threads)
    encoder_decoder = description.encoder_decoder
    auto: Any = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    model, report = auto.from_pretrained(
        folder,
        dtype=_dtype(entry, device),
        use_safetensors=None if entry.allow_pickle else True,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # check_fit refuses them, with their names
        trust_remote_code=entry.trust_remote_code,
    )
    check_fit(entry, folder, model, report)
    model = model.to(device).eval()
    configured = model.generation_config.eos_token_id if model.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    forward = make_forward(entry, model, limits.step_tokens)
    return ModelCore(
        forward=forward,
        embedded=int(model.get_input_embeddings().weight.shape[0]),
        tokens=usable_tokens(model),
        ends=tuple(token for token in listed if token is not None),
        suppressed=suppressed_tokens(model),
        size=sum(p.numel() * p.element_size() for p in model.parameters()),
        precision=describe_precision(model.dtype),
        engine=f"transformers {transformers.__version__}",
        note="runs one row at a time" if isinstance(forward, SingleForward) else "",
    )


def tune_cpu(threads: int | None) -> None:
    """Set what decides the speed on a CPU (measured with `python -m bench hf`).

    Keeps freed memory in the process, and shares key-value heads without copying them.
    Tensors over 32 MB may otherwise be mapped and faulted in again at every step. The cost
    varies: a 32-row `generate` of the embedded model once made 36 tokens/s without and 140
    with it, and at other times the same number.
    """
    # transformers reads it at each call; the attention kernel takes a mask with shared heads.
    os.environ["TRANSFORMERS_SDPA_FORCE_GQA"] = "1"
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
    if threads is not None:
        torch.set_num_threads(threads)


def _dtype(entry: HfModel, device: str) -> Any:
    if entry.dtype != "auto":
        return getattr(torch, entry.dtype)
    return torch.float32 if device == "cpu" else "auto"
