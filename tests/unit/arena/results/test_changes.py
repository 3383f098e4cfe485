"""Which settings differ from those of a results file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena.results.changes import describe_changes

CONFIG: dict[str, Any] = {
    "games": ["hex", {"name": "chess", "max_plies": 9}],
    "models": ["hf_a", "hf_b"],
    "episodes": 1,
    "max_cost_usd": 1,
}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, ""),
        ({"max_cost_usd": 2, "results": "x", "timeout_seconds": 3, "description": "d"}, ""),
        ({"episodes": 2}, "episodes was 1 and is 2"),
        ({"seed": 7}, "seed was not set and is 7"),
        (
            {"games": ["hex", {"name": "chess", "max_plies": 10}]},
            "games[1].max_plies was 9 and is 10",
        ),
        ({"models": ["hf_a"]}, 'models was ["hf_a", "hf_b"] and is ["hf_a"]'),
        (
            {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5},
            "a was not set and is 1, b was not set and is 2, c was not set and is 3, 2 more",
        ),
        ({"system": "x" * 100}, f'system was not set and is "{"x" * 59}...'),
    ],
)
def test_changes(changed: dict[str, Any], text: str) -> None:
    assert describe_changes(json.dumps(CONFIG), json.dumps(CONFIG | changed)) == text


def test_a_manipulated_file() -> None:
    assert describe_changes("[" * 100_000, json.dumps({"seed": 1})) == "seed was not set and is 1"
