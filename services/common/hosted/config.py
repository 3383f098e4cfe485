"""What the configuration of every hosted service holds."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, ClassVar, Generic, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)
from pydantic.networks import HttpUrl

from services.common.config import ModelEntries, ModelEntry, ServiceConfig, check_names
from services.common.errors import ModelNotFound

_URL = TypeAdapter(HttpUrl)


def _base_url(value: str) -> str:
    _URL.validate_python(value)
    return value.rstrip("/")


#: Where a provider's API is: http or https, as it was written, without a slash at its end.
BaseUrl = Annotated[str, AfterValidator(_base_url)]


class HostedModel(ModelEntry):
    """One model of a provider.

    max_concurrency: calls to this model at once; None: only the service's bound.
    timeout_seconds: of one attempt at this model; None: the service's.
    structured_output: whether the model keeps to a JSON schema; None: as the
    provider's catalogue says.
    """

    max_concurrency: PositiveInt | None = None
    timeout_seconds: PositiveFloat | None = None
    structured_output: bool | None = None


M = TypeVar("M", bound=HostedModel)


class HostedConfig(ServiceConfig, Generic[M]):
    """The whole file; a subclass sets `prefix` (such as "openrouter_").

    max_concurrency: upstream calls at once, of all models together. max_queue: calls
    that wait for a place, per model and for the service; one more is answered
    OVERLOADED. timeout_seconds: of one attempt. max_attempts: tries of one call,
    the first included. backoff_seconds, max_backoff_seconds: the bound of the random
    wait before the second try, which doubles up to the maximum. max_retry_after_seconds:
    a provider that asks to wait longer gets no second try, and after this time its model
    is tried again all the same. max_answer_bytes: of a whole answer, and of one event of a
    stream; max_stream_bytes: of all events of a stream; more is not read.
    allow_unlisted: whether a model that is not listed may be asked for.
    """

    prefix: ClassVar[str]

    max_concurrency: PositiveInt = 512
    max_queue: Annotated[int, Field(ge=0)] = 1024
    timeout_seconds: PositiveFloat = 600
    max_attempts: PositiveInt = 5
    backoff_seconds: PositiveFloat = 0.5
    max_backoff_seconds: PositiveFloat = 16
    max_retry_after_seconds: PositiveFloat = 60
    max_answer_bytes: PositiveInt = 16 * 1024 * 1024
    max_stream_bytes: PositiveInt = 64 * 1024 * 1024
    allow_unlisted: bool = True
    models: ModelEntries[M]

    @model_validator(mode="after")
    def _names(self) -> HostedConfig[M]:
        check_names(self.models, self.prefix)
        return self

    def listed(self, model: str) -> M | None:
        """The entry of a model by its full name; None if it may be asked for unlisted.

        Raises ModelNotFound, with the nearest names, where only listed models may be.
        """
        for entry in self.models:
            if entry.name == model:
                return entry
        if self.allow_unlisted:
            return None
        names = (entry.name for entry in self.models)
        raise ModelNotFound(
            f"{model!r} is not listed in the configuration{nearest(model, names)}", field="model"
        )

    def timeout(self, model: str) -> float:
        """Seconds that one attempt at this model may take."""
        entry = self.listed(model)
        return (entry and entry.timeout_seconds) or self.timeout_seconds


def nearest(name: str, names: Iterable[str]) -> str:
    """The names most like this one as the end of a sentence; "" where none is like it."""
    found = get_close_matches(name, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""
