"""A backend gets the fields of a request that it honours; every other one is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from arena_llm.types import (
    Sampling,
)
from arena_llm.v1 import generate_pb2
from arena_llm.wire import to_message
from services.common.config import ConfigError
from services.common.fields import ALWAYS_HONOURED, PATHS, Refusals
from services.common.servicer import LlmServicer
from tests.support.fields import EXAMPLES, make_field_request, name_field
from tests.support.scripted import ScriptedBackend, scripted, serving
from tests.support.wire import (
    count_request,
    details,
    failure,
    reason,
    request,
    score_request,
    stub,
)


class RefusingBackend(ScriptedBackend):
    """Honours temperature and choices only."""

    fields = frozenset({"config.temperature", "constraint.choices"})
    can_score = can_count_tokens = False
    refused: ClassVar[Mapping[str, str]] = {
        "constraint.regex": "use choices",
        "conversation.messages.parts.image": "describe it in words",
        "tools": "list the moves in the prompt",
    }


def test_every_field_has_an_example() -> None:
    assert EXAMPLES.keys() == PATHS - ALWAYS_HONOURED


@pytest.mark.parametrize("path", EXAMPLES)
async def test_a_field_that_a_backend_does_not_honour_is_refused_by_name(path: str) -> None:
    """The other fields of the request are honoured."""

    class Lacking(ScriptedBackend):
        fields = PATHS - ALWAYS_HONOURED - {path}

    backend = Lacking()
    asked = make_field_request(path, "hf_model")
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        for rpc in ("Generate", "StreamGenerate"):
            error = await failure(getattr(llm, rpc)(asked))
            assert (error.code().name, reason(error)) == ("UNIMPLEMENTED", "UNSUPPORTED")
            violation: Any = details(error)["BadRequest"]
            assert violation.field_violations[0].field == name_field(path)
            assert path in error.details()
    assert backend.history == []


@pytest.mark.parametrize("path", EXAMPLES)
async def test_a_field_that_a_backend_honours_reaches_it(path: str) -> None:
    asked = make_field_request(path, "hf_model")
    async with scripted() as (backend, server), stub(server.address) as llm:
        if path.startswith("constraint."):
            backend.enqueue({"choices": "3", "json_schema": '{"move": "a"}'}.get(path[11:], "a"))
        await llm.Generate(asked)
    sent = to_message(backend.history[0], generate_pb2.GenerateRequest)
    sent.ClearField("request_id")
    assert sent == asked


@pytest.mark.parametrize("path", ["raw.text", "template_arguments_json", "tools"])
@pytest.mark.parametrize("rpc", ["Score", "CountTokens"])
async def test_fields_of_score_and_count_tokens_are_refused_by_name(rpc: str, path: str) -> None:
    class Lacking(ScriptedBackend):
        fields = PATHS - ALWAYS_HONOURED - {path}

    asked = score_request() if rpc == "Score" else count_request()
    fields = dict(EXAMPLES[path].fields)
    if not all(hasattr(asked, name) for name in fields):
        return  # Score has no tools
    asked.MergeFrom(type(asked)(**fields))
    backend = Lacking()
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        error = await failure(getattr(llm, rpc)(asked))
    violation: Any = details(error)["BadRequest"]
    assert (reason(error), violation.field_violations[0].field) == ("UNSUPPORTED", path)


async def test_the_advice_of_a_refusal_is_that_of_the_field_or_its_group() -> None:
    async with serving(LlmServicer(RefusingBackend())) as server, stub(server.address) as llm:
        for path, advice in (
            ("constraint.regex", "use choices"),
            ("conversation.messages.parts.image.url", "describe it in words"),
            ("tools", "list the moves"),
            ("config.seed", "leave it out"),
        ):
            error = await failure(llm.Generate(make_field_request(path, "hf_model")))
            assert advice in error.details()


async def test_what_a_backend_honours_reaches_it() -> None:
    backend = RefusingBackend()
    backend.enqueue("b")
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        await llm.Generate(
            request(config={"temperature": 0.5}, constraint={"choices": {"values": ["a", "b"]}})
        )
        errors = [await failure(llm.Score(score_request()))]
        errors.append(await failure(llm.CountTokens(count_request())))
    assert backend.history[0].sampling == Sampling(temperature=0.5)
    assert [reason(error) for error in errors] == ["UNSUPPORTED"] * 2


def test_a_backend_that_declares_an_unknown_field_cannot_be_served() -> None:
    class Wrong(ScriptedBackend):
        fields = frozenset({"config.colour"})

    with pytest.raises(ConfigError, match=r"Wrong\.fields: config\.colour is no field"):
        Refusals(Wrong())
