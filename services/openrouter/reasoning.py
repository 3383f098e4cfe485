"""Reasoning with OpenRouter: what is requested, and the objects that must be sent back.

https://openrouter.ai/docs/use-cases/reasoning-tokens
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from arena_llm.types import (
    GenerationRequest,
    Image,
    Reasoning,
    ReasoningEffort,
    ReasoningForm,
    ReasoningOptions,
    ReasoningVisibility,
)
from services.common.errors import Unsupported
from services.common.hosted.messages import MessageWriter
from services.common.hosted.state import make_mismatch, pick_list
from services.openrouter.catalogue import CONTINUES, ListedModel
from services.openrouter.config import Dialect, remove_prefix

_DETAILS = "reasoning_details"

#: Fields of a detail whose pieces are joined. Those of all others replace each other.
_JOINED = ("text", "summary", "data")

#: Beginnings of the names of models that show summaries of their reasoning, or none.
_NOT_RAW = ("openai/o", "openai/gpt-5", "google/", "anthropic/")

_USUAL = (ReasoningEffort.LOW, ReasoningEffort.MEDIUM, ReasoningEffort.HIGH)
#: Beginnings of the names of models that have only these levels. OpenRouter rounds others to them.
_USUAL_ONLY = ("openai/o1", "openai/o3", "openai/o4", "openai/gpt-oss")

#: OpenRouter's names of providers whose slug differs from the name in lower case.
_SLUGS = {"google": "google-vertex"}


def build_reasoning(
    request: GenerationRequest, dialect: Dialect, details: ListedModel | None
) -> dict[str, Any]:
    """The body's fields for reasoning; empty for the model's default.

    details: what the catalogue says about the model; None if it is not known.

    Hidden reasoning is left out of the reply here, not by OpenRouter, so that its state is kept.
    Raises Unsupported for reasoning that the model is known not to show.
    """
    wish = request.reasoning
    if wish.visibility is ReasoningVisibility.RAW:
        name = remove_prefix(request.model)
        if name.startswith(_NOT_RAW) and not name.startswith("openai/gpt-oss"):
            raise Unsupported(
                f"{request.model} does not show its reasoning as it was generated: use SUMMARY",
                field="reasoning.visibility",
            )
    if not dialect.takes_routing:
        return _build_plain(wish)
    if wish.budget_tokens is not None:
        return {"reasoning": {"max_tokens": wish.budget_tokens}}
    if wish.effort is ReasoningEffort.AUTO:
        return {"reasoning": {"enabled": True}}
    levels = (details.efforts if details is not None else ()) or _list_efforts(request.model)
    if wish.effort is not None and levels and wish.effort not in levels:
        raise Unsupported(
            f"{request.model} lacks the level {wish.effort} of reasoning: it has "
            f"{', '.join(levels)}",
            field="reasoning.effort",
        )
    if wish.effort is ReasoningEffort.MAX:
        raise Unsupported(
            "OpenRouter's highest level of reasoning is xhigh", field="reasoning.effort"
        )
    return {"reasoning": {"effort": str(wish.effort)}} if wish.effort is not None else {}


def _list_efforts(model: str) -> tuple[ReasoningEffort, ...]:
    """The levels of a model that the catalogue does not describe; empty if they are not known."""
    return _USUAL if remove_prefix(model).startswith(_USUAL_ONLY) else ()


def _build_plain(wish: ReasoningOptions) -> dict[str, Any]:
    """The field of OpenAI's own API."""
    if wish.budget_tokens is not None:
        raise Unsupported(
            "OpenAI's API has no number of reasoning tokens: use reasoning.effort",
            field="reasoning.budget_tokens",
        )
    if wish.effort is ReasoningEffort.AUTO:
        raise Unsupported(
            "OpenAI's API has no effort AUTO: leave it out for the model's default",
            field="reasoning.effort",
        )
    return {"reasoning_effort": str(wish.effort)} if wish.effort is not None else {}


