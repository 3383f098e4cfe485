"""Rewrites providers' answers before litellm reads them.

litellm relies on the documented type of every field. Another type makes it lose the text, or
fail. So answers in the three formats that nearly all providers use are reduced to the fields
that litellm needs, each with its documented type. Wire keeps what litellm would lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.common.errors import BackendError, UnreadableAnswer, UpstreamUnavailable
from services.common.hosted.answers import ChunkReader, Message
from services.common.hosted.assembly import Extras
from services.common.hosted.failures import Failure, error_from, read_failure
from services.common.hosted.redaction import Redactor
from services.common.hosted.values import count, label, number
from services.litellm.errors import TYPES
from services.litellm.formats import anthropic, anthropic_events, gemini, openai

#: https://docs.anthropic.com/en/docs/build-with-claude/streaming
_ANTHROPIC = (
    *("message", "message_start", "message_delta", "message_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
)

_GEMINI = ("candidates", "usageMetadata", "promptFeedback")


class Wire:
    """One answer of a provider, as it came.

    status: of HTTP; 0 before it has come. retry_after: the header's value. reported: the
    error that came with a status of failure. failure: why the answer cannot be used, for
    which litellm would have its own words. broken: its connection failed.

    known: its format is one of the three. answered: it holds a completion, or the beginning
    of one. id: the provider's, which litellm replaces or invents. extras: what it holds
    beside its text. finish: the provider's word for why it ended. candidate: the index of
    Gemini's candidate that is read; None before the first.
    """

    def __init__(self, provider: str, redact: Redactor) -> None:
        self._provider = provider
        self._redact = redact
        self.status = 0
        self.retry_after: str | None = None
        self.reported: Failure | None = None
        self.failure: BackendError | None = None
        self.extras = Extras()
        self.id = ""
        self.answered = False
        self.finish = ""
        self.known = False
        self._anthropic = False
        self.broken = False
        self._counts: set[str] = set()
        self._odd = False
        self.chunks = ChunkReader()
        self.candidate: int | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the provider answered with a status of success."""
        return 200 <= self.status < 300

    @property
    def counted(self) -> bool:
        """Whether the provider reported any count. litellm guesses where it did not."""
        return not self.known or bool(self._counts)

    @property
    def priced(self) -> bool:
        """Whether both sides' counts came, and none that cannot be read."""
        prompt = {"prompt_tokens", "input_tokens", "promptTokenCount"} & self._counts
        return not self.known or (bool(prompt) and len(self._counts) > 1 and not self._odd)

    def rewrite(self, value: Any, streamed: bool) -> list[Any] | None:
        """The values that litellm reads in place of a JSON value; None: the value itself.

        streamed: litellm expects the events of a stream; one value may become several.
        Raises UnreadableAnswer, and the error that the value reports.
        """
        if isinstance(value, list) and streamed and len(value) > 1:  # Gemini's streams in JSON
            parts = [self.rewrite(one, streamed) or [one] for one in value]
            return [event for events in parts for event in events]
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        if not streamed and (value in (None, []) or isinstance(value, str | int | float)):
            raise UpstreamUnavailable(f"{self._provider} sent JSON that is no answer")
        if not isinstance(value, dict):
            return None
        for name in ("error", "errors"):
            if read_failure(value.get(name)) is not None:
                failure = read_failure(value)
                assert failure is not None  # noqa: S101 - it has this error
                raise self.error(failure)
        if "choices" in value or label(value.get("object")).startswith("chat.completion"):
            self.known = True
            return [openai(value, self, streamed)]
        if not value.keys().isdisjoint(_GEMINI):
            self.known = True
            return [gemini(value, self, streamed)]
        if value.get("type") in _ANTHROPIC or {"content", "stop_reason"} <= value.keys():
            self.known = self._anthropic = True
            clean = anthropic(value, self)
            whole = streamed and clean["type"] == "message"
            return list(anthropic_events(clean)) if whole else [clean]
        if self._anthropic and not isinstance(value.get("type"), str):
            raise UnreadableAnswer("the provider's stream has an event without a type")
        return None

    def error(self, failure: Failure) -> BackendError:
        """The error to raise for one that an answer reports with HTTP 200."""
        return error_from(
            failure, 200, self._provider, self._redact, retry_after=self.retry_after, types=TYPES
        )

    def ended(self, word: Any) -> str | None:
        """Keep the provider's word for why the answer ended, and return it; None if there is
        none."""
        found = label(word) or ("unknown" if word else "")
        self.finish = found or self.finish
        return found or None

    def add(self, message: Message) -> None:
        """Keep the parts of a message that litellm would lose."""
        self.answered = True
        self.extras.add(message)

    def usage(self, usage: Any) -> dict[str, Any]:
        """Counts of their type, and 0 where they cannot be read."""
        if not isinstance(usage, dict):
            self._odd |= usage is not None
            return {}
        return dict(self._figures(usage, 0))

    def _figures(self, usage: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        for name, value in usage.items():
            if name.endswith(("tokens", "TokenCount", "tokenCount")):
                if isinstance(value, dict):
                    continue
                figure = count(value)
                self._odd |= figure is None and value is not None
                if not depth and figure is not None:
                    self._counts.add(name)
                yield name, figure or 0
            elif isinstance(value, dict) and depth < 2:
                yield name, dict(self._figures(value, depth + 1))
            elif isinstance(value, list) and depth < 2:
                objects = (one for one in value if isinstance(one, dict))
                yield name, [dict(self._figures(one, depth + 1)) for one in objects]
            elif name.lower().endswith("details"):
                continue
            elif isinstance(value, str) or number(value) is not None:
                yield name, value
