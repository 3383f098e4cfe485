"""What `on_illegal` means."""

from __future__ import annotations

import pytest

from arena.agents.settings import Policy


@pytest.mark.parametrize(
    ("text", "policy", "course"),
    [
        ("forfeit", Policy(0, "forfeit"), ["forfeit"]),
        ("random", Policy(0, "random"), ["random"]),
        ("retry 1", Policy(1, "forfeit"), ["retry", "forfeit"]),
        ("retry 2 then random", Policy(2, "random"), ["retry", "retry", "random"]),
        ("retry 99 then forfeit", Policy(99, "forfeit"), ["retry"] * 99 + ["forfeit"]),
    ],
)
def test_a_policy(text: str, policy: Policy, course: list[str]) -> None:
    assert Policy.parse(text) == policy
    assert [policy.after(attempt) for attempt in range(len(course))] == course


@pytest.mark.parametrize(
    "text",
    ["", "retry", "retry 0", "retry 100", "retry 2 random", "retry 2 then", "retry 2then random",
     "Forfeit", "forfeit ", "forfeit\n", "forfeit then random", "retry -1", "retry ²", "never"],
)  # fmt: skip
def test_no_policy(text: str) -> None:
    with pytest.raises(ValueError, match="must be forfeit, random, retry N or retry N then random"):
        Policy.parse(text)
