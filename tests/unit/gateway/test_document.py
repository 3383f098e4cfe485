"""docs/openai.md names every field and every status of the gateway, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.openapi import build_document
from gateway.schema.chat import ChatRequest
from gateway.schema.common import StreamOptions
from gateway.schema.completion import CompletionRequest

TEXT = (Path(__file__).parents[3] / "docs/openai.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


def test_the_document_names_every_field() -> None:
    fields = {*ChatRequest.model_fields, *CompletionRequest.model_fields}
    named = {
        name
        for first, _ in rows("Fields of a request")
        if not first.startswith("the header")
        for name in re.findall(r"`(\w+)(?:: \w+)?`", first.partition(", or the header")[0])
    }
    assert named == fields
    for name in StreamOptions.model_fields:
        assert f"`{name}`" in TEXT


def test_the_document_explains_every_status() -> None:
    explained = {status for first, _ in rows("Errors") for status in first.split(", ")}
    for path, methods in build_document()["paths"].items():
        for method in methods.values():
            statuses = {status for status in method["responses"] if status >= "400"}
            assert statuses <= explained, path
    # No other status is explained but that of Starlette for another method of a path.
    assert explained - {"405"} <= {
        *build_document()["paths"]["/v1/chat/completions"]["post"]["responses"]
    }
