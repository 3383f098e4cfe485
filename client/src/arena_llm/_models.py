"""What is known about models and services: state, price, credits, limits.

`arena_llm.types` exports these names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, overload

from arena_llm._options import ReasoningEffort, Sampling
from arena_llm._reply import to_usd


class ModelState(StrEnum):
    """The state of a model."""

    READY = "ready"
    LOADING = "loading"
    NOT_LOADED = "not_loaded"
    MISCONFIGURED = "misconfigured"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Credits:
    """What is left in the account, and of the key's limit, in 10^-12 US dollars; None: unknown."""

    balance_picousd: int | None = None
    limit_remaining_picousd: int | None = None

    @property
    def balance_usd(self) -> Decimal | None:
        """What the account has left, in US dollars."""
        return to_usd(self.balance_picousd)

    @property
    def limit_remaining_usd(self) -> Decimal | None:
        """What the key may still spend, in US dollars."""
        return to_usd(self.limit_remaining_picousd)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Running and waiting requests of a local engine, and its tokens since it was loaded."""

    running: int = 0
    waiting: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UnreachableBackend:
    """A backend that the router could not reach, and why."""

    backend: str
    addresses: tuple[str, ...]
    detail: str


class PriceUnit(StrEnum):
    """What is priced."""

    UNKNOWN = "unknown"
    PROMPT_TOKEN = "prompt_token"  # noqa: S105 - not a password
    COMPLETION_TOKEN = "completion_token"  # noqa: S105 - not a password
    REASONING_TOKEN = "reasoning_token"  # noqa: S105 - not a password
    CACHED_TOKEN = "cached_token"  # noqa: S105 - not a password
    CACHE_WRITE_TOKEN = "cache_write_token"  # noqa: S105 - not a password
    IMAGE = "image"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Rate:
    """One price, in 10^-12 US dollars for one unit.

    above_prompt_tokens: it applies to prompts with more tokens than this; 0: to all prompts.
    """

    unit: PriceUnit
    picousd: int
    above_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Known prices. read_time: when they were read."""

    kind: ClassVar[str] = "table"

    rates: tuple[Rate, ...]
    read_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class FreePrice:
    """Free of charge."""

    kind: ClassVar[str] = "free"


@dataclass(frozen=True, slots=True)
class UnknownPrice:
    """A price that could not be found out, and why."""

    kind: ClassVar[str] = "unknown"

    detail: str = ""


Price = PriceTable | FreePrice | UnknownPrice


class Capability(StrEnum):
    """What a model can do, in broad terms."""

    CHAT = "chat"
    SCORE = "score"
    CHOICES = "choices"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LOGPROBS = "logprobs"
    SEED = "seed"
    REASONING = "reasoning"
    IMAGES = "images"
    TOOLS = "tools"
    RAW = "raw"
    TOKEN_IDS = "token_ids"  # noqa: S105 - not a password
    COUNT_TOKENS = "count_tokens"


class Modality(StrEnum):
    """Kinds of content."""

    TEXT = "text"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Model:
    """A model. name: full, with its prefix. None: not known.

    supported_fields: paths of the request fields that it honours, such as "config.top_k".
    supported_fields_known: every other field is refused. defaults: what an unset sampling
    parameter means, where that is known.
    """

    name: str
    backend: str = ""
    description: str = ""
    context_length: int | None = None
    max_output_tokens: int | None = None
    input_modalities: tuple[Modality, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    supported_fields: tuple[str, ...] = ()
    supported_fields_known: bool = False
    reasoning_efforts: tuple[ReasoningEffort, ...] = ()
    defaults: Sampling | None = None
    price: Price | None = None
    model_revision: str = ""
    precision: str = ""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model is usable now.

    detail: how to fix it if it is not. reason: the reason of the error that a call would
    raise; empty if available. model: the model as list_models describes it.
    """

    available: bool
    state: ModelState
    detail: str = ""
    warnings: tuple[str, ...] = ()
    reason: str = ""
    credits: Credits | None = None
    load: EngineLoad | None = None
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class ModelList(Sequence[Model]):
    """A sequence of all reachable models, and the backends whose models are missing."""

    models: tuple[Model, ...]
    next_page_token: str = ""
    unreachable: tuple[UnreachableBackend, ...] = ()

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Model, ...]: ...
    def __getitem__(self, index: int | slice) -> Model | tuple[Model, ...]:
        return self.models[index]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a service. 0: no limit; request_id_seconds of 0: not remembered."""

    max_message_bytes: int = 0
    max_bytes_in_flight: int = 0
    max_calls_in_flight: int = 0
    max_messages: int = 0
    max_images: int = 0
    max_image_bytes: int = 0
    request_id_seconds: int = 0


class ReplicaState(StrEnum):
    """Whether a process serves."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """One process of a backend.

    detail: what is wrong and how to fix it. calls_in_flight, calls_waiting: calls that run there
    now, and those of them that wait for a place.
    """

    address: str
    state: ReplicaState = ReplicaState.UNKNOWN
    detail: str = ""
    software_version: str = ""
    contract_revision: int = 0
    calls_in_flight: int = 0
    calls_waiting: int = 0


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A backend, its prefixes and its processes.

    credits: of its key; None if it has none. limits: those in force; None if it did not answer.
    """

    backend: str
    prefixes: tuple[str, ...] = ()
    replicas: tuple[ReplicaInfo, ...] = ()
    credits: Credits | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What a service is. backends: from the router, all; from a backend, itself.

    limits: its own. A router's request_id_seconds is the shortest time of its backends.
    """

    service: str
    software_version: str = ""
    contract_revision: int = 0
    minimum_client_revision: int = 0
    limits: Limits = Limits()
    backends: tuple[BackendInfo, ...] = ()
