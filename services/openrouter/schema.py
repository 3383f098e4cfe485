"""What OpenRouter answers, as far as it is used here.

https://openrouter.ai/docs/api/reference/overview, .../errors-and-debugging. pydantic
parses the bytes and checks them in one step, in Rust; an answer of another shape is a
ValidationError, never an AttributeError somewhere else.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from services.common.hosted.assembly import WireLogprobs


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class WireError(_Wire):
    """An error, in a body or in a chunk, with any HTTP status."""

    code: int | str | None = None
    message: str = ""
    metadata: dict[str, Any] | None = None


class WireFailure(_Wire):
    """The body of an HTTP status that tells of a failure. `detail` is what FastAPI says."""

    error: WireError | str | None = None
    detail: Any = None
    message: str | None = None

    def told(self) -> WireError | None:
        """What it says, if anything."""
        if isinstance(self.error, WireError):
            return self.error
        said = self.error or self.message or self.detail
        return WireError(message=said if isinstance(said, str) else str(said)) if said else None


class WireMessage(_Wire):
    """A message, or its next piece. `reasoning_content` is what some servers say instead."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class WireChoice(_Wire):
    """The answer (`message`), or its next piece (`delta`)."""

    message: WireMessage | None = None
    delta: WireMessage | None = None
    finish_reason: str | None = None
    logprobs: WireLogprobs | None = None
    error: WireError | None = None


class WirePromptDetails(_Wire):
    cached_tokens: int | None = None


class WireCompletionDetails(_Wire):
    reasoning_tokens: int | None = None


class WireUsage(_Wire):
    """Tokens, and in `cost` what was billed, in US dollars."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    prompt_tokens_details: WirePromptDetails | None = None
    completion_tokens_details: WireCompletionDetails | None = None


class WireCompletion(_Wire):
    """A whole completion, a chunk of one, or an error in place of either."""

    id: str | None = None
    model: str | None = None
    choices: list[WireChoice] = []
    usage: WireUsage | None = None
    error: WireError | None = None


class WirePricing(_Wire):
    """US dollars per token as decimal text; "-1" where it depends on the routing."""

    prompt: str | None = None
    completion: str | None = None


class WireModel(_Wire):
    """One model of /models. A server that is not OpenRouter says the id alone."""

    id: str
    canonical_slug: str | None = None
    name: str = ""
    context_length: int | None = None
    pricing: WirePricing | None = None
    supported_parameters: list[str] | None = None


class WireLinks(_Wire):
    next: str | None = None


class WireModels(_Wire):
    """A page of /models."""

    data: list[WireModel]
    links: WireLinks | None = None


class WireKey(_Wire):
    """What /key says: what this key may still spend; None: it has no limit."""

    limit_remaining: float | None = None


class WireCredits(_Wire):
    """What /credits says of the account."""

    total_credits: float
    total_usage: float


D = TypeVar("D")


class WireData(_Wire, Generic[D]):
    """The envelope of /key and /credits."""

    data: D
