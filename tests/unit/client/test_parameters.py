"""Sampling parameters: their ranges, and the places that must have all of them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from arena_llm.cli import main
from arena_llm.types import CONSTRAINTS, SAMPLING_PARAMETERS, GenerateOptions
from arena_llm.v1 import generate_pb2


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (0, 0.7, 100)),
        ("top_p", (1e-9, 1)),
        ("top_k", (0, 50)),
        ("max_tokens", (1, 10**6)),
        ("seed", (0, 2**63 - 1, 10**400)),
        ("stop", ((), ("a",), ["a"] * 16)),
        ("presence_penalty", (-2, 2)),
        ("frequency_penalty", (-2, 2)),
        ("logprobs", (0, 20)),
    ],
)
def test_allowed_values(name: str, values: tuple[Any, ...]) -> None:
    assert [SAMPLING_PARAMETERS[name].problem(value) for value in values] == [""] * len(values)


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
        ("logprobs", 21, "must be from 0 to 20"),
        ("stop", "a", "must be a list of strings"),
        ("stop", [""], "must not hold an empty string"),
        ("stop", [1], "must hold strings only"),
        ("stop", ["a"] * 17, "must hold at most 16 strings"),
    ],
)
def test_a_wrong_value_and_its_problem(name: str, value: object, problem: str) -> None:
    assert SAMPLING_PARAMETERS[name].problem(value) == problem


def test_every_parameter_has_a_field_on_the_wire_and_an_option() -> None:
    config = generate_pb2.GenerationConfig.DESCRIPTOR
    assert {field.name for field in config.fields} == set(SAMPLING_PARAMETERS)
    assert set(SAMPLING_PARAMETERS) <= set(GenerateOptions.__annotations__)


def test_every_constraint_has_a_field_on_the_wire_and_an_option() -> None:
    constraint = generate_pb2.Constraint.DESCRIPTOR
    assert {field.name for field in constraint.fields} == set(CONSTRAINTS)
    assert set(CONSTRAINTS) <= set(GenerateOptions.__annotations__)


def test_every_parameter_has_a_flag_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    for name, parameter in SAMPLING_PARAMETERS.items():
        assert f"--{name.replace('_', '-')} " in help_text
        assert f"({parameter.range})" in help_text
