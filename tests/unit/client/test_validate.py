"""The verdict on each model, and how the router is asked for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

import arena_llm
from arena_llm.errors import ArenaError, DeadlineExceededError, InvalidArgumentError
from arena_llm.types import Availability, Credits, Model, ModelState, Price
from arena_llm.v1 import models_pb2
from arena_llm.validation import judge, validate
from arena_llm.validation.verdict import FREE
from tests.unit.client.scripted import Fail, Script, grpc, models

GPT, GROQ = "openrouter_openai/gpt-4o", "litellm_groq/llama-3.1-8b-instant"


def ready(**fields) -> models_pb2.IsAvailableResponse:
    return models_pb2.IsAvailableResponse(
        **{"available": True, "state": models_pb2.MODEL_STATE_READY, **fields}
    )


def refused(reason: str, detail: str = "mend it") -> models_pb2.IsAvailableResponse:
    state = models_pb2.MODEL_STATE_MISCONFIGURED
    return models_pb2.IsAvailableResponse(state=state, reason=reason, detail=detail)


READY = Availability(True, ModelState.READY, "ready")
LOADING = Availability(True, ModelState.LOADING)
NOT_LOADED = Availability(True, ModelState.NOT_LOADED)
POOR = Availability(
    True, ModelState.READY, warnings=("Low balance",), credits=Credits(balance_usd=0.5)
)
NO_KEY = Availability(False, ModelState.MISCONFIGURED, "set it", reason="API_KEY_MISSING")
DOWN = Availability(False, ModelState.UNKNOWN, "make up", reason="BACKEND_DOWN")
NO_PREFIX = Availability(False, ModelState.MISCONFIGURED, "known: hf_", reason="UNKNOWN_PREFIX")
LATE = DeadlineExceededError("no answer")
BAD_NAME = InvalidArgumentError("too long", reason="INVALID_REQUEST")


@pytest.mark.parametrize(
    ("name", "answer", "strict", "lenient"),
    [
        ("hf_a", READY, "ok", "ok"),
        ("hf_a", LOADING, "ok", "ok"),
        ("hf_a", NOT_LOADED, "ok", "ok"),
        (GPT, POOR, "warning", "warning"),
        (GPT, NO_KEY, "fail", "fail"),
        (GPT, DOWN, "fail", "fail"),
        (GPT, LATE, "fail", "fail"),
        (GROQ, NO_KEY, "fail", "warning"),
        (GROQ, LATE, "fail", "warning"),
        ("vllm_a", DOWN, "fail", "warning"),
        ("hf_a", DOWN, "fail", "warning"),
        ("nobody_a", NO_PREFIX, "fail", "fail"),
        ("hf_a", BAD_NAME, "fail", "fail"),
    ],
)
def test_status(name: str, answer: Availability | ArenaError, strict: str, lenient: str) -> None:
    assert judge(name, answer).status == strict
    assert judge(name, answer, lenient=True).status == lenient


def test_a_verdict_tells_why_and_how_to_mend_it() -> None:
    failed = judge(GROQ, NO_KEY)
    assert (failed.reason, failed.detail, failed.warnings) == ("API_KEY_MISSING", "set it", ())
    assert failed.state is ModelState.MISCONFIGURED
    assumed = judge(GROQ, NO_KEY, lenient=True)
    assert assumed.warnings == ("assumed to be valid, but API_KEY_MISSING: set it",)
    late = judge(GROQ, LATE)
    assert (late.state, late.reason) == (ModelState.UNKNOWN, "DEADLINE_EXCEEDED")
    assert judge(GPT, POOR).credits == Credits(balance_usd=0.5)


PRICE = Price(1e-6, 2e-6)


@pytest.mark.parametrize(
    ("name", "listed", "backend", "price"),
    [
        (GPT, Model(GPT, "openrouter", price=PRICE), "openrouter", PRICE),
        (GPT, Model(GPT, "openrouter"), "openrouter", None),
        (GPT, None, "openrouter", None),
        ("hf_a", Model("hf_a", "hf"), "hf", FREE),
        ("hf_a", None, "hf", FREE),
        ("vllm_a", None, "vllm", FREE),
        ("vllm_a", Model("vllm_a", "vllm", price=PRICE), "vllm", PRICE),
        ("nobody_a", None, "nobody", None),
        ("hf_gpu_a", Model("hf_gpu_a", "hf_gpu"), "hf_gpu", None),
    ],
)
def test_price(name: str, listed: Model | None, backend: str, price: Price | None) -> None:
    verdict = judge(name, READY, listed)
    assert (verdict.backend, verdict.price) == (backend, price)


def test_a_model_that_is_not_listed_has_the_price_that_its_service_tells() -> None:
    told = replace(READY, price=PRICE)
    assert judge(GPT, told).price == PRICE
    assert judge(GPT, told, None, {"openrouter": "no answer"}).warnings == ()


def test_a_prefix_that_nobody_serves_is_no_backend() -> None:
    assert judge("nobody_a", NO_PREFIX).backend == ""


def test_a_price_that_could_not_be_asked_for_is_a_warning() -> None:
    missing = {"openrouter": "no answer within 2 s"}
    verdict = judge(GPT, READY, None, missing)
    assert verdict.status == "warning"
    assert verdict.warnings == ("its price could not be asked for: no answer within 2 s",)
    assert judge("hf_a", READY, None, missing | {"hf": "x"}).status == "ok"
    assert judge(GPT, DOWN, None, missing).warnings == ()


def test_all_are_asked_at_once_each_once_and_the_list_once(
    llm: arena_llm.Client, script: Script
) -> None:
    names = [f"hf_{i}" for i in range(20)]
    # Nobody is answered until all the calls have come.
    together = threading.Barrier(len(names) + 1)

    def respond(request):
        together.wait(20)
        if isinstance(request, models_pb2.ListModelsRequest):
            return models(*names)
        return ready(detail=request.model)

    script.respond = respond
    verdicts = validate(llm, [*names, *reversed(names)])
    assert [verdict.model for verdict in verdicts] == names
    assert [verdict.detail for verdict in verdicts] == names
    asked = [seen.request.model for seen in script.history if seen.method == "IsAvailable"]
    assert sorted(asked) == sorted(names)
    assert len(script.history) == len(names) + 1


def test_no_more_at_once_than_allowed(llm: arena_llm.Client, script: Script) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def respond(request):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        answer = ready() if isinstance(request, models_pb2.IsAvailableRequest) else models()
        with lock:
            running -= 1
        return answer

    script.respond = respond
    assert len(validate(llm, [f"hf_{i}" for i in range(40)], concurrency=3)) == 40
    assert most <= 3


def test_one_failed_question_hides_no_other(llm: arena_llm.Client, script: Script) -> None:
    def respond(request):
        if isinstance(request, models_pb2.ListModelsRequest):
            return models("hf_a", unreachable=("openrouter",))
        if request.model == "hf_bug":
            return Fail(grpc.StatusCode.INTERNAL, "a bug", "INTERNAL")
        return ready()

    script.respond = respond
    found = {one.model: one for one in validate(llm, ["hf_bug", "hf_a", " ", "hf_\ud800", GPT])}
    assert [(one.status, one.reason) for one in found.values()] == [
        ("fail", "INTERNAL"),
        ("ok", ""),
        ("fail", "INVALID_REQUEST"),
        ("fail", "INVALID_REQUEST"),
        ("warning", ""),
    ]
    assert "start openrouter" in found[GPT].warnings[0]
    # An empty name would have asked after the whole service.
    asked = {seen.request.model for seen in script.history if seen.method == "IsAvailable"}
    assert asked == {"hf_bug", "hf_a", GPT}


def test_no_models_is_no_error(llm: arena_llm.Client, script: Script) -> None:
    script.respond = lambda request: models()
    assert validate(llm, []) == []


def test_a_router_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 0)
    with (
        arena_llm.Client(f"unix:{tmp_path}/nobody") as llm,
        pytest.raises(arena_llm.UnavailableError, match="make up") as caught,
    ):
        validate(llm, ["hf_a", GPT])
    assert caught.value.reason == "UNREACHABLE"
