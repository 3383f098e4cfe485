"""From an entry to a running engine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM

from services.common.errors import BackendError
from services.common.local.contain import contained
from services.common.local.prompt import PromptReader
from services.vllm.arguments import engine_args
from services.vllm.checks import check_device, check_files, failed_start
from services.vllm.child import FAILURE
from services.vllm.config import VllmModel
from services.vllm.metrics import EngineStats, stat_loggers
from services.vllm.reasoning import ReasoningSplitter, splitter_factory


@dataclass(frozen=True)
class Started:
    """An AsyncLLM and what belongs to it.

    test_prompt: tokens of a short input. max_running: the most requests in its batch.
    """

    llm: Any
    reader: PromptReader
    test_prompt: list[int]
    new_splitter: Callable[[], ReasoningSplitter] | None
    stats: EngineStats
    registry: CollectorRegistry
    max_running: int


def start(entry: VllmModel, root_cause: Path) -> Started:
    """Start the engine's processes and wait until they are ready: seconds to minutes.

    To be called from a thread that lives as long as the engine, whose core ends with it.
    One at a time: an engine takes its memory by what it sees as free. root_cause: an empty
    file, where its processes write why they fail. Raises ModelMisconfigured, which says what
    is wrong and how to fix it.
    """
    check_files(entry)
    check_device(entry)
    stats, registry = EngineStats(), CollectorRegistry()
    os.environ[FAILURE] = str(root_cause)
    try:
        arguments = engine_args(entry)
        if current_platform.is_cpu():
            # Parts of an eager engine's sampler would be compiled all the same, by the first
            # call that asks for log-probabilities: 11 s, and a C++ compiler is needed.
            os.environ["TORCHDYNAMO_DISABLE"] = str(int(bool(arguments.enforce_eager)))
        loggers = stat_loggers(registry, stats)
        llm = contained(AsyncLLM.from_engine_args, arguments, stat_loggers=loggers)
    except Exception as error:  # whatever the library comes up with: nothing of a caller's
        raise failed_start(entry, "does not start", error, root_cause) from error
    finally:
        del os.environ[FAILURE]
    try:
        return contained(_described, entry, llm, stats, registry)
    except BackendError:
        llm.shutdown()
        raise
    except Exception as error:  # a template that is no text, a tokenizer of another kind
        llm.shutdown()
        raise failed_start(entry, "cannot be asked", error, root_cause) from error


def _described(
    entry: VllmModel, llm: Any, stats: EngineStats, registry: CollectorRegistry
) -> Started:
    tokenizer = llm.get_tokenizer()
    template = entry.chat_template
    reader = PromptReader(
        entry.name,
        tokenizer,
        None if template is None else template.read_text(encoding="utf-8"),
        llm.model_config.max_model_len,
        llm.model_config.get_vocab_size(),
    )
    return Started(
        llm=llm,
        reader=reader,
        test_prompt=reader.test_prompt(),
        new_splitter=splitter_factory(entry.name, entry.reasoning_parser, tokenizer),
        stats=stats,
        registry=registry,
        max_running=llm.vllm_config.scheduler_config.max_num_seqs,
    )


def abandon_starts() -> None:
    """End what engines that have not started yet have of processes: their starts then fail."""
    for core in multiprocessing.active_children():
        if core.pid is None:  # which a child that has been started never is
            continue
        try:
            os.killpg(core.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not got as far as to a group of its own
            core.kill()
