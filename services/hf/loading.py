"""From a folder with a model's files to a model that can run. Imports no torch by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from arena_llm.types import ServedBy
from services.common.errors import ModelMisconfigured
from services.common.local.checks import is_embedded, make_not_finite_error, read_revision
from services.common.local.containment import contained
from services.common.local.probe import make_test_prompt
from services.common.local.request import PromptReader
from services.common.local.vocabulary import Vocabulary
from services.common.local.writing import CompletionEncoder
from services.common.log import log
from services.hf.config import HfModel
from services.hf.context import read_context_length
from services.hf.description import Description, check_torch, needs_torch
from services.hf.embedded import prepare
from services.hf.errors import try_out
from services.hf.forward import Forward, LoadLimits, ModelCore
from services.hf.grammar import GrammarCompiler
from services.hf.memory import drop_pages, release_memory
from services.hf.openvino import loading as openvino_loading
from services.hf.tokenizer import read_tokenizer
from services.hf.weights import check_weights, find_weights


@dataclass(frozen=True)
class LoadedModel:
    """A model and everything that belongs to it.

    tokens: how many token ids it can both read and write. test_prompt: tokens that it has read in a
    test. suppressed: tokens that it never writes. size: bytes of its weights. served_by: what
    replies say about it. note: what its availability says beside "loaded".
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
    suppressed: tuple[int, ...]
    tokens: int
    test_prompt: list[int]
    size: int
    note: str = ""


def load(entry: HfModel, folder: Path, device: str, limits: LoadLimits) -> LoadedModel:
    """Load one model; takes seconds to minutes. device: cpu or cuda.

    Raises ModelMisconfigured, which names the folder and what is wrong with it.
    """
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


def _load(entry: HfModel, folder: Path, device: str, limits: LoadLimits) -> LoadedModel:
    check_torch(entry, device)
    if needs_torch(entry, device):
        if is_embedded(folder) and not find_weights(folder, allow_pickle=False):
            prepare(folder, weights=True)
        check_weights(entry, folder)
    description = _describe(entry, folder, device)
    tokenizer, length = description.tokenizer, description.context_length
    template = None
    if entry.chat_template is not None:
        template = entry.chat_template.read_text(encoding="utf-8")
    vocabulary = Vocabulary(tokenizer)
    if length is None:
        raise ModelMisconfigured(
            f"{entry.name}: {folder / 'config.json'} has no context length: set context_length "
            "in the model's entry"
        )

    core = _load_core(entry, folder, device, limits, description)
    eos = _end_tokens(core, tokenizer)
    reader = PromptReader(
        entry.name,
        tokenizer,
        template,
        length,
        core.embedded,
        core.tokens,
        encoder_decoder=description.encoder_decoder,
        reasons=entry.reasoning_parser is not None,
        parses_tools=entry.tool_parser is not None,
        efforts=entry.reasoning_efforts,
        vocabulary=vocabulary,
        allow_special_tokens=entry.allow_special_tokens,
    )
    writing = CompletionEncoder(tokenizer, reader.encoder, vocabulary, spaced=vocabulary.spaced)
    test_prompt = make_test_prompt(reader)
    try_out(core.forward, test_prompt)
    if core.file is not None:
        drop_pages(core.file)
    release_memory()
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
        suppressed=core.suppressed,
        tokens=core.tokens,
        test_prompt=test_prompt,
        size=core.size,
        note=core.note,
    )


def _describe(entry: HfModel, folder: Path, device: str) -> Description:
    """What the files of a folder say. Imports torch if the model needs it."""
    if not needs_torch(entry, device) and (tokenizer := read_tokenizer(folder)) is not None:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Description(tokenizer, read_context_length(entry, _Config(**settings)), False)
    from services.hf import transformers_model

    return transformers_model.describe(entry, folder)


class _Config(SimpleNamespace):
    """The settings of config.json, as transformers gives them."""

    def get_text_config(self, decoder: bool) -> _Config:
        return self


def _load_core(
    entry: HfModel, folder: Path, device: str, limits: LoadLimits, description: Description
) -> ModelCore:
    """The model on the engine that its entry asks for.

    auto: OpenVINO on a CPU, if it computes there what transformers does. device: cpu or cuda.
    Raises ModelMisconfigured if the entry asks for OpenVINO and the model cannot run there.
    """
    reason = ""
    if entry.engine != "transformers":
        try:
            return openvino_loading.load_model(entry, folder, device, limits)
        except openvino_loading.Unfit as error:
            if entry.engine == "openvino":
                raise ModelMisconfigured(
                    f"{entry.name} cannot run on OpenVINO: {error}; set engine: transformers in "
                    "its entry"
                ) from error
            reason = f"runs on transformers: {error}"
            log.info("transformers", model=entry.name, reason=str(error))
    # Imported here, because it imports torch.
    from services.hf import transformers_model

    core = transformers_model.load_model(entry, folder, device, limits, description)
    return replace(core, note="; ".join(filter(None, (reason, core.note))))


def _end_tokens(core: ModelCore, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a completion: the tokenizer's and the generation config's."""
    ends = {token for token in (*core.ends, tokenizer.eos_token_id) if token is not None}
    if not ends:
        raise ValueError("it has no end token: set eos_token in tokenizer_config.json")
    return frozenset(ends)
