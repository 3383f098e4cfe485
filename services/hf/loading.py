"""From a folder with a model's files to a model that can run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from arena_llm.types import ServedBy
from services.common.errors import ModelMisconfigured
from services.common.local.checks import (
    describe_precision,
    make_not_finite_error,
    read_revision,
)
from services.common.local.containment import contained
from services.common.local.probe import make_test_prompt
from services.common.local.request import PromptReader
from services.common.local.vocabulary import Vocabulary
from services.common.local.writing import CompletionEncoder
from services.hf.config import HfModel
from services.hf.context import read_context_length
from services.hf.errors import try_out
from services.hf.forward import Forward
from services.hf.forward_causal import usable_tokens
from services.hf.forward_single import SingleForward
from services.hf.grammar import GrammarCompiler
from services.hf.openvino.loading import LoadLimits, ModelCore, load_core
from services.hf.selftest import make_forward
from services.hf.weights import check_fit, check_weights


@dataclass(frozen=True)
class LoadedModel:
    """A model and everything that belongs to it.

    tokens: how many token ids it can both read and write. test_prompt: tokens that it has read
    in a test. size: bytes of its weights. served_by: what replies say about it. note: what its
    availability says beside "loaded".
    """

    name: str
    entry: HfModel
    served_by: ServedBy
    tokenizer: Any
    reader: PromptReader
    vocabulary: Vocabulary
    grammars: GrammarCompiler
    forward: Forward
    eos: frozenset[int]
    tokens: int
    test_prompt: list[int]
    size: int
    note: str = ""


def load(entry: HfModel, folder: Path, device: torch.device, limits: LoadLimits) -> LoadedModel:
    """Load one model; takes seconds to minutes.

    Raises ModelMisconfigured, which names the folder and what is wrong with it.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return contained(_load, entry, folder, device, limits)
    except ModelMisconfigured:
        raise
    except FloatingPointError as error:
        raise make_not_finite_error(entry.name) from error
    except Exception as error:  # any library's error about the files; it repeats no prompt
        why = " ".join(str(error).split())[:300]
        raise ModelMisconfigured(
            f"{entry.name}: {folder} cannot be loaded: {type(error).__name__}: {why}"
        ) from error


def _load(entry: HfModel, folder: Path, device: torch.device, limits: LoadLimits) -> LoadedModel:
    check_weights(entry, folder)
    trust = {"trust_remote_code": entry.trust_remote_code}
    config = AutoConfig.from_pretrained(folder, **trust)
    tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
    template = None
    if entry.chat_template is not None:
        template = entry.chat_template.read_text(encoding="utf-8")
    vocabulary = Vocabulary(tokenizer)
    encoder_decoder = bool(config.is_encoder_decoder)
    length = read_context_length(entry, config)
    if length is None:
        raise ModelMisconfigured(
            f"{entry.name}: {folder / 'config.json'} has no context length: set context_length "
            "in the model's entry"
        )

    def load_transformers(note: str) -> ModelCore:
        return _load_transformers(
            entry, folder, device, limits, note, encoder_decoder=encoder_decoder
        )

    core = load_core(entry, folder, device.type, length, limits, load_transformers)
    eos = _end_tokens(core, tokenizer)
    reader = PromptReader(
        entry.name,
        tokenizer,
        template,
        length,
        core.embedded,
        core.tokens,
        encoder_decoder=encoder_decoder,
        reasons=entry.reasoning_parser is not None,
        parses_tools=entry.tool_parser is not None,
        efforts=entry.reasoning_efforts,
        vocabulary=vocabulary,
        allow_special_tokens=entry.allow_special_tokens,
    )
    writing = CompletionEncoder(tokenizer, reader.encoder, vocabulary, spaced=vocabulary.spaced)
    test_prompt = make_test_prompt(reader)
    try_out(core.forward, test_prompt)
    return LoadedModel(
        name=entry.name,
        entry=entry,
        served_by=ServedBy(
            model=entry.name,
            precision=core.precision,
            model_revision=read_revision(folder),
            engine=core.engine,
        ),
        tokenizer=tokenizer,
        reader=reader,
        vocabulary=vocabulary,
        grammars=GrammarCompiler(writing, vocabulary, tuple(sorted(eos)), core.tokens),
        forward=core.forward,
        eos=eos,
        tokens=core.tokens,
        test_prompt=test_prompt,
        size=core.size,
        note=core.note,
    )


def _load_transformers(
    entry: HfModel,
    folder: Path,
    device: torch.device,
    limits: LoadLimits,
    note: str,
    *,
    encoder_decoder: bool,
) -> ModelCore:
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
    if isinstance(forward, SingleForward):
        note = "; ".join(filter(None, (note, "runs one row at a time")))
    return ModelCore(
        forward=forward,
        embedded=int(model.get_input_embeddings().weight.shape[0]),
        tokens=usable_tokens(model),
        ends=tuple(token for token in listed if token is not None),
        size=sum(p.numel() * p.element_size() for p in model.parameters()),
        precision=describe_precision(model.dtype),
        engine=f"transformers {transformers.__version__}",
        note=note,
    )


def _dtype(entry: HfModel, device: torch.device) -> Any:
    if entry.dtype != "auto":
        return getattr(torch, entry.dtype)
    return torch.float32 if device.type == "cpu" else "auto"


def _end_tokens(core: ModelCore, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion: the tokenizer's and the generation config's."""
    ends = {token for token in (*core.ends, tokenizer.eos_token_id) if token is not None}
    if not ends:
        raise ValueError("it has no end token: set eos_token in tokenizer_config.json")
    return frozenset(ends)
