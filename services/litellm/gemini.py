"""Corrects litellm, which calls each piece of a Gemini stream the last. Imports litellm."""

from __future__ import annotations

from typing import Any

from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import StreamingChoices

_create = VertexGeminiConfig._create_streaming_choice


def tell_the_end() -> None:
    """Let only a piece with a finishReason of Gemini's own have one.

    litellm puts "stop" where there is none, by which a stream that broke off in the
    middle would look like a whole one.
    """
    VertexGeminiConfig._create_streaming_choice = staticmethod(_created)


def _created(*, candidate: Any, **others: Any) -> StreamingChoices:
    choice = _create(candidate=candidate, **others)
    if not candidate.get("finishReason") and choice.finish_reason == "stop":
        choice.finish_reason = None
    return choice
