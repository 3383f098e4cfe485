"""configs/hf_models.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from services.common.config import ModelEntries, ModelEntry, ServiceConfig, check_names

PREFIX = "hf_"


class HfModel(ModelEntry):
    """One model: from the hub (`repo`, by default the name without prefix) or a folder.

    dtype "auto" is float32 on a CPU, where it is the fastest, and the checkpoint's own
    on a GPU. Pickled weights hold code: they are refused unless `allow_pickle` says so.
    prefix_cache_gb: keys and values of recent prompts (10^9 bytes), which later prompts
    that begin alike need not compute; decoder-only models. 0: none.
    """

    repo: str | None = None
    revision: str | None = None
    model_path: Path | None = None
    preload: bool = False
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    context_length: PositiveInt | None = None
    prefix_cache_gb: NonNegativeFloat = 0.5
    chat_template: Path | None = None
    allow_pickle: bool = False
    trust_remote_code: bool = False

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

    memory_budget_gb: weights of loaded models together (10^9 bytes); the least
    recently used idle model is dropped when another would pass it. None: no bound.
    max_batch: requests that run together, per model. max_waiting: requests that wait
    for a place, per model; one more is answered OVERLOADED. max_cache_tokens: places
    of the key-value cache, per model. prefill_tokens: prompt tokens worked on between
    two decoding steps. default_max_tokens: where a request sets none.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: PositiveInt | None = None
    memory_budget_gb: PositiveFloat | None = None
    max_batch: PositiveInt = 64
    max_waiting: Annotated[int, Field(ge=0)] = 512
    max_cache_tokens: PositiveInt = 65_536
    prefill_tokens: PositiveInt = 512
    default_max_tokens: PositiveInt = 256
    models: ModelEntries[HfModel]

    @model_validator(mode="after")
    def _names(self) -> HfConfig:
        check_names(self.models, PREFIX)
        return self