class DetailsReader:
    """Joins the objects of `reasoning_details` from the chunks of a stream."""

    def __init__(self) -> None:
        self._details: list[dict[str, Any]] = []

    def add(self, pieces: Iterable[Mapping[str, Any]]) -> None:
        """Add the objects of a message, or pieces of them."""
        for piece in pieces:
            last = self._details[-1] if self._details else None
            if last is None or not _continues(last, piece):
                self._details.append(dict(piece))
                continue
            for name, value in piece.items():
                old = last.get(name)
                if name in _JOINED and isinstance(value, str) and isinstance(old, str):
                    last[name] = old + value
                elif value is not None:
                    last[name] = value

    def state(self) -> dict[str, Any]:
        """What must be sent back; empty if there is nothing."""
        return {_DETAILS: self._details} if self._details else {}

    def form(self) -> ReasoningForm | None:
        """What the text is; None if the objects do not say."""
        kinds = {detail.get("type") for detail in self._details}
        if "reasoning.summary" in kinds:
            return ReasoningForm.SUMMARY
        return ReasoningForm.RAW if "reasoning.text" in kinds else None


def _continues(last: Mapping[str, Any], piece: Mapping[str, Any]) -> bool:
    """Whether a piece belongs to the last object: same kind, same place, not signed yet."""
    same = all(last.get(name) == piece.get(name) for name in ("type", "index"))
    other_id = piece.get("id") is not None and last.get("id") not in (None, piece.get("id"))
    text = any(piece.get(name) for name in _JOINED)
    return same and not other_id and not (text and last.get("signature"))


class OpenRouterWriter(MessageWriter):
    """Writes messages for OpenRouter, or for a server in its place."""

    def __init__(
        self, request: GenerationRequest, dialect: Dialect, details: ListedModel | None
    ) -> None:
        super().__init__(request)
        self._details = details
        self._model = remove_prefix(request.model)
        self._providers = request.routing.providers if request.routing else ()
        self._dialect = dialect
        self.origin = make_origin("*", self._model)
        self.sends_hints = dialect.takes_routing

    def write_reasoning(self, part: Reasoning, state: Mapping[str, Any], place: str) -> Any:
        if state:
            self._check_provider(part, place)
            return {_DETAILS: pick_list(state, _DETAILS, dict, f"{place}.state")}
        if self._dialect.takes_routing:
            return {"reasoning": part.text} if part.text else {}
        return {"reasoning_content": part.text} if part.text else {}

    def check_image(self, image: Image, place: str) -> None:
        if self._details is not None and not self._details.sees:
            raise Unsupported(f"{self._model} takes no images", field=place)

    def continue_last(self, message: dict[str, Any]) -> None:
        if not self._dialect.takes_routing or not self._model.startswith(CONTINUES):
            super().continue_last(message)

    def _check_provider(self, part: Reasoning, place: str) -> None:
        """Raise StateMismatch if only providers other than the state's may answer."""
        if not self._providers or part.state is None:
            return
        provider = part.state.origin.split("/")[1]
        if provider and provider not in {slug(name.partition("/")[0]) for name in self._providers}:
            allowed = f"no provider of routing.providers ({', '.join(self._providers)})"
            raise make_mismatch(part.state.origin, allowed, f"{place}.state")


def write_messages(
    request: GenerationRequest, dialect: Dialect, details: ListedModel | None
) -> list[dict[str, Any]]:
    """The body's `messages`. Raises Unsupported and StateMismatch, as MessageWriter.write."""
    if isinstance(request.input, str):  # the usual case
        return [{"role": "user", "content": request.input}]
    return OpenRouterWriter(request, dialect, details).write()


def make_origin(provider: str, model: str) -> str:
    """The origin of a state. provider: OpenRouter's name of it. model: OpenRouter's name."""
    return f"openrouter/{slug(provider)}/{model}"


def slug(provider: str) -> str:
    """The name of a provider in requests, from its name in answers."""
    name = provider.lower().replace(" ", "-")
    return _SLUGS.get(name, name)
