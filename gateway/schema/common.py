"""What both completion endpoints share: sampling, constraints, streaming.

Ranges of numbers are not checked here: the services check them, and /openapi.json has them from
`arena_llm.types.PARAMETERS`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

#: Answers to one request: n, or the number of prompts times n.
MAX_CHOICES = 128

JsonObject = dict[str, Any]

Item = TypeVar("Item")
#: A list that is checked up to its first wrong item: each error takes memory, and a body can have
#: millions of items.
Items = Annotated[list[Item], Field(fail_fast=True)]


class ApiModel(BaseModel):
    """An object of a request: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class StreamOptions(ApiModel):
    """What a stream says beside the text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class StructuredOutputs(ApiModel):
    """vLLM's constraints: one of them is given."""

    json_: JsonObject | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: Items[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class SamplingRequest(ApiModel):
    """The parameters of both endpoints: OpenAI's, and vLLM's that our contract has."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Items[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: Items[int] | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonObject | str | None = None
    guided_regex: str | None = None
    guided_choice: Items[str] | None = None
    guided_grammar: str | None = None


class TextFormat(ApiModel):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(ApiModel):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(ApiModel):
    """A JSON Schema with its name. It is always enforced, also if `strict` is false.

    description: becomes that of the schema, unless the schema has its own.
    """

    name: Annotated[str, Field(max_length=64)]
    schema_: JsonObject | None = Field(None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(ApiModel):
    """JSON that a schema accepts."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]
