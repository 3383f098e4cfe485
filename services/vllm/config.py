"""The vllm service's configuration, configs/vllm_models.yaml."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from arena_llm.types import ReasoningEffort
from services.common.config import (
    RELOADED_LOCALLY,
    ModelEntries,
    ModelEntry,
    ServiceConfig,
    check_names,
)

PREFIX = "vllm_"

#: Engine argument -> the key of the entry that sets it.
_SET_BY_ENTRY = {
    "model": "model_path",
    "tokenizer": "tokenizer_path",
    "served_model_name": "name",
    "enable_lora": "lora",
    "reasoning_parser": "reasoning_parser",
    "trust_remote_code": "trust_remote_code",
}

#: Tokens for reasoning and answer together, as the makers of reasoning models recommend.
_REASONING_TOKENS = 32_768

#: Engine argument -> why it cannot be set.
_REFUSED = {
    "disable_log_stats": "load, metrics and the detection of hangs need the engine's reports",
    "mm_processor_cache_gb": "the service sends the pixels of an image more than once",
}


class LoraAdapter(ModelEntry):
    """A LoRA adapter, which is a separate model on its base's engine.

    path: a folder in PEFT's format.
    """

    path: Path


class VllmModel(ModelEntry):
    """One engine: a folder with a model, and how to run it.

    device: "cuda" refuses to run without a CUDA device; "auto" then runs on the CPU, if the CPU
    build is installed. engine_args: passed to vLLM unchanged. preload: start the engine with
    the service, which is the default because an engine never releases its memory; false: the
    first call starts it. chat_template: a file that replaces the model's template.
    reasoning_parser: vLLM's name of the parser that separates reasoning from the answer.
    tool_parser: vLLM's name of the parser of the tool calls; default: the model calls none.
    reasoning_efforts: level -> the arguments of the chat template that set it, such as
    {none: {enable_thinking: false}}. default_max_tokens: for requests that set no max_tokens;
    default: the service's, or 32,768 for a model with a reasoning_parser, whose answer comes last.
    allow_special_tokens: the name of a special token in a text of a message takes effect, such as
    <|im_end|>; by default it is read as text.
    """

    model_path: Path
    tokenizer_path: Path | None = None
    device: Literal["auto", "cuda"] = "auto"
    engine_args: dict[str, Any] = Field(default_factory=dict)
    lora: ModelEntries[LoraAdapter] = Field(default_factory=list)
    preload: bool = True
    chat_template: Path | None = None
    reasoning_parser: str | None = None
    tool_parser: str | None = None
    reasoning_efforts: dict[ReasoningEffort, dict[str, Any]] = Field(default_factory=dict)
    trust_remote_code: bool = False
    default_max_tokens: PositiveInt | None = None
    allow_special_tokens: bool = False

    @field_validator("engine_args")
    @classmethod
    def _not_set_twice(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, why in _REFUSED.items():
            if arguments.get(name):
                raise ValueError(f"{name!r} cannot be set: {why}")
        for name in arguments:
            if key := _SET_BY_ENTRY.get(name):
                raise ValueError(f"{name!r} is set by the entry's own key {key!r}")
        return arguments


class VllmConfig(ServiceConfig):
    """The whole file.

    max_waiting: calls per engine that wait for a place in its batch; one more gets OVERLOADED.
    default_max_tokens: for requests that set no max_tokens, if the model's entry has none. A
    completion that does not set it is never longer than the context. hang_seconds: an engine that
    has requests and makes no step for this long counts as dead; the default is the time that vLLM
    gives its workers for a step (VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS).
    """

    max_waiting: Annotated[int, Field(ge=0)] = 512
    default_max_tokens: PositiveInt = 256
    hang_seconds: PositiveFloat = 300.0
    models: ModelEntries[VllmModel]

    @classmethod
    def needs_restart(cls, key: str) -> bool:
        """Models can be added, removed and changed; engines keep all other settings."""
        return key not in RELOADED_LOCALLY

    @model_validator(mode="after")
    def _names(self) -> VllmConfig:
        check_names(self.entries, PREFIX)
        return self

    def max_tokens(self, entry: VllmModel) -> int:
        """The max_tokens of a request to this model that sets none."""
        if entry.default_max_tokens is not None:
            return entry.default_max_tokens
        return self.default_max_tokens if entry.reasoning_parser is None else _REASONING_TOKENS

    @property
    def entries(self) -> list[ModelEntry]:
        """Every model that a request can name: each base, followed by its adapters."""
        return [*chain.from_iterable((model, *model.lora) for model in self.models)]
