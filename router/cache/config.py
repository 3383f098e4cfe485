"""The section `cache` of configs/router.yaml."""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, model_validator

from services.common.config import StrictModel

_SCHEMES = ("valkey", "valkeys", "unix")


def _default_store() -> str:
    return os.path.join(os.environ.get("ARENA_CACHE_DIR") or ".cache", "replies.sqlite")


class CacheConfig(StrictModel):
    """Where replies are kept, and for which calls.

    mode: cache answers an equal call again; record forwards every call and keeps its reply; replay
    answers with the recorded replies alone, and calls no backend. store: a file of this machine,
    relative to the working directory, or valkey://HOST:PORT, which several routers can share.
    models: patterns of names; other models are never answered by the cache. max_bytes: of all
    replies in the file; the least recently used ones are dropped. A Valkey server has its own
    bound (maxmemory). max_reply_bytes: a larger reply is not kept. max_age_seconds: of a reply.
    A recording has no bounds of bytes and age.
    """

    mode: Literal["cache", "record", "replay"] = "cache"
    store: Annotated[str, Field(min_length=1)] = Field(default_factory=_default_store)
    models: Annotated[list[str], Field(min_length=1)] = Field(["*"])
    max_bytes: PositiveInt = 2**30
    max_reply_bytes: PositiveInt = 4 * 2**20
    max_age_seconds: Annotated[float, Field(gt=0, le=10 * 365 * 86_400)] = 30 * 86_400.0

    @property
    def is_shared(self) -> bool:
        """Whether the store is a server, and not a file."""
        return urlsplit(self.store).scheme in _SCHEMES

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.is_shared and self.mode != "cache":
            raise ValueError(f"mode {self.mode} needs a file as store")
        return self
