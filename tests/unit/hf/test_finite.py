"""NaN and infinity among logits: only the affected row fails, and the error names the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from arena_llm.types import Choices, Completion, Constraint, Regex, ReturnOptions, Sampling
from services.common.errors import InvalidRequest, ModelMisconfigured
from services.common.local.checks import check_sums
from services.hf.loading import LoadedModel
from services.hf.sampling import Sampled, TokenSampler, sample
from tests.support.broken_models import spoil_token, spoil_weights
from tests.support.tiny_models import make_checkpoint
from tests.unit.hf.conftest import ENGINES
from tests.unit.hf.engine_driver import DrivenRequest, DrivenScoring, engine, load_tiny, request

NAN, INF = math.nan, math.inf
#: The spoiled model computes NaN or infinity after this text.
SPOILED = "Z"

MakeSpoiled = Callable[[float], LoadedModel]


@pytest.fixture(scope="module", params=ENGINES)
def spoiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MakeSpoiled:
    @cache
    def make(value: float) -> LoadedModel:
        folder = make_checkpoint(tmp_path_factory.mktemp("model"), "llama")
        return load_tiny(spoil_token(folder, SPOILED, value), engine=request.param)

    return make


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_model_with_damaged_weights_is_misconfigured(tmp_path: Path, value: float) -> None:
    folder = spoil_weights(make_checkpoint(tmp_path / "model", "llama"), value)
    with pytest.raises(ModelMisconfigured, match="hf_tiny computes NaN or infinity"):
        load_tiny(folder)


ASKED: dict[str, tuple[Constraint | None, dict[str, Any]]] = {
    "drawn": (None, {}),
    "greedy": (None, {"temperature": 0.0}),
    "top p": (None, {"top_p": 0.5, "top_k": 3}),
    "penalties": (None, {"presence_penalty": 1.0, "frequency_penalty": 1.0}),
    "log-probabilities": (None, {"returns": ReturnOptions(top_logprobs=3)}),
    "choices": (Choices(("0", "1")), {}),
    "choices with log-probabilities": (
        Choices(("0", "1")),
        {"returns": ReturnOptions(top_logprobs=2)},
    ),
    "regex": (Regex("[01]{9}"), {}),
}


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("case", ASKED)
def test_the_row_fails_and_the_others_continue(
    spoiled: MakeSpoiled, case: str, value: float
) -> None:
    loaded = spoiled(value)
    constraint, sampling = ASKED[case]
    # Without a seed, another row could draw the spoiled token.
    ask = partial(request, constraint=constraint, max_tokens=4, seed=1, **sampling)
    with engine(loaded.forward) as running:
        requests = [DrivenRequest(loaded, running, ask(text)) for text in ("7", f"7{SPOILED}", "8")]
        with pytest.raises(ModelMisconfigured, match="hf_tiny computes NaN or infinity"):
            requests[1].completion()
        for driven in (requests[0], requests[2]):
            assert driven.completion().usage.completion_tokens


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_score_fails_alone(spoiled: MakeSpoiled, value: float) -> None:
    loaded = spoiled(value)
    with engine(loaded.forward) as running:
        for prompt, texts in [(SPOILED, ["a", "bc"]), ("7", ["a", f"{SPOILED}bc"])]:
            with pytest.raises(ModelMisconfigured, match="NaN or infinity"):
                DrivenScoring(loaded, running, prompt, *texts).sums()
        assert all(map(math.isfinite, DrivenScoring(loaded, running, "7", "a", SPOILED).sums()))


def test_a_row_with_nan_does_not_affect_the_next_request(spoiled: MakeSpoiled) -> None:
    """Attention multiplies masked keys and values by zero, and zero times NaN is NaN."""
    loaded = spoiled(NAN)
    short = request("8", Regex("[89]{900}"), max_tokens=30, temperature=0.0)
    with engine(loaded.forward) as running:
        expected = DrivenRequest(loaded, running, short).completion().text
    with engine(loaded.forward) as running:
        wide = DrivenRequest(loaded, running, request("7" * 90, Regex("[78]{900}"), max_tokens=300))
        wide.next()
        # With log-probabilities no token is forced: it reads the spoiled one in a step.
        pattern = Regex(f"[89]{{4}}{SPOILED}[89]{{90}}")
        turning = request("9" * 60, pattern, ReturnOptions(top_logprobs=0))
        with pytest.raises(ModelMisconfigured):
            DrivenRequest(loaded, running, turning).completion()
        assert DrivenRequest(loaded, running, short).completion().text == expected
        while not isinstance(event := wide.next(), Completion):
            pass
        assert len(event.text) == 300


class OnlyToken1:
    """Replaces a Matcher. It allows one token."""

    field = "constraint.regex"

    def forced(self) -> list[int]:
        return []

    def allowed(self) -> npt.NDArray[np.bool_]:
        return np.array([False, True, False])


def drawn(
    logits: list[float], matcher: Any = None, top: int | None = None, **sampling: Any
) -> Sampled | Exception:
    returns = ReturnOptions(top_logprobs=top)
    sampler = TokenSampler(Sampling(**sampling), matcher, returns)
    [result] = sample(np.array([logits], np.float32), [sampler], "hf_tiny")
    return result


@pytest.mark.parametrize("logits", [[NAN] * 3, [1.0, NAN, 0.0], [0.0, INF, 1.0], [-INF] * 3])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.0}, {"top": 1}], ids=str)
def test_logits_that_cannot_be_sampled(logits: list[float], sampling: dict[str, Any]) -> None:
    assert isinstance(drawn(logits, **sampling), ModelMisconfigured)
    assert isinstance(drawn(logits, OnlyToken1(), **sampling), ModelMisconfigured)


def test_tokens_that_a_model_excludes() -> None:
    """A model may exclude tokens with -inf."""
    token = drawn([-INF, 1.0, -INF], top=3)
    assert isinstance(token, Sampled)
    assert token.scored is not None
    assert (token.token, token.scored.logprob) == (1, 0.0)
    assert sorted(token.scored.top) == [(0, -INF), (1, 0.0), (2, -INF)]
    refused = drawn([1.0, -INF, 0.0], OnlyToken1())
    assert isinstance(refused, InvalidRequest)
    assert refused.field == "constraint.regex"


@pytest.mark.parametrize("sums", [[-1.0, NAN], [INF]])
def test_sums_that_are_not_scores(sums: list[float]) -> None:
    with pytest.raises(ModelMisconfigured, match="hf_tiny"):
        check_sums("hf_tiny", sums)


def test_sums_that_are_scores() -> None:
    """A token that the model excludes has -inf."""
    check_sums("hf_tiny", [0.0, -1e30, -INF])
