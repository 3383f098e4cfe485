"""The OpenAPI document of the gateway, made of the models in gateway/schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from arena_llm.types import PARAMETERS
from gateway.errors import BY_REASON
from gateway.schema.answers import (
    ChatAnswer,
    ChatChunk,
    ErrorAnswer,
    HealthAnswer,
    ModelAnswer,
    ModelsAnswer,
    TextAnswer,
)
from gateway.schema.chat import ChatRequest
from gateway.schema.completion import CompletionRequest

_REFERENCE = "#/components/schemas/{model}"
_REQUESTS = (ChatRequest, CompletionRequest)
_ANSWERS = (
    *(ChatAnswer, ChatChunk, TextAnswer, ModelsAnswer, ModelAnswer, ErrorAnswer),
    HealthAnswer,
)
#: Statuses that a request can have before it reaches the router, and all of the table.
_STATUSES = sorted({400, 401, 404, 413, 415, 500, 503, *(row.status for row in BY_REASON.values())})


@cache
def build_document() -> dict[str, Any]:
    """Return the document."""
    models: list[Any] = [(model, "validation") for model in (*_REQUESTS, *_ANSWERS)]
    _, definitions = models_json_schema(models, ref_template=_REFERENCE)
    schemas = definitions["$defs"]
    for request in _REQUESTS:
        _add_ranges(schemas[request.__name__]["properties"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arena LLM",
            "version": "1",
            "description": "OpenAI's API over the models of Arena LLM.",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/v1/chat/completions": {"post": _generate("ChatRequest", "ChatAnswer", "ChatChunk")},
            "/v1/completions": {"post": _generate("CompletionRequest", "TextAnswer", "TextAnswer")},
            "/v1/models": {"get": _get("The models of all backends.", "ModelsAnswer")},
            "/v1/models/{model}": {
                "get": {
                    **_get("One model.", "ModelAnswer"),
                    "parameters": [
                        {
                            "name": "model",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string", "minLength": 1},
                        }
                    ],
                }
            },
            "/health": {"get": _probe("Whether the process serves.")},
            "/ready": {"get": _probe("Whether the router can be reached.")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _add_ranges(properties: dict[str, Any]) -> None:
    """Add meaning and range of the parameters that our contract has under the same name."""
    for name, parameter in PARAMETERS.items():
        if (schema := properties.get(name)) is None:
            continue
        schema["description"] = parameter.help
        for option in schema.get("anyOf", ()):
            if option.get("type") not in ("number", "integer"):
                continue
            if parameter.minimum is not None:
                key = "exclusiveMinimum" if parameter.exclusive_minimum else "minimum"
                option[key] = -1 if name == "top_k" else parameter.minimum
            if parameter.maximum is not None:
                option["maximum"] = parameter.maximum


def _refer(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _refer(name)}}


def _errors() -> dict[str, Any]:
    return {
        str(status): {"description": "An error.", "content": _json("ErrorAnswer")}
        for status in _STATUSES
    }


def _generate(request: str, answer: str, chunk: str) -> dict[str, Any]:
    events = {"schema": {"type": "string", "description": f"`data:` lines, each with a {chunk}."}}
    content = {**_json(answer), "text/event-stream": events}
    return {
        "summary": "Generate text.",
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {"200": {"description": "The answer.", "content": content}, **_errors()},
    }


def _get(summary: str, answer: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": _json(answer)},
            **_errors(),
        },
    }


def _probe(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [],
        "responses": {
            status: {"description": text, "content": _json("HealthAnswer")}
            for status, text in (("200", "Yes."), ("503", "No; the status says why."))
        },
    }
