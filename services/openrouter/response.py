"""What comes back: a completion whole or in chunks, or an error in any place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_llm.types import Completion, Delta
from services.common.errors import (
    BackendError,
    BudgetInFlight,
    UnreadableAnswer,
    UpstreamUnavailable,
)
from services.common.hosted.answers import Answer, read_usage
from services.common.hosted.assembly import Assembly, whole_completion
from services.common.hosted.statuses import OPENAI_CODES
from services.openrouter.config import PREFIX

#: `metadata.error_type`, OpenRouter's stable names, where they say more than the status.
ERROR_TYPES: Mapping[str, type[BackendError]] = {
    **OPENAI_CODES,
    "in_flight_budget_exhausted": BudgetInFlight,
}


def completion_of(answer: Answer, stops: bool) -> Completion:
    """A whole answer without error; raises UpstreamUnavailable where it holds no choice.

    stops: whether the request has stop strings.
    """
    choice = answer.choice
    if choice is None:
        raise UpstreamUnavailable("openrouter answered without any choice")
    if choice.message is None:
        raise UnreadableAnswer("openrouter answered with a choice that has no message")
    usage = read_usage(answer.usage)
    return whole_completion(
        answer, choice.message, choice.finish, PREFIX + answer.model, usage, stops
    )


class Stream(Assembly):
    """A streamed completion, put together from its chunks."""

    def __init__(self, stops: bool = False) -> None:
        super().__init__(stops)
        self._model = ""
        self._usage: Any = None

    def add(self, chunk: Answer) -> Delta | None:
        self.id = self.id or chunk.id
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        if (choice := chunk.choice) is None:
            return None
        self.finish = choice.finish or self.finish
        if (message := choice.message) is None:
            return self.grow("", "", choice.logprobs or ())
        self.extras.add(message)
        return self.grow(message.text, message.reasoning, choice.logprobs or ())

    def completion(self) -> Completion:
        if not self.finish:
            raise UpstreamUnavailable("openrouter's stream ended without a finish_reason")
        return self.whole(PREFIX + self._model, read_usage(self._usage))
