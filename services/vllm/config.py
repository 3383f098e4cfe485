"""configs/vllm_models.yaml."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from services.common.config import Address, ModelEntries, ModelEntry, ServiceConfig, check_names

PREFIX = "vllm_"

#: Arguments of the engine that the entry itself sets, and by which of its keys.
_SET_BY_ENTRY = {
    "model": "model_path",
    "tokenizer": "tokenizer_path",
    "served_model_name": "name",
    "enable_lora": "lora",
    "reasoning_parser": "reasoning_parser",
    "trust_remote_code": "trust_remote_code",
}


class LoraAdapter(ModelEntry):
    """A model of its own on its base's engine; `path` is a folder in PEFT's format."""

    path: Path


class VllmModel(ModelEntry):
    """One engine: a folder with a model, and how to run it.

    device "cuda" refuses to run where the engine finds no CUDA device; "auto" then runs
    on the CPU if the CPU build is installed. engine_args go to vLLM as they are. preload:
    an engine takes its memory for good, so it does so at the start, unless this is false;
    then the first call starts it. chat_template: a file, in place of the model's own.
    reasoning_parser: vLLM's name of the one that tells reasoning from answer.
    """

    model_path: Path
    tokenizer_path: Path | None = None
    device: Literal["auto", "cuda"] = "auto"
    engine_args: dict[str, Any] = Field(default_factory=dict)
    lora: ModelEntries[LoraAdapter] = Field(default_factory=list)
    preload: bool = True
    chat_template: Path | None = None
    reasoning_parser: str | None = None
    trust_remote_code: bool = False

    @field_validator("engine_args")
    @classmethod
    def _not_set_twice(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments.get("disable_log_stats"):
            raise ValueError(
                "'disable_log_stats' cannot be set: load, metrics and the watch over the engine "
                "need its reports"
            )
        for name in arguments:
            if key := _SET_BY_ENTRY.get(name):
                raise ValueError(f"{name!r} is set by the entry's own key {key!r}")
        return arguments


class VllmConfig(ServiceConfig):
    """The whole file.

    metrics: where Prometheus finds the metrics; none: nowhere. max_waiting: calls that
    wait for a place in the engine's batch, per engine; one more is answered OVERLOADED.
    default_max_tokens: where a request sets none. hang_seconds: an engine that has requests
    and makes no step for so long counts as dead; vLLM gives its workers 300 s for a step
    (VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS), and no sound one takes that.
    """

    metrics: Address | None = None
    max_waiting: Annotated[int, Field(ge=0)] = 512
    default_max_tokens: PositiveInt = 256
    hang_seconds: PositiveFloat = 300.0
    models: ModelEntries[VllmModel]

    @model_validator(mode="after")
    def _names(self) -> VllmConfig:
        check_names(self.entries, PREFIX)
        return self

    @property
    def entries(self) -> list[ModelEntry]:
        """Every model that can be asked for: bases, each with its adapters after it."""
        return [*chain.from_iterable((model, *model.lora) for model in self.models)]
