"""Turns OpenRouter's answers, whole or in chunks, into completions."""

from __future__ import annotations

from typing import Any

from arena_llm.types import CallReport, Completion, Delta, ServedBy
from services.common.errors import UnreadableAnswer, UpstreamUnavailable
from services.common.hosted.completion import CompletionBuilder, Expectation, no_choice
from services.common.hosted.response import ProviderAnswer, find_stop
from services.common.hosted.usage import parse_usage
from services.openrouter.config import PREFIX, remove_prefix
from services.openrouter.reasoning import DetailsReader, make_origin


class OpenRouterBuilder(CompletionBuilder):
    """Builds a completion from OpenRouter's answer or chunks."""

    def __init__(self, expected: Expectation) -> None:
        super().__init__(expected)
        self._model = ""
        self._fingerprint = ""
        self._usage: Any = None
        self._details = DetailsReader()

    def feed(self, chunk: ProviderAnswer) -> list[Delta]:
        self.add(chunk)
        return self.message.take()

    def add(self, chunk: ProviderAnswer) -> None:
        """Take the next chunk, or a whole answer."""
        self.id = self.id or chunk.id
        self._model = chunk.model or self._model
        self.provider = chunk.provider or self.provider
        self._fingerprint = chunk.fingerprint or self._fingerprint
        self._usage = chunk.usage or self._usage
        if (choice := chunk.choice) is None:
            return
        if choice.finish:
            self.finish_word = choice.finish
            self.add_stop(find_stop(choice))
        self.native_finish = choice.native_finish or self.native_finish
        self.add_rows(choice.logprobs)
        if (message := choice.message) is None:
            return
        self.extras.add(message)
        parts = self.message
        if message.reasoning:
            self.add_reasoning(message.reasoning)
        if message.details:
            self._details.add(message.details)
        self.add_content(message.text)
        if message.refusal:
            parts.add_text("refusal", message.refusal)
        for piece in message.calls:
            parts.add_call(piece, choice.whole)

    def completion(self) -> Completion:
        if not self.finish_word:
            raise UpstreamUnavailable("openrouter's stream ended without a finish_reason")
        return self.build()

    def build(self) -> Completion:
        """Return the completion, which may lack a finish reason."""
        served_by = ServedBy(
            model=f"{PREFIX}{self._model}" if self._model else self.expected.model,
            provider=self.provider,
            system_fingerprint=self._fingerprint,
        )
        usage, details = parse_usage(self._usage), self._details
        origin = make_origin(self.provider, remove_prefix(self.expected.model))
        return self.finish(usage, served_by, origin, details.state(), details.form())


def parse_completion(answer: ProviderAnswer, expected: Expectation) -> Completion:
    """Turn a whole answer that holds no error into a completion.

    Raises the error of `no_choice`, and UnreadableAnswer if the choice has no message.
    """
    if answer.choice is None or answer.choice.message is None:
        report = CallReport(usage=parse_usage(answer.usage))
        if answer.choice is None:
            raise no_choice("openrouter", report)
        raise UnreadableAnswer(
            "openrouter answered with a choice that has no message", report=report
        )
    builder = OpenRouterBuilder(expected)
    builder.add(answer)
    builder.flush()
    return builder.build()
