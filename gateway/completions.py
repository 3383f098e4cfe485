"""/v1/completions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from arena_llm import AsyncClient, AsyncStream
from arena_llm.types import (
    Completion,
    Delta,
    RawPrompt,
    Scoring,
    StreamStart,
    Token,
    TokenTrace,
    Usage,
)
from gateway.calls import run_all
from gateway.errors import ApiError
from gateway.logprobs import SentTokens, to_finish_reason, to_text_logprobs, to_usage
from gateway.options import build_options
from gateway.schema.completion import CompletionRequest
from gateway.task import CompletionTask, number_requests

#: max_tokens of a request that does not set it: OpenAI's default.
DEFAULT_MAX_TOKENS = 16


class TextTask(CompletionTask):
    """One request: `n` completions of each prompt."""

    request: CompletionRequest

    def __init__(
        self, request: CompletionRequest, client: AsyncClient, request_id: str, session: str
    ) -> None:
        super().__init__(request, client, f"cmpl-{request_id}")
        self._prompts = [
            RawPrompt(prompt, add_special_tokens=request.add_special_tokens)
            if isinstance(prompt, str)
            else RawPrompt(token_ids=tuple(prompt))
            for prompt in _list_prompts(request)
        ]
        options = build_options(request, self.params, request_id, session)
        most = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
        #: Whether the prompts are scored, and whether tokens are generated.
        self._scores = bool(request.echo) and request.logprobs is not None
        self._generates = most != 0 or not self._scores
        options["max_tokens"] = most
        if request.logprobs is not None:
            options["top_logprobs"] = request.logprobs
            self.params["returns.top_logprobs"] = self.params["top_logprobs"] = "logprobs"
        if request.echo and not self._scores and self._prompts[0].token_ids is not None:
            options["raw_text"] = True
            self.params["returns.raw_text"] = "echo"
        self.params |= {"prompt_logprobs": "echo", "continuations": "echo"}
        self._each = request.n or 1
        count = len(self._prompts) * self._each
        if count > 128 or (not self._generates and self._each > 1):
            raise ApiError(
                400, "n: at most 128 answers to all prompts, and n: 1 if no tokens are generated",
                code="invalid_value", param="n",
            )  # fmt: skip
        self._options = self._number(options)

    def _number(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the options of each answer. Each prompt begins with the same seed."""
        seeds = number_requests(options, self._each)
        if len(self._prompts) == 1:
            return seeds
        return [
            {**own, "request_id": f"{options['request_id']}-{number}"}
            for number, own in enumerate(own for _ in self._prompts for own in seeds)
        ]

    def _prompt(self, index: int) -> RawPrompt:
        return self._prompts[index // self._each]

    async def answer(self) -> dict[str, Any]:
        """Return the whole answer."""
        scorings = await self._score()
        if not self._generates:
            return self._answer([self._echo(*numbered) for numbered in enumerate(scorings)])
        generate = self.client.generate
        completions = await run_all(
            [
                generate(self.request.model, self._prompt(index), **options)
                for index, options in enumerate(self._options)
            ]
        )
        self.note(completions)
        choices = [
            self._choice(index, completion, scorings[index // self._each] if scorings else None)
            for index, completion in enumerate(completions)
        ]
        first = completions[0]
        answer = self._answer(choices)
        answer["model"] = first.model or self.request.model
        answer["system_fingerprint"] = first.served_by.system_fingerprint or None
        usages = [completion.usage for completion in completions]
        answer["usage"] = to_usage(usages, self.prompt_usages(completions))
        return answer

    async def _score(self) -> list[Scoring]:
        if not self._scores:
            return []
        score = self.client.score
        scorings = await run_all(
            [
                score(
                    self.request.model, prompt, prompt_logprobs=True,
                    top_logprobs=self.request.logprobs,
                )
                for prompt in self._prompts
            ]
        )  # fmt: skip
        self._score_usages = [scoring.usage for scoring in scorings]
        return scorings

    def prompt_usages(self, completions: Sequence[Completion]) -> Sequence[Usage]:
        """One usage for each prompt."""
        return [completion.usage for completion in completions[:: self._each]]

    def _answer(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        usages = getattr(self, "_score_usages", [])
        return {
            "id": self.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.request.model,
            "system_fingerprint": None,
            "choices": choices,
            "usage": to_usage(usages),
        }

    def _echo(self, index: int, scoring: Scoring) -> dict[str, Any]:
        """Return a choice that is the prompt alone."""
        choice = {
            "index": index,
            "text": _text(self._prompt(index), scoring.prompt_tokens),
            "logprobs": to_text_logprobs([scoring.prompt_tokens]),
            "finish_reason": "length",
        }
        if self.wants_ids and scoring.prompt_tokens is not None:
            choice["prompt_token_ids"] = scoring.prompt_tokens.ids
            choice["token_ids"] = []
        return choice

    def _choice(
        self, index: int, completion: Completion, scoring: Scoring | None
    ) -> dict[str, Any]:
        text, traces = completion.text, [completion.completion_tokens]
        if self.request.echo:
            before = scoring.prompt_tokens if scoring is not None else completion.prompt_tokens
            text = _text(self._prompt(index), before) + text
            if scoring is not None:
                traces.insert(0, before)
        choice = {
            "index": index,
            "text": text,
            "logprobs": to_text_logprobs(traces) if self.request.logprobs is not None else None,
            "finish_reason": to_finish_reason(completion.finish_reason),
        }
        if self.wants_ids and completion.completion_tokens is not None:
            choice["token_ids"] = completion.completion_tokens.ids
            if completion.prompt_tokens is not None:
                choice["prompt_token_ids"] = completion.prompt_tokens.ids
        return choice

    # --- as a stream ------------------------------------------------------------

    async def prelude(self) -> Sequence[dict[str, Any]]:
        """Return the prompts, if they are echoed."""
        if not self.request.echo:
            return ()
        scorings = await self._score()
        if not scorings and self._prompts[0].token_ids is not None:
            raise ApiError(
                400, "a stream echoes texts, not token ids", code="invalid_value", param="echo"
            )
        chunks = []
        for index in range(len(self._options)):
            scoring = scorings[index // self._each] if scorings else None
            trace = scoring.prompt_tokens if scoring is not None else None
            choice = {
                "index": index,
                "text": _text(self._prompt(index), trace),
                "logprobs": to_text_logprobs([trace]),
                "finish_reason": None,
            }
            chunks.append({**self._answer([choice]), "usage": None})
        return chunks

    def streams(self) -> Sequence[AsyncStream]:
        """Return the streams of the completions."""
        if not self._generates:
            raise ApiError(
                400, "a stream generates at least one token", code="invalid_value",
                param="max_tokens",
            )  # fmt: skip
        return [
            self.client.stream(self.request.model, self._prompt(index), **options)
            for index, options in enumerate(self._options)
        ]

    def begin_chunks(self) -> TextChunks:
        """Return what writes the chunks."""
        return TextChunks(self)


class TextChunks:
    """Writes the chunks of one streamed answer."""

    def __init__(self, task: TextTask) -> None:
        self._task = task
        self._offsets: dict[int, int] = {}
        self._sent = SentTokens()
        self._head: dict[str, Any] = {
            "id": task.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": task.request.model,
            "system_fingerprint": None,
        }

    def start(self, event: StreamStart) -> None:
        """Note who answers."""
        self._head["model"] = event.served_by.model or self._head["model"]
        self._head["system_fingerprint"] = event.served_by.system_fingerprint or None

    def piece(self, index: int, event: Delta) -> dict[str, Any]:
        """Return the chunk of a piece of text."""
        self._sent.add(index, event.tokens)
        return self._chunk(index, event.text or "", None, event.tokens)

    def end(self, index: int, completion: Completion) -> dict[str, Any]:
        """Return the last chunk of a choice."""
        rest = self._sent.rest(index, completion)
        return self._chunk(index, "", to_finish_reason(completion.finish_reason), rest)

    def usage(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return {**self._head, "choices": [], "usage": usage}

    def _chunk(
        self, index: int, text: str, reason: str | None, tokens: Sequence[Token] | None
    ) -> dict[str, Any]:
        start = self._offsets.get(index, 0)
        self._offsets[index] = start + len(text)
        wants = self._task.request.logprobs is not None
        choice = {
            "index": index,
            "text": text,
            "logprobs": to_text_logprobs([tokens], start) if wants else None,
            "finish_reason": reason,
        }
        if self._task.wants_ids and tokens:
            choice["token_ids"] = [token.id for token in tokens]
        return {**self._head, "choices": [choice]}


def _list_prompts(request: CompletionRequest) -> Sequence[str | Sequence[int]]:
    prompt = request.prompt
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [prompt]
    return prompt


def _text(prompt: RawPrompt, trace: TokenTrace | None) -> str:
    """Return a prompt's text. If the prompt was given as ids, its tokens have the text."""
    if prompt.text is not None:
        return prompt.text
    if trace is None:
        return ""
    return trace.raw_text or b"".join(trace.bytes).decode(errors="replace")
