"""The configuration that all hosted services share."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, ClassVar, Generic, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)
from pydantic.networks import HttpUrl

from arena_llm.suggestions import did_you_mean
from services.common.config import (
    ModelEntries,
    ModelEntry,
    SharedConfig,
    StrictModel,
    check_names,
    divide,
)
from services.common.errors import ModelNotFound

_URL = TypeAdapter(HttpUrl)


def _base_url(value: str) -> str:
    _URL.validate_python(value)
    return value.rstrip("/")


#: The URL of a provider's API, http or https, kept as written except for slashes at its end.
BaseUrl = Annotated[str, AfterValidator(_base_url)]


class Timeouts(NamedTuple):
    """Seconds of one attempt: all of it, and without a byte from the provider."""

    total: float
    silence: float


class SharedLimit(StrictModel):
    """A limit that models share, such as that of their provider's key.

    models: a pattern of their names, such as litellm_groq/*.
    rpm, tpm: calls and tokens per minute of all of them together, which are never exceeded.
    """

    models: str
    rpm: PositiveFloat | None = None
    tpm: PositiveFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> SharedLimit:
        if self.rpm is None and self.tpm is None:
            raise ValueError("needs rpm, tpm, or both")
        return self


class HostedModel(ModelEntry):
    """One model of a provider.

    max_concurrency: concurrent calls to this model; None: only the service's limit applies.
    timeout_seconds, first_byte_seconds: for one attempt; None: the service's value.
    structured_output: whether the model takes a JSON schema; None: the provider's catalogue
    decides.
    rpm, tpm: calls and tokens per minute that are never exceeded; None: the limits are learned
    from what the provider refuses.
    """

    max_concurrency: PositiveInt | None = None
    timeout_seconds: PositiveFloat | None = None
    first_byte_seconds: PositiveFloat | None = None
    structured_output: bool | None = None
    rpm: PositiveFloat | None = None
    tpm: PositiveFloat | None = None


class BreakerConfig(StrictModel):
    """When the calls to a model are refused because its provider keeps failing.

    failures, seconds: this many attempts in a row must have failed, the first at least this long
    ago. Shorter outages are left to the retries. probe_seconds: the time until the first probe. It
    doubles with each probe that fails, up to max_probe_seconds.
    """

    failures: PositiveInt = 5
    seconds: Annotated[float, Field(ge=0)] = 15
    probe_seconds: PositiveFloat = 5
    max_probe_seconds: PositiveFloat = 60


M = TypeVar("M", bound=HostedModel)


class HostedConfig(SharedConfig, Generic[M]):
    """The whole file. A subclass sets `prefix`, such as "openrouter_".

    max_concurrency: concurrent provider calls of all models together.
    max_queue: calls to one model that may wait for a place. Further calls are answered OVERLOADED.
    limits: rates that several models share, by patterns of their names. All that match apply.
    timeout_seconds: for one attempt.
    connect_timeout_seconds: to open a connection.
    first_byte_seconds: until the provider sends the first byte, and between two of a stream. The
    default leaves time for a retry in a caller's deadline, by default 600 seconds. An answer that
    is not streamed begins when the model has finished: a model that reasons longer needs more.
    max_attempts: attempts of one call, including the first. An attempt that the provider's limits
    refuse (HTTP 429) does not count.
    backoff_seconds, max_backoff_seconds: the pause before the first retry is random, up to
    backoff_seconds. This bound doubles with each retry, up to max_backoff_seconds.
    max_retry_after_seconds: how long calls wait while the provider refuses all of them. Then they
    are answered RATE_LIMITED, until one gets through. No pause before a retry is longer.
    breaker: when calls are refused because the provider keeps failing; None: never. Each worker has
    its own.
    max_answer_bytes: limit for a whole answer, and for one event of a stream.
    max_stream_bytes: limit for all events of a stream. A call with a longer answer fails.
    allow_unlisted: whether requests may name models that are not listed.
    journal: a folder on this machine, relative to the working directory, for the ids and costs of
    requests to the provider, so that a kill of the service loses none; None: no journal.
    """

    prefix: ClassVar[str]

    max_concurrency: PositiveInt = 512
    max_queue: Annotated[int, Field(ge=0)] = 1024
    limits: tuple[SharedLimit, ...] = ()
    timeout_seconds: PositiveFloat = 600
    connect_timeout_seconds: PositiveFloat = 10
    first_byte_seconds: PositiveFloat = 240
    max_attempts: PositiveInt = 5
    backoff_seconds: PositiveFloat = 0.5
    max_backoff_seconds: PositiveFloat = 16
    max_retry_after_seconds: PositiveFloat = 120
    breaker: BreakerConfig | None = BreakerConfig()
    max_answer_bytes: PositiveInt = 16 * 1024 * 1024
    max_stream_bytes: PositiveInt = 64 * 1024 * 1024
    allow_unlisted: bool = True
    journal: Path | None = None
    models: ModelEntries[M]

    @model_validator(mode="after")
    def _check_names(self) -> HostedConfig[M]:
        check_names(self.models, self.prefix)
        return self

    @model_validator(mode="after")
    def _check_limits(self) -> HostedConfig[M]:
        for limit in self.limits:
            if not limit.models.startswith((self.prefix, "*")):
                raise ValueError(
                    f"limits: {limit.models!r} matches no model: its names begin with {self.prefix}"
                )
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> HostedConfig[M]:
        bounds = {"max_concurrency": self.max_concurrency}
        bounds |= {
            f"{m.name}: max_concurrency": m.max_concurrency or self.workers for m in self.models
        }
        for name, most in bounds.items():
            if most < self.workers:
                raise ValueError(f"{name} {most} cannot be divided among {self.workers} workers")
        return self

    def of_worker(self) -> Self:
        """Return the configuration of one worker: its part of the bounds, also of each model."""
        rates = ("rpm", "tpm")
        models = [divide(model, self.workers, ("max_concurrency", *rates)) for model in self.models]
        limits = tuple(divide(limit, self.workers, rates) for limit in self.limits)
        own = divide(super().of_worker(), self.workers, ("max_concurrency", "max_queue"))
        return own.model_copy(update={"models": models, "limits": limits})

    def find_entry(self, model: str) -> M | None:
        """The entry of a model by its full name; None for an unlisted model that is allowed.

        Raises ModelNotFound, with the nearest names, if only listed models are allowed.
        """
        for entry in self.models:
            if entry.name == model:
                return entry
        if self.allow_unlisted:
            return None
        names = (entry.name for entry in self.models)
        raise ModelNotFound(
            f"{model!r} is not listed in the configuration{did_you_mean(model, names)}",
            field="model",
        )

    def find_limits(self, model: str) -> Iterator[int]:
        """Yield the places in `limits` of those that hold for this model."""
        for place, limit in enumerate(self.limits):
            if fnmatchcase(model, limit.models):
                yield place

    def timeouts(self, model: str) -> Timeouts:
        """Return the bounds of one attempt to call this model."""
        entry = self.find_entry(model)
        return Timeouts(
            (entry and entry.timeout_seconds) or self.timeout_seconds,
            (entry and entry.first_byte_seconds) or self.first_byte_seconds,
        )
