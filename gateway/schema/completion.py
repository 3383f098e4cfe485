"""The request of /v1/completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.schema.common import MAX_CHOICES, Items, ResponseFormat, SamplingRequest

#: A token id of any model.
TokenId = Annotated[int, Field(ge=0, lt=2**31)]

TokenIds = Annotated[Items[TokenId], Field(min_length=1)]
Prompts = (
    str
    | TokenIds
    | Annotated[Items[str], Field(min_length=1, max_length=MAX_CHOICES)]
    | Annotated[Items[TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]
)


class CompletionRequest(SamplingRequest):
    """The whole request. The prompt gets no chat template.

    logprobs: the number of alternatives at each token. echo: the text begins with the prompt, and
    with logprobs the prompt is scored. add_special_tokens: whether the tokenizer adds its special
    tokens to the prompt.
    """

    prompt: Prompts
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    add_special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
