"""The hf service's configuration, configs/hf_models.yaml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from arena_llm.types import ReasoningEffort
from services.common.config import (
    RELOADED_LOCALLY,
    ModelEntries,
    ModelEntry,
    ServiceConfig,
    check_names,
)

PREFIX = "hf_"


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


#: A regular expression, as text.
Pattern = Annotated[str, AfterValidator(_check_pattern)]


class HfModel(ModelEntry):
    """One model: from the hub (`repo`, default: the name without its prefix) or a folder.

    engine: auto is openvino on a CPU if the exported model computes what transformers does, else
    transformers. precision, of openvino: exact is the arithmetic of float32; fast is bfloat16 with
    a cache of 8 bits. dtype: "auto" is float32 on a CPU, where it is the fastest, and the
    checkpoint's type on a GPU. allow_pickle: accept pickled weights, which can contain code.
    prefix_cache_gb: memory (10^9 bytes) for keys and values of recent prompts, which later prompts
    with the same beginning reuse; 0 switches it off; only decoder-only models have one.
    tool_parser: the format of the model's tool calls: hermes
    (<tool_call>{"name": ..., "arguments": ...}</tool_call>) or llama3_json (the reply is the
    call); default: it calls none. reasoning_parser: think, for a model that reasons between
    <think> and </think>. reasoning_efforts: level -> the arguments of the chat template that set
    it, such as {none: {enable_thinking: false}}. allow_special_tokens: the name of a special token
    in a text of a message takes effect, such as <|im_end|>; by default it is read as text.
    ignore_weights: patterns (whole names) of weights that the model of config.json does not use,
    such as those of an image encoder; others that it does not use are an error.
    """

    repo: str | None = None
    revision: str | None = None
    model_path: Path | None = None
    preload: bool = False
    engine: Literal["auto", "openvino", "transformers"] = "auto"
    precision: Literal["exact", "fast"] = "exact"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    context_length: PositiveInt | None = None
    prefix_cache_gb: NonNegativeFloat = 0.5
    chat_template: Path | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False
    allow_special_tokens: bool = False
    ignore_weights: list[Pattern] = Field(default_factory=list)
    tool_parser: Literal["hermes", "llama3_json"] | None = None
    reasoning_parser: Literal["think"] | None = None
    reasoning_efforts: dict[ReasoningEffort, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> HfModel:
        if self.model_path is not None and self.repo is not None:
            raise ValueError("give model_path or repo, not both")
        return self

    @property
    def hub_repo(self) -> str:
        """The repository on the hub, for a model without a folder."""
        return self.repo or self.name.removeprefix(PREFIX)


class HfConfig(ServiceConfig):
    """The whole file.

    memory_budget_gb: most memory for the weights, caches and prefixes of all loaded models (10^9
    bytes); the least recently used idle model is dropped before another would exceed it, a request
    that does not fit waits, and one that can never fit is refused; default: 70 % of the memory of
    the GPU, the container or the machine.
    The others are for each model. max_batch: requests that run together. max_waiting: requests that
    wait; one more gets OVERLOADED. prefill_tokens: prompt tokens that are read between two decoding
    steps. default_max_tokens: for requests that set no max_tokens.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | None = None
    memory_budget_gb: PositiveFloat | None = None
    max_batch: PositiveInt = 64
    max_waiting: Annotated[int, Field(ge=0)] = 512
    prefill_tokens: PositiveInt = 512
    default_max_tokens: PositiveInt = 256
    models: ModelEntries[HfModel]

    @classmethod
    def needs_restart(cls, key: str) -> bool:
        """Models can be added, removed and changed; engines keep all other settings."""
        return key not in RELOADED_LOCALLY

    @model_validator(mode="before")
    @classmethod
    def _no_tokens(cls, values: Any) -> Any:
        if isinstance(values, dict) and "max_cache_tokens" in values:
            raise ValueError(
                "max_cache_tokens is not a key any more: remove it, and set "
                "memory_budget_gb, which bounds weights, caches and prefixes together"
            )
        return values

    @model_validator(mode="after")
    def _names(self) -> HfConfig:
        check_names(self.models, PREFIX)
        return self
