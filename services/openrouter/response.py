"""Turns OpenRouter's answers, whole or in chunks, into completions."""

from __future__ import annotations

from typing import Any

from arena_llm.types import Completion, Delta
from services.common.errors import UnreadableAnswer, UpstreamUnavailable
from services.common.hosted.completion import CompletionBuilder, build_completion
from services.common.hosted.response import ProviderAnswer, parse_usage
from services.openrouter.config import PREFIX


def parse_completion(answer: ProviderAnswer, stops: bool) -> Completion:
    """Turn a whole answer that holds no error into a completion.

    stops: whether the request has stop strings. Raises UpstreamUnavailable if the answer has no
    choice, UnreadableAnswer if the choice has no message.
    """
    choice = answer.choice
    if choice is None:
        raise UpstreamUnavailable("openrouter answered without any choice")
    if choice.message is None:
        raise UnreadableAnswer("openrouter answered with a choice that has no message")
    usage = parse_usage(answer.usage)
    return build_completion(
        answer, choice.message, choice.finish, PREFIX + answer.model, usage, stops
    )


class OpenRouterStreamBuilder(CompletionBuilder):
    """Builds a completion from OpenRouter's chunks."""

    def __init__(self, stops: bool = False) -> None:
        super().__init__(stops)
        self._model = ""
        self._usage: Any = None

    def feed(self, chunk: ProviderAnswer) -> Delta | None:
        self.id = self.id or chunk.id
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        if (choice := chunk.choice) is None:
            return None
        self.finish_word = choice.finish or self.finish_word
        if (message := choice.message) is None:
            return self.append("", "", choice.logprobs or ())
        self.extras.add(message)
        return self.append(message.text, message.reasoning, choice.logprobs or ())

    def completion(self) -> Completion:
        if not self.finish_word:
            raise UpstreamUnavailable("openrouter's stream ended without a finish_reason")
        return self.finish(PREFIX + self._model, parse_usage(self._usage))
