"""/v1/chat/completions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from arena_llm import AsyncClient
from arena_llm.types import Completion, Conversation, Delta, StreamStart, Token, TokenTrace
from gateway.calls import run_all
from gateway.logprobs import SentTokens, to_chat_logprobs, to_finish_reason, to_usage
from gateway.messages import to_messages, to_tool_choice, to_tools
from gateway.options import build_chat_options
from gateway.schema.chat import ChatRequest
from gateway.task import CompletionTask, number_requests


class ChatTask(CompletionTask):
    """One request: `n` completions of one conversation."""

    def __init__(
        self, request: ChatRequest, client: AsyncClient, request_id: str, session: str
    ) -> None:
        super().__init__(request, client, f"chatcmpl-{request_id}")
        self.wants_logprobs = bool(request.logprobs)
        options = build_chat_options(request, self.params, request_id, session)
        if request.tools:
            options["tools"] = to_tools(request.tools)
        if (choice := to_tool_choice(request)) is not None:
            options["tool_choice"] = choice
        messages = to_messages(request.messages)
        self._arguments: dict[str, Any] = {
            "model": request.model,
            "messages": Conversation(messages, bool(request.continue_final_message)),
        }
        self._options = number_requests(options, request.n or 1)

    async def answer(self) -> dict[str, Any]:
        """Return the whole answer."""
        generate = self.client.generate
        completions = await run_all(
            [generate(**self._arguments, **options) for options in self._options]
        )
        self.note(completions)
        first = completions[0]
        answer = {
            "id": self.id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": first.model or self.request.model,
            "system_fingerprint": first.served_by.system_fingerprint or None,
            "choices": [self._choice(*numbered) for numbered in enumerate(completions)],
            "usage": to_usage([c.usage for c in completions], [first.usage]),
        }
        if self.wants_ids and first.prompt_tokens is not None:
            answer["prompt_token_ids"] = first.prompt_tokens.ids
        return answer

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        message = completion.message
        written: dict[str, Any] = {
            "role": "assistant",
            "content": message.text or (None if message.tool_calls or message.refusal else ""),
            "refusal": message.refusal or None,
        }
        if reasoning := message.reasoning:
            written["reasoning_content"] = reasoning
        if message.tool_calls:
            written["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
        choice = {
            "index": index,
            "message": written,
            "logprobs": self._logprobs(completion.completion_tokens),
            "finish_reason": to_finish_reason(completion.finish_reason),
        }
        if self.wants_ids and completion.completion_tokens is not None:
            choice["token_ids"] = completion.completion_tokens.ids
        return choice

    def _logprobs(self, trace: TokenTrace | None) -> dict[str, Any] | None:
        return to_chat_logprobs(trace) if self.wants_logprobs else None

    # --- as a stream ------------------------------------------------------------

    def streams(self) -> Sequence[Any]:
        """Return the streams of the completions."""
        return [self.client.stream(**self._arguments, **options) for options in self._options]

    def begin_chunks(self) -> ChatChunks:
        """Return what writes the chunks."""
        return ChatChunks(self)


class ChatChunks:
    """Writes the chunks of one streamed answer."""

    def __init__(self, task: ChatTask) -> None:
        self._task = task
        self._head: dict[str, Any] = {
            "id": task.id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": task.request.model,
            "system_fingerprint": None,
        }
        #: The choices whose role was sent, each with the indexes of its tool calls by part.
        self._begun: dict[int, dict[int, int]] = {}
        self._sent = SentTokens()

    def start(self, event: StreamStart) -> None:
        """Note who answers."""
        self._head["model"] = event.served_by.model or self._head["model"]
        self._head["system_fingerprint"] = event.served_by.system_fingerprint or None

    def piece(self, index: int, event: Delta) -> dict[str, Any]:
        """Return the chunk of a piece of text."""
        calls = self._begun.get(index)
        delta: dict[str, Any] = {}
        if calls is None:
            calls = self._begun[index] = {}
            delta = {"role": "assistant", "content": ""}
        if event.text is not None:
            delta["content"] = event.text
        elif event.reasoning is not None:
            delta["reasoning_content"] = event.reasoning
        elif event.refusal is not None:
            delta["refusal"] = event.refusal
        elif (call := event.tool_call) is not None:
            place = calls.setdefault(event.part, len(calls))
            piece: dict[str, Any] = {"index": place, "function": {"arguments": call.arguments}}
            if call.name:
                piece |= {"id": call.id, "type": "function"}
                piece["function"]["name"] = call.name
            delta["tool_calls"] = [piece]
        self._sent.add(index, event.tokens)
        return self._chunk(index, delta, None, event.tokens)

    def end(self, index: int, completion: Completion) -> dict[str, Any]:
        """Return the last chunk of a choice."""
        delta: dict[str, Any] = {}
        if index not in self._begun:
            delta = {"role": "assistant", "content": ""}
        rest = self._sent.rest(index, completion)
        chunk = self._chunk(index, delta, to_finish_reason(completion.finish_reason), rest)
        if self._task.wants_ids and completion.prompt_tokens is not None:
            chunk["prompt_token_ids"] = completion.prompt_tokens.ids
        return chunk

    def usage(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return {**self._head, "choices": [], "usage": usage}

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        reason: str | None,
        tokens: Sequence[Token] | None,
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": to_chat_logprobs(tokens) if self._task.wants_logprobs else None,
            "finish_reason": reason,
        }
        if self._task.wants_ids and tokens:
            choice["token_ids"] = [token.id for token in tokens]
        return {**self._head, "choices": [choice]}
