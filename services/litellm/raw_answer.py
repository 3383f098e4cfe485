"""Keeps what a provider has sent and litellm would lose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.common.errors import BackendError, UpstreamUnavailable
from services.common.hosted.completion import Extras
from services.common.hosted.errors import convert_failure
from services.common.hosted.failures import Failure, read_words
from services.common.hosted.http import MAX_ERROR_BYTES
from services.common.hosted.journal import Entry
from services.common.hosted.keys import Redactor
from services.common.hosted.response import ChunkReader, ProviderMessage
from services.common.hosted.values import count, label, number
from services.litellm.errors import TYPES

_PROMPT_COUNTS = frozenset(("prompt_tokens", "input_tokens", "promptTokenCount"))
_COMPLETION_COUNTS = frozenset(
    ("completion_tokens", "output_tokens", "candidatesTokenCount", "thoughtsTokenCount")
)


class RawAnswer:
    """What a provider has sent, before litellm reads it.

    entry: notes what is sent. provider: its name. status: the HTTP status, 0 before the answer has
    arrived. retry_after: the seconds that it asks for. reported: the error that came with an error
    status. failure: why the answer cannot be used, which takes precedence over what litellm says.
    broken: the connection failed.

    has_known_format: its format is one of the three. is_anthropic: it is Anthropic's. answered: it
    holds at least the beginning of a completion. id: the provider's, because litellm replaces it.
    fingerprint: of its system. extras: what a completion has no part for. finish_word: the
    provider's finish reason. stop: the stop string that ended the answer, of any type. words: text
    outside of an answer, such as a page or an event that is not JSON; it may explain why there is
    no answer. region: where it was made, from a header. unreadable: the names of counts that are
    negative, absurd or no numbers. candidate: the index of the Gemini candidate that is read; None
    before the first.
    """

    def __init__(self, provider: str, redact: Redactor, entry: Entry | None = None) -> None:
        self.entry = entry
        self.provider = provider
        self._redact = redact
        self.status = 0
        self.retry_after: float | None = None
        self.reported: Failure | None = None
        self.failure: BackendError | None = None
        self.broken = False
        self.has_known_format = False
        self.answered = False
        self.id = ""
        self.fingerprint = ""
        self.extras = Extras()
        self._refusal = ""
        self.finish_word = ""
        self.stop: Any = None
        self.words = ""
        self.region = ""
        self.candidate: int | None = None
        self.chunks = ChunkReader()
        self.is_anthropic = False
        self._counts: set[str] = set()
        self.unreadable: list[str] = []

    @property
    def succeeded(self) -> bool:
        """Whether the provider answered with a success status."""
        return 200 <= self.status < 300

    @property
    def counted(self) -> bool:
        """Whether the provider reported any token count. litellm guesses if it did not."""
        return not self.has_known_format or bool(self._counts)

    @property
    def priced(self) -> bool:
        """Whether it reported the counts of prompt and completion, and all were readable."""
        both = self.knows_prompt and len(self._counts) > 1
        return not self.has_known_format or (both and not self.unreadable)

    @property
    def knows_prompt(self) -> bool:
        """Whether it reported a readable count of the prompt. litellm writes 0 if it did not."""
        return self._knows(_PROMPT_COUNTS)

    @property
    def knows_completion(self) -> bool:
        """Whether it reported a readable count of the completion."""
        return self._knows(_COMPLETION_COUNTS)

    def _knows(self, names: frozenset[str]) -> bool:
        unreadable = names.intersection(self.unreadable)
        return not self.has_known_format or (bool(names & self._counts) and not unreadable)

    def knows_part(self, word: str) -> bool:
        """Whether no unreadable count has this word in its name, such as "cache"."""
        return not any(word in name.lower() for name in self.unreadable)

    def no_answer(self, kind: str) -> BackendError:
        """The error for a body that holds no answer but words. kind: its Content-Type."""
        kind = self._redact(kind, 100) or "text"
        return UpstreamUnavailable(f"{self.provider} sent {kind}, not an answer: {self.words}")

    def to_error(self, failure: Failure, guess: str = "") -> BackendError:
        """Make the error for a failure that the provider reports. guess: see convert_failure."""
        return convert_failure(
            failure,
            self.status,
            self.provider,
            self._redact,
            retry_after=self.retry_after,
            types=TYPES,
            guess=guess,
        )

    def keep_words(self, body: bytes) -> str:
        """Keep the words of something that is no part of an answer, and return them."""
        self.words = self._redact(read_words(body[:MAX_ERROR_BYTES])) or self.words
        return self.words

    def keep_finish(self, word: Any) -> str | None:
        """Keep the provider's finish reason and return it; None if there is none."""
        text = label(word) or ("unknown" if word else "")
        self.finish_word = text or self.finish_word
        return text or None

    def keep_extras(self, message: ProviderMessage) -> None:
        """Keep the parts of a message that litellm would lose."""
        self.answered = True
        self.extras.add(message)
        self._refusal += message.refusal

    def take_refusal(self) -> str:
        """Return what the model has refused with since the last call. litellm loses it."""
        refusal, self._refusal = self._refusal, ""
        return refusal

    def clean_usage(self, usage: Any) -> dict[str, Any]:
        """Usage with integer counts, which are 0 if they cannot be read."""
        if not isinstance(usage, dict):
            self.unreadable += ["usage"] if usage is not None else []
            return {}
        return dict(self._clean_figures(usage, 0))

    def _clean_figures(self, usage: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        for name, value in usage.items():
            if name.endswith(("tokens", "TokenCount", "tokenCount")):
                if isinstance(value, dict):
                    continue
                figure = count(value)
                self.unreadable += [name] if figure is None and value is not None else []
                if not depth and figure is not None:
                    self._counts.add(name)
                yield name, figure or 0
            elif isinstance(value, dict) and depth < 2:
                yield name, dict(self._clean_figures(value, depth + 1))
            elif isinstance(value, list) and depth < 2:
                objects = (item for item in value if isinstance(item, dict))
                yield name, [dict(self._clean_figures(item, depth + 1)) for item in objects]
            elif name.lower().endswith("details"):
                continue
            elif isinstance(value, str) or number(value) is not None:
                yield name, value
