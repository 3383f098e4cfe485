"""Every parameter reaches the engine of hf and vllm, and their models say what they support."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arena_llm import Client
from arena_llm.errors import UnsupportedError
from arena_llm.types import PARAMETERS, Capability, Completion, StopMatch
from services.common.backend import BaseLLMBackend
from services.hf.backend import HfBackend
from services.vllm.backend import VllmBackend
from tests.support.local_models import PROMPT, LocalService

BACKENDS: dict[str, type[BaseLLMBackend[Any]]] = {"hf": HfBackend, "vllm": VllmBackend}

#: Returns one completion with these options.
Generate = Callable[..., Completion]


def texts(generate: Generate, **options: Any) -> set[str]:
    """The different texts of four seeds."""
    return {generate(max_tokens=16, seed=seed, **options).text for seed in range(4)}


def greedy(generate: Generate, **options: Any) -> str:
    """A greedy text in which the model has to repeat letters."""
    return generate(regex="[a-e]{60}", max_tokens=80, temperature=0.0, **options).text


#: The tiny model's end token, and another one.
END, OTHER = 1, 22
#: Makes the model write the end token wherever it may.
ENDING: dict[str, Any] = {"logit_bias": {END: 100.0}, "temperature": 0.0, "max_tokens": 9}


def generated(generate: Generate, **options: Any) -> tuple[int, ...]:
    """The ids of the generated tokens."""
    trace = generate(token_ids=True, **options).completion_tokens
    assert trace is not None
    return trace.ids


def is_refused(generate: Generate, **options: Any) -> bool:
    """Whether the model refuses the only option by its name."""
    [parameter] = options
    with pytest.raises(UnsupportedError) as caught:
        generate(**options)
    return caught.value.field == PARAMETERS[parameter].path


def shows_sampled_logprobs(generate: Generate) -> bool:
    """A greedy token is certain. An engine of vllm returns only the kind that it is set to."""
    try:
        reply = generate(max_tokens=3, temperature=0.0, top_logprobs=0, logprob_kind="sampled")
    except UnsupportedError as error:
        return error.field == "returns.logprob_kind"
    return reply.completion_tokens is not None and {*reply.completion_tokens.logprobs} == {0.0}


#: Parameter -> a call that shows whether it reaches the engine. A parameter that PARAMETERS gains
#: needs a line here.
PROBES: dict[str, Callable[[Generate], bool]] = {
    "temperature": lambda generate: (
        len(texts(generate, temperature=0.0)) == 1 < len(texts(generate, temperature=2.0))
    ),
    "top_p": lambda generate: len(texts(generate, top_p=1e-6)) == 1,
    "top_k": lambda generate: len(texts(generate, top_k=1)) == 1,
    "max_tokens": lambda generate: (
        generate(regex="[78]{90}", max_tokens=3).usage.completion_tokens == 3
    ),
    "seed": lambda generate: (
        len({generate(max_tokens=24, seed=7).text for _ in range(3)}) == 1 < len(texts(generate))
    ),
    "stop": lambda generate: (
        generate(regex="(7 ){9}END(7 ){9}", stop=["END"], max_tokens=90).text == "7 " * 9
    ),
    "presence_penalty": lambda generate: (
        greedy(generate, presence_penalty=2.0) != greedy(generate, presence_penalty=-2.0)
    ),
    "frequency_penalty": lambda generate: (
        greedy(generate, frequency_penalty=2.0) != greedy(generate, frequency_penalty=-2.0)
    ),
    "min_p": lambda generate: len(texts(generate, min_p=1.0)) == 1,
    "repetition_penalty": lambda generate: (
        greedy(generate, repetition_penalty=5.0) != greedy(generate, repetition_penalty=0.2)
    ),
    "min_tokens": lambda generate: len(generated(generate, min_tokens=5, **ENDING)) == 6,
    "ignore_eos": lambda generate: generated(generate, ignore_eos=True, **ENDING) == (END,) * 9,
    "logit_bias": lambda generate: (
        generated(generate, logit_bias={OTHER: 100.0}, max_tokens=3, temperature=0) == (OTHER,) * 3
    ),
    "stop_token_ids": lambda generate: (
        generate(logit_bias={OTHER: 100.0}, stop_token_ids=[OTHER]).stop_match
        == StopMatch(token_id=OTHER)
    ),
    "token_ids": lambda generate: len(generated(generate, max_tokens=4, ignore_eos=True)) == 4,
    "raw_text": lambda generate: (
        generate(raw_text=True, **ENDING).completion_tokens.raw_text == "<|im_end|>"  # type: ignore[union-attr]
    ),
    "logprob_kind": shows_sampled_logprobs,
    "logprob_token_ids": lambda generate: (
        generate(max_tokens=1, logprob_token_ids=[OTHER, 5]).completion_tokens.top_ids == (OTHER, 5)  # type: ignore[union-attr]
    ),
    "reasoning_effort": lambda generate: (
        "Be brief."
        in generate(reasoning_effort="low", raw_text=True, max_tokens=1).prompt_tokens.raw_text  # type: ignore[union-attr]
    ),
    # The tiny model does not reason, so it refuses them.
    "reasoning_visibility": lambda generate: is_refused(generate, reasoning_visibility="hidden"),
    "reasoning_budget_tokens": lambda generate: is_refused(generate, reasoning_budget_tokens=5),
    "top_logprobs": lambda generate: (
        {len(t.top) for t in generate(max_tokens=4, seed=1, top_logprobs=3).completion_tokens or ()}
        == {3}
    ),
}


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_every_honoured_parameter_reaches_the_engine(
    service: LocalService, llm: Client, parameter: str
) -> None:
    if PARAMETERS[parameter].path not in BACKENDS[service.name].fields:
        pytest.skip("the servicer refuses it: see tests/unit/common/test_fields.py")
    assert parameter in PROBES, "add a probe for the new parameter"
    assert PROBES[parameter](lambda **options: llm.generate(service.tiny, PROMPT, **options))


def test_the_models_and_their_capabilities(service: LocalService, llm: Client) -> None:
    models = {model.name: model for model in llm.list_models()}
    model = models[service.tiny]
    assert (model.context_length, model.backend) == (512, service.name)
    assert {Capability.CHAT, Capability.SCORE, Capability.SEED} <= {*model.capabilities}
    assert {Capability.RAW, Capability.TOKEN_IDS, Capability.COUNT_TOKENS} <= {*model.capabilities}
    assert Capability.REASONING not in model.capabilities
    assert (model.precision, model.supported_fields_known) == ("fp32", True)
    assert {"conversation", "config.min_p", "raw.text"} <= {*model.supported_fields}
    assert model.defaults is not None
    assert (model.defaults.temperature, model.defaults.max_tokens) == (1.0, 256)
    assert llm.is_available(service.tiny).model == model
