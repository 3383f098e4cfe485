"""From a model's entry to a running engine with its LoRA adapters."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vllm
import zmq
from prometheus_client import CollectorRegistry
from vllm.model_executor.model_loader import get_model_cls
from vllm.platforms import current_platform
from vllm.renderers.hf import resolve_chat_template, resolve_chat_template_content_format
from vllm.v1.engine.async_llm import AsyncLLM

from arena_llm.types import LogprobKind, ServedBy
from services.common.errors import BackendError
from services.common.local.checks import describe_precision, read_revision
from services.common.local.containment import contained
from services.common.local.images import ImageStyle
from services.common.local.probe import make_test_prompt
from services.common.local.vocabulary import Vocabulary
from services.vllm.arguments import engine_args
from services.vllm.child import FAILURE
from services.vllm.config import VllmModel
from services.vllm.errors import check_device, check_files, explain_start_failure
from services.vllm.images import VllmPromptReader
from services.vllm.metrics import EngineStats, stat_loggers
from services.vllm.parsing import VllmReplyParsers

#: vLLM's logprobs_mode -> what it returns.
_LOGPROB_KINDS = {
    "raw_logprobs": LogprobKind.RAW,
    "processed_logprobs": LogprobKind.SAMPLED,
}


@dataclass(frozen=True)
class StartedEngine:
    """An AsyncLLM and what belongs to it.

    vocabulary: None for a tokenizer whose tokens have no known bytes. logprob_kind: which
    log-probabilities it returns; None for logits. served_by: what replies say about it.
    test_prompt: tokens of a short input. end_tokens: special tokens that end a completion; an end
    token that is text is not among them. max_running: most requests in its batch.
    """

    llm: Any
    reader: VllmPromptReader
    vocabulary: Vocabulary | None
    logprob_kind: LogprobKind | None
    served_by: ServedBy
    test_prompt: list[int]
    end_tokens: tuple[int, ...]
    parsers: VllmReplyParsers
    stats: EngineStats
    registry: CollectorRegistry
    max_running: int


def start_engine(entry: VllmModel, root_cause: Path) -> StartedEngine:
    """Start the engine's processes and wait until they are ready; takes seconds to minutes.

    Call it from a thread that lives as long as the engine, because the core ends with that
    thread. Start one engine at a time: it takes a share of the memory that is free. root_cause:
    an empty file, to which the processes write why they fail. Raises ModelMisconfigured, which
    says what is wrong and how to fix it.
    """
    check_files(entry)
    check_device(entry)
    others = _list_sockets()
    stats, registry = EngineStats(), CollectorRegistry()
    os.environ[FAILURE] = str(root_cause)
    try:
        arguments = engine_args(entry)
        if current_platform.is_cpu():
            # Even an eager engine would compile parts of its sampler at the first call with
            # log-probabilities. That takes 11 s and needs a C++ compiler.
            os.environ["TORCHDYNAMO_DISABLE"] = str(int(bool(arguments.enforce_eager)))
        loggers = stat_loggers(registry, stats)
        llm = contained(AsyncLLM.from_engine_args, arguments, stat_loggers=loggers)
    except Exception as error:  # any error of the library; no caller's input is involved
        _close_sockets(others)
        raise explain_start_failure(entry, "does not start", error, root_cause) from error
    finally:
        del os.environ[FAILURE]
    try:
        return contained(_describe, entry, llm, stats, registry)
    except BackendError:
        llm.shutdown()
        raise
    except Exception as error:  # such as a template that is not text
        llm.shutdown()
        raise explain_start_failure(entry, "cannot read prompts", error, root_cause) from error


def _list_sockets() -> list[zmq.Socket]:
    return [item for item in gc.get_objects() if issubclass(type(item), zmq.Socket)]


def _close_sockets(others: list[zmq.Socket]) -> None:
    """Close the sockets that a failed start has left open.

    The garbage collector would end their context some time later, in any thread, and that waits
    for ever for an open socket: the service would hang.
    """
    for socket in _list_sockets():
        if not any(socket is other for other in others):
            socket.close(linger=0)


def _describe(
    entry: VllmModel, llm: Any, stats: EngineStats, registry: CollectorRegistry
) -> StartedEngine:
    tokenizer = llm.get_tokenizer()
    template = _read_template(entry, llm, tokenizer)
    vocabulary = _read_vocabulary(tokenizer)
    parsers = VllmReplyParsers(entry, tokenizer)
    reasoning = llm.vllm_config.reasoning_config
    reader = VllmPromptReader(
        llm.renderer,
        entry.name,
        tokenizer,
        template,
        llm.model_config.max_model_len,
        llm.model_config.get_vocab_size(),
        reasons=entry.reasoning_parser is not None,
        parses_tools=entry.tool_parser is not None,
        forces_tools=parsers.forces_tools,
        constrains_tools=parsers.constrains_tools,
        limits_reasoning=bool(reasoning and reasoning.enabled),
        efforts=entry.reasoning_efforts,
        vocabulary=vocabulary,
        spaced=False,  # vLLM writes a completion as it continues the prompt
        allow_special_tokens=entry.allow_special_tokens,
        images=_find_image_style(llm, tokenizer, template),
    )
    return StartedEngine(
        llm=llm,
        reader=reader,
        vocabulary=vocabulary,
        end_tokens=_find_end_tokens(llm, vocabulary),
        logprob_kind=_LOGPROB_KINDS.get(llm.model_config.logprobs_mode),
        served_by=ServedBy(
            model=entry.name,
            precision=describe_precision(llm.model_config.dtype, llm.model_config.quantization),
            model_revision=read_revision(entry.model_path),
            engine=f"vllm {vllm.__version__}",
        ),
        test_prompt=make_test_prompt(reader),
        parsers=parsers,
        stats=stats,
        registry=registry,
        max_running=llm.vllm_config.scheduler_config.max_num_seqs,
    )


def _read_template(entry: VllmModel, llm: Any, tokenizer: Any) -> str | None:
    """The source of the chat template, if it is not the tokenizer's own."""
    if entry.chat_template is not None:
        return entry.chat_template.read_text(encoding="utf-8")
    if tokenizer.chat_template or not llm.model_config.is_multimodal_model:
        return None
    # Older models with images have it in a file of their processor.
    source: str | None = resolve_chat_template(tokenizer, None, None, model_config=llm.model_config)
    return source


def _find_image_style(llm: Any, tokenizer: Any, template: str | None) -> ImageStyle | None:
    """How the model's template shows images; None for a model that reads none."""
    config = llm.model_config
    if not config.is_multimodal_model:
        return None
    if not llm.renderer.get_mm_processor().info.allowed_mm_limits.get("image"):
        return None
    form = resolve_chat_template_content_format(
        template, None, "auto", tokenizer, model_config=config
    )
    model = get_model_cls(config)
    return ImageStyle(
        lambda number: model.get_placeholder_str("image", number) or "",
        reads_parts=form == "openai",
    )


def _read_vocabulary(tokenizer: Any) -> Vocabulary | None:
    try:
        return Vocabulary(tokenizer)
    except ValueError:
        return None


def _find_end_tokens(llm: Any, vocabulary: Vocabulary | None) -> tuple[int, ...]:
    listed = llm.input_processor.generation_config_fields.get("eos_token_id")
    tokens = {*(listed if isinstance(listed, list) else [listed]), llm.renderer.get_eos_token_id()}
    return tuple(
        token
        for token in sorted(tokens - {None})
        if vocabulary is None or not vocabulary.token_bytes(token)
    )
