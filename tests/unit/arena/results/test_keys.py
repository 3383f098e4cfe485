"""Keys are the same on every machine and in every release."""

from __future__ import annotations

from arena.results.keys import (
    hash_text,
    identify_players,
    identify_seat,
    make_deal,
    make_episode_key,
    normalise,
)
from arena.results.rows import ModelRow

GAME = '{"name":"hex","board_size":5}'


def test_keys_are_frozen() -> None:
    """If this fails, all results of all users lose their episodes."""
    rows = [
        ModelRow("a", "llm", "hf_a", '{"temperature":0.0,"reply":"json","top_p":null}'),
        ModelRow("b", "random", None, "{}"),
        ModelRow("c", "random", None, "{}"),
    ]
    players = identify_players(rows)
    assert players["a"] == (
        '{"config":{"reply":"json","temperature":0},"copy":0,"model":"hf_a","type":"llm"}',
        0,
    )
    assert [copy for _, copy in players.values()] == [0, 0, 1]
    assert hash_text(players["c"][0]) == "17725256cdaf55db1fbbb9cfd4497e46"
    deal = make_deal(7, GAME, 3)
    assert deal == 9155461255439991316
    seats = [identify_seat(players["a"][0], "v1"), identify_seat(players["b"][0], "")]
    assert make_episode_key("2.0.2", GAME, None, seats, deal) == "6cd1d4fea57cc5ae31e8137571435cf0"
    assert make_episode_key("2.0.2", GAME, 9, seats, deal) == "04d60d82988583459ac4d673f680074a"


def test_a_deal_depends_on_each_of_its_parts() -> None:
    deals = {
        make_deal(seed, game, number)
        for seed in (0, 1)
        for game in (GAME, '{"name":"go"}')
        for number in (0, 1)
    }
    assert len(deals) == 8
    assert all(0 <= deal < 2**63 for deal in deals)
    # The order of a game's parameters does not matter.
    assert make_deal(0, '{"board_size":5,"name":"hex"}', 0) == make_deal(0, GAME, 0)


def test_equal_numbers_are_equal() -> None:
    assert normalise({"a": 1.0, "b": [2.0, None, 0.5], "c": None}) == {"a": 1, "b": [2, None, 0.5]}
    assert repr(normalise(1.0)) == "1"
    assert repr(normalise(True)) == "True"
