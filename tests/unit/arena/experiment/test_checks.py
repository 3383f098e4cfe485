"""The check of each model, and the questions to the router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from arena.experiment.checks import ModelCheck, check_models, judge_answer
from arena.experiment.uses import ModelUse, list_uses
from arena_llm import (
    ArenaError,
    Availability,
    Client,
    Model,
    ModelState,
    UnavailableError,
)
from arena_llm.errors import DeadlineExceededError, InvalidArgumentError
from arena_llm.types import Capability, FreePrice, Price, ReasoningEffort, UnknownPrice
from services.common.errors import Internal
from services.common.servicer import LlmServicer
from tests.support.game_turns import read_agent
from tests.support.prices import credits_of, price
from tests.support.scripted import ScriptedBackend, serving

GPT, GROQ = "openrouter_openai/gpt-4o", "litellm_groq/llama-3.1-8b-instant"

READY = Availability(True, ModelState.READY, "ready")
LOADING = Availability(True, ModelState.LOADING)
POOR = Availability(True, ModelState.READY, warnings=("Low balance",), credits=credits_of(0.5))
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
        (GPT, POOR, "warning", "warning"),
        (GPT, NO_KEY, "fail", "fail"),
        (GPT, DOWN, "fail", "fail"),
        (GPT, LATE, "fail", "fail"),
        (GROQ, NO_KEY, "fail", "warning"),
        (GROQ, LATE, "fail", "warning"),
        ("hf_a", DOWN, "fail", "warning"),
        ("nobody_a", NO_PREFIX, "fail", "fail"),
        ("hf_a", BAD_NAME, "fail", "fail"),
    ],
)
def test_status(name: str, answer: Availability | ArenaError, strict: str, lenient: str) -> None:
    assert judge_answer(name, answer).status == strict
    assert judge_answer(name, answer, lenient=True).status == lenient


def test_a_check_says_why_and_how_to_fix_it() -> None:
    failed = judge_answer(GROQ, NO_KEY)
    assert (failed.reason, failed.detail, failed.warnings) == ("API_KEY_MISSING", "set it", ())
    assumed = judge_answer(GROQ, NO_KEY, lenient=True)
    assert assumed.warnings == ("assumed to be valid, but API_KEY_MISSING: set it",)
    late = judge_answer(GROQ, LATE)
    assert (late.state, late.reason) == (ModelState.UNKNOWN, "DEADLINE_EXCEEDED")
    assert judge_answer(GPT, POOR).credits == credits_of(0.5)
    assert judge_answer("nobody_a", NO_PREFIX).backend == ""


PRICE = price(1e-6, 2e-6)


@pytest.mark.parametrize(
    ("answer", "listed", "expected"),
    [
        (READY, Model(GPT, "openrouter", price=PRICE), PRICE),
        (READY, Model(GPT, "openrouter"), None),
        (READY, None, None),
        (Availability(True, ModelState.READY, model=Model(GPT, price=PRICE)), None, PRICE),
        (Availability(True, ModelState.READY, model=Model(GPT)), Model(GPT, price=PRICE), PRICE),
        (Availability(True, ModelState.READY, model=Model(GPT, price=FreePrice())), None,
         FreePrice()),
    ],
)  # fmt: skip
def test_price(answer: Availability, listed: Model | None, expected: Price | None) -> None:
    assert judge_answer(GPT, answer, listed).price == expected


def test_a_price_that_was_not_listed_is_a_warning() -> None:
    unlisted = {"openrouter": "no answer within 2 s"}
    check = judge_answer(GPT, READY, None, unlisted)
    assert check.status == "warning"
    assert check.warnings == ("its price is unknown: no answer within 2 s",)
    assert check.price == UnknownPrice("no answer within 2 s")
    assert judge_answer("hf_a", READY, None, unlisted).status == "ok"
    assert judge_answer(GPT, DOWN, None, unlisted).warnings == ()


class Backend(ScriptedBackend):
    """Answers all questions together, once `expected` of them wait."""

    expected = 1

    def __init__(self) -> None:
        super().__init__("hf")
        self.fields -= {"routing.providers"}
        self.describe = partial(Model, price=PRICE)
        self.asked: list[str] = []
        self.most_waiting = 0
        self._waiting = 0
        self._all = asyncio.Event()
        self.models = [Model("hf_a", price=PRICE, capabilities=(Capability.CHAT,))]

    async def is_model_available(self, model: str) -> Availability:
        self.asked.append(model)
        self._waiting += 1
        self.most_waiting = max(self.most_waiting, self._waiting)
        if self._waiting == self.expected:
            self._all.set()
        await self._all.wait()
        self._waiting -= 1
        if model == "hf_bug":
            raise Internal("a bug")
        return Availability(True, ModelState.READY, model, model=self.describe(model))


@pytest.fixture
async def backend() -> Backend:
    return Backend()


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[Client]:
    async with serving(LlmServicer(backend)) as server:
        with Client(server.address) as client:
            yield client


async def run(client: Client, models: list[str], **options: object) -> list[ModelCheck]:
    return await asyncio.to_thread(check_models, client, models, **options)  # type: ignore[arg-type]


async def test_all_models_are_checked_concurrently_and_once(
    client: Client, backend: Backend
) -> None:
    names = [f"hf_{number}" for number in range(20)]
    backend.expected = 20
    checks = await run(client, [*names, *reversed(names)])
    assert [check.model for check in checks] == names
    assert [check.detail for check in checks] == names
    assert sorted(backend.asked) == sorted(names)


async def test_concurrency_is_limited(client: Client, backend: Backend) -> None:
    assert len(await run(client, [f"hf_{i}" for i in range(40)], concurrency=3)) == 40
    assert backend.most_waiting <= 3


async def test_a_failed_question_is_a_failed_check(client: Client, backend: Backend) -> None:
    checks = await run(client, ["hf_bug", "hf_a", " ", "hf_\ud800"])
    assert [(check.status, check.reason) for check in checks] == [
        ("fail", "INTERNAL"),
        ("ok", ""),
        ("fail", "INVALID_REQUEST"),
        ("fail", "INVALID_REQUEST"),
    ]
    assert checks[1].price == PRICE
    # The servicer refuses a question without a name.
    assert set(backend.asked) == {"hf_bug", "hf_a"}


async def test_a_backend_that_cannot_score(client: Client, backend: Backend) -> None:
    (check,) = await run(client, ["hf_a"], uses={"hf_a": ModelUse(scores=True)})
    assert (check.status, check.reason) == ("fail", "UNSUPPORTED")
    assert check.detail.startswith("reply: score needs probabilities, which the backend hf")
    backend.models = [Model("hf_x", capabilities=(Capability.SCORE,))]
    (check,) = await run(client, ["hf_a"], uses={"hf_a": ModelUse(scores=True)})
    assert check.status == "ok"


TEMPERATURE, TOP_K, ROUTING = "config.temperature", "config.top_k", "routing.providers"


@pytest.mark.parametrize(
    ("use", "known", "status", "says"),
    [
        (ModelUse(), True, "ok", ""),
        (ModelUse(fields=frozenset({TEMPERATURE})), True, "ok", ""),
        (ModelUse(fields=frozenset({TEMPERATURE, TOP_K})), True, "fail",
         "it does not honour config.top_k: leave the setting out"),
        (ModelUse(fields=frozenset({TOP_K})), False, "warning",
         "it may refuse config.top_k, which it does not list"),
        (ModelUse(efforts=frozenset({"low", "max"})), True, "fail",
         "it does not honour reasoning.effort max (but low, high): leave the setting out"),
        (ModelUse(any_provider=True), True, "warning",
         "its provider is not pinned: providers of one model differ in precision"),
    ],
)  # fmt: skip
async def test_what_the_players_need(
    client: Client, backend: Backend, use: ModelUse, known: bool, status: str, says: str
) -> None:
    backend.fields = frozenset({TEMPERATURE, ROUTING})
    backend.describe = lambda name: Model(
        name,
        supported_fields=(TEMPERATURE, ROUTING),
        supported_fields_known=known,
        reasoning_efforts=(ReasoningEffort.LOW, ReasoningEffort.HIGH),
    )
    (check,) = await run(client, ["hf_a"], uses={"hf_a": use})
    assert check.status == status
    assert (check.warnings or (check.detail,))[-1].startswith(says)


async def test_a_backend_with_one_provider_needs_no_pin(client: Client) -> None:
    (check,) = await run(client, ["hf_a"], uses={"hf_a": ModelUse(any_provider=True)})
    assert (check.status, check.warnings) == ("ok", ())


def test_the_uses_of_several_players() -> None:
    players = [
        read_agent({"type": "llm", "model": "hf_a"} | settings)
        for settings in (
            {"temperature": 0, "ignore_eos": False, "stop": [], "send_seed": True},
            {
                "reply": "choices",
                "routing": {"providers": ["x"]},
                "store_tokens": True,
            },
            {"reasoning_effort": "low"},
            {"reply": "score", "top_k": 3, "template_arguments": {"a": 1}},
        )
    ]
    assert list_uses([*players, read_agent({"type": "random"})]) == {
        "hf_a": ModelUse(
            scores=True,
            any_provider=True,
            fields=frozenset(
                {
                    TEMPERATURE, "config.seed", "constraint.choices", ROUTING,
                    "returns.top_logprobs", "template_arguments_json", "reasoning.effort",
                }
            ),
            efforts=frozenset({"low"}),
        )
    }  # fmt: skip


async def test_no_models(client: Client) -> None:
    assert await run(client, []) == []


@pytest.mark.usefixtures("quick_refusal")
def test_a_router_that_does_not_run(tmp_path: Path) -> None:
    with (
        Client(f"unix:{tmp_path}/nobody") as client,
        pytest.raises(UnavailableError, match="make up") as caught,
    ):
        check_models(client, ["hf_a", GPT])
    assert caught.value.reason == "UNREACHABLE"
