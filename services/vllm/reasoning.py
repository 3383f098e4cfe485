"""Tells a model's reasoning from its answer, by vLLM's parser for the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arena_llm.types import Delta
from services.common.errors import ModelMisconfigured


def splitter_factory(
    name: str, parser_name: str | None, tokenizer: Any
) -> Callable[[], ReasoningSplitter] | None:
    """What makes a splitter for each request; None for a model that does not reason.

    Raises ModelMisconfigured for a parser that vLLM does not know, or that looks for
    tokens which the tokenizer does not have.
    """
    if parser_name is None:
        return None
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser.parser_manager import ParserManager

    try:
        parser = ParserManager.get_parser(reasoning_parser_name=parser_name, tokenizer=tokenizer)
        # The parsers look at its flags; our prompts go their own way.
        request = parser(tokenizer).adjust_request(ChatCompletionRequest(messages=[]))
    except Exception as error:  # each parser has its own way to refuse a tokenizer
        raise ModelMisconfigured(
            f"{name}: reasoning_parser {parser_name!r} cannot be used: {error} "
            "(configs/vllm_models.yaml)"
        ) from error
    return lambda: ReasoningSplitter(parser(tokenizer), request)


class ReasoningSplitter:
    """One request's parser."""

    def __init__(self, parser: Any, request: Any) -> None:
        self._parser = parser
        self._request = request
        self.skip_special_tokens: bool = request.skip_special_tokens

    def split(self, output: Any) -> Delta:
        """What a RequestOutput adds to reasoning and answer."""
        new = output.outputs[0]
        message = self._parser.parse_delta(
            delta_text=new.text,
            delta_token_ids=list(new.token_ids),
            request=self._request,
            prompt_token_ids=output.prompt_token_ids,
            finished=output.finished,
        )
        if message is None:
            return Delta()
        return Delta(text=message.content or "", reasoning=message.reasoning or "")
