"""Places that tenants share, and the order of their calls."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from services.common.errors import Overloaded
from services.common.tenant import Shares, take_turns


def test_a_tenant_leaves_a_place_for_another_one() -> None:
    shares = Shares(8)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(shares.hold("flood"))
        with pytest.raises(Overloaded, match="flood"):
            held.enter_context(shares.hold("flood"))
        with shares.hold("player"), shares.hold("player"):
            pass
    with shares.hold("flood"):
        pass


def test_without_tokens_all_places_are_everybodys() -> None:
    shares = Shares(2)
    with shares.hold(""), shares.hold(""), shares.hold(""):
        pass  # the queue itself refuses what is too much


@pytest.mark.parametrize(
    ("arrived", "order"),
    [
        ("", ""),
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1", "a1 b1 a2 a3"),
        ("b1 a1 b2 c1 b3 a2", "b1 a1 c1 b2 a2 b3"),
    ],
)
def test_tenants_take_turns(arrived: str, order: str) -> None:
    assert take_turns(arrived.split(), lambda item: item[0]) == order.split()
