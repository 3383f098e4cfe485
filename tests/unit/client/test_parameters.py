"""Sampling parameters: their ranges, and the places that must have all of them."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import pytest

from arena_llm.cli import main
from arena_llm.types import (
    CONSTRAINTS,
    PARAMETERS,
    PARAMETERS_BY_PATH,
    GenerateOptions,
    ReasoningEffort,
)
from arena_llm.v1 import generate_pb2


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (0, 0.7, 100)),
        ("top_p", (1e-9, 1)),
        ("top_k", (0, 50)),
        ("max_tokens", (1, 10**6)),
        ("seed", (0, 2**53 - 1)),
        ("stop", ((), ("a",), ["a"] * 16)),
        ("presence_penalty", (-2, 2)),
        ("frequency_penalty", (-2, 2)),
        ("top_logprobs", (0, 20)),
        ("min_p", (0, 1)),
        ("repetition_penalty", (1e-9, 1, 10)),
        ("min_tokens", (0, 10**6)),
        ("stop_token_ids", ((), (0, 2**31 - 1), [1] * 64)),
        ("ignore_eos", (True, False)),
        ("logit_bias", ({}, {0: -100, 2**31 - 1: 100.0}, dict.fromkeys(range(1024), 0))),
        ("reasoning_effort", ("none", ReasoningEffort.MAX)),
        ("reasoning_budget_tokens", (1,)),
        ("reasoning_visibility", ("hidden",)),
        ("logprob_kind", ("raw", "sampled")),
        ("logprob_token_ids", ([5] * 128,)),
        ("token_ids", (True,)),
        ("raw_text", (False,)),
    ],
)
def test_allowed_values(name: str, values: tuple[Any, ...]) -> None:
    assert [PARAMETERS[name].problem(value) for value in values] == [""] * len(values)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("temperature", -0.1, "must be from 0 to 100"),
        ("temperature", math.nan, "must be from 0 to 100"),
        ("temperature", "hot", "must be a number"),
        ("temperature", True, "must be a number"),
        ("top_p", 0, "must be over 0 and at most 1"),
        ("top_p", 1.5, "must be over 0 and at most 1"),
        ("top_k", -1, "must be at least 0"),
        ("max_tokens", 0, "must be at least 1"),
        ("max_tokens", 1.5, "must be an integer"),
        ("seed", 2**53, "must be from 0 to 9007199254740991"),
        ("top_logprobs", 21, "must be from 0 to 20"),
        ("top_logprobs", True, "must be a number"),
        ("repetition_penalty", 0, "must be over 0 and at most 10"),
        ("min_p", 1.1, "must be from 0 to 1"),
        ("ignore_eos", 1, "must be true or false"),
        ("stop_token_ids", [-1], "must hold token ids only: integers of at least 0"),
        ("stop_token_ids", [True], "must hold token ids only: integers of at least 0"),
        ("stop_token_ids", [2**31], "must hold token ids only: integers of at least 0"),
        ("stop_token_ids", [1] * 65, "must hold at most 64 token ids"),
        ("logit_bias", {1: 101}, "must be from -100 to 100"),
        ("logit_bias", {-1: 1}, "must hold token ids only: integers of at least 0"),
        ("logit_bias", [1], "must map token ids to numbers"),
        ("logit_bias", dict.fromkeys(range(1025), 0), "must hold at most 1024 token ids"),
        ("reasoning_effort", "much", f"must be one of {', '.join(ReasoningEffort)}"),
        ("reasoning_budget_tokens", 0, "must be at least 1"),
        ("stop", "a", "must be a list of strings"),
        ("stop", [""], "must not hold an empty string"),
        ("stop", [1], "must hold strings only"),
        ("stop", ["a"] * 17, "must hold at most 16 strings"),
    ],
)
def test_a_wrong_value_and_its_problem(name: str, value: object, problem: str) -> None:
    assert PARAMETERS[name].problem(value) == problem


def test_every_parameter_has_a_field_on_the_wire_and_an_option() -> None:
    groups = {
        "config": generate_pb2.GenerationConfig,
        "reasoning": generate_pb2.ReasoningConfig,
        "returns": generate_pb2.ReturnOptions,
    }
    paths = {
        f"{group}.{field.name}"
        for group, message in groups.items()
        for field in message.DESCRIPTOR.fields
    }
    assert paths == PARAMETERS_BY_PATH.keys()
    assert set(PARAMETERS) <= set(GenerateOptions.__annotations__)


def test_every_constraint_has_a_field_on_the_wire_and_an_option() -> None:
    constraint = generate_pb2.Constraint.DESCRIPTOR
    assert {field.name for field in constraint.fields} == set(CONSTRAINTS)
    assert set(CONSTRAINTS) <= set(GenerateOptions.__annotations__)


def test_every_parameter_has_a_flag_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    for name, parameter in PARAMETERS.items():
        assert f"--{name.replace('_', '-')} " in help_text
        if parameter.range and not issubclass(parameter.type, StrEnum):
            assert f"({parameter.range})" in help_text
