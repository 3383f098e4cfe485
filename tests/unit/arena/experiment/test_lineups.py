"""The line-ups of a game."""

from __future__ import annotations

import pytest

from arena.experiment.lineups import lineups


def list_lineups(players: int, swap: bool, **who: str) -> str:
    """The line-ups as words; each name is one letter."""
    return " ".join("".join(table) for table in lineups(players, swap_seats=swap, **who))


@pytest.mark.parametrize(
    ("players", "who", "listed", "swapped"),
    [
        (2, {"agents": "ab"}, "ab", "ab ba"),
        (3, {"agents": "abc"}, "abc", "abc bca cab"),
        (1, {"agents": "a"}, "a", "a"),
        (2, {"models": "abc"}, "ab ac bc", "ab ba ac ca bc cb"),
        (3, {"models": "abcd"}, "abc abd acd bcd",
         "abc bca cab abd bda dab acd cda dac bcd cdb dbc"),
        (2, {"models": "a"}, "aa", "aa"),
        (1, {"models": "ab"}, "a b", "a b"),
        (2, {"models": "ab", "opponents": "xy"}, "ax ay bx by", "ax xa ay ya bx xb by yb"),
        (3, {"models": "a", "opponents": "x"}, "axx", "axx xxa xax"),
        (1, {"models": "a", "opponents": "x"}, "a", "a"),
    ],
)  # fmt: skip
def test_who_plays(players: int, who: dict[str, str], listed: str, swapped: str) -> None:
    assert list_lineups(players, False, **who) == listed
    assert list_lineups(players, True, **who) == swapped


@pytest.mark.parametrize(
    ("players", "who", "says"),
    [
        (2, {"agents": "abc"}, "has 2 players, but agents: lists 3"),
        (3, {"agents": "ab"}, "has 3 players, but agents: lists 2"),
        (3, {"models": "ab"}, "has 3 players, but models: lists 2; list more models, or name"),
        (2, {}, "has 2 players, but models: lists 0"),
        (9, {"models": "a" * 60}, "60 models make up to "),
    ],
)
def test_who_cannot_play(players: int, who: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        list_lineups(players, True, **who)
