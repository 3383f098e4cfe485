"""A person's game against a scripted model, and the bounds of such games."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from arena.live import play
from arena.live.feed import LiveFeed
from arena.live.play import OpenGames, PlayError
from arena_llm import AsyncClient
from tests.support.scripted import scripted


async def wait_for(feed: LiveFeed, *statuses: str) -> dict[str, Any]:
    """Return the first view with one of these statuses."""
    async with aclosing(feed.events()) as events:
        async for event in events:
            view: dict[str, Any] = json.loads(event.removeprefix("data: "))
            if view["status"] in statuses:
                return view
    raise AssertionError


@asynccontextmanager
async def opened(target: str = "127.0.0.1:1") -> AsyncIterator[OpenGames]:
    async with AsyncClient(target) as client:
        games = OpenGames(client)
        try:
            yield games
        finally:
            await games.close()


async def test_a_model_answers_and_the_person_wins() -> None:
    async with scripted() as (backend, server), opened(server.address) as games:
        backend.enqueue('{"action": "o(1,0)"}', '{"action": "o(1,1)"}')
        game = games.find(await games.start("tic_tac_toe", 0, "hf_model", model=True))
        for action in (0, 1, 2):
            view = await wait_for(game.feed, "your turn")
            game.act(action, view["request"])
        view = await wait_for(game.feed, "ended")
    assert view["returns"] == [1.0, -1.0]
    assert [move["text"] for move in view["moves"]][1::2] == ["o(1,0)", "o(1,1)"]
    assert len(backend.history) == 2


async def test_a_person_does_not_see_the_others_cards() -> None:
    async with opened() as games:
        game = games.find(await games.start("kuhn_poker", 0, "random", model=False))
        view = await wait_for(game.feed, "your turn")
    assert "moves" not in view  # the deal is a move
    assert "Your card" in view["board"]


async def test_an_action_of_an_earlier_turn_is_refused() -> None:
    async with opened() as games:
        game = games.find(await games.start("tic_tac_toe", 0, "random", model=False))
        view = await wait_for(game.feed, "your turn")
        with pytest.raises(PlayError, match="not legal"):
            game.act(9, view["request"])
        game.act(0, view["request"])
        with pytest.raises(PlayError, match="not your turn any more"):
            game.act(1, view["request"])


@pytest.mark.parametrize(
    ("game", "seat", "opponent"),
    [
        ("os:System", 0, "random"),
        ("tic_tac_toe", 2, "random"),
        ("tic_tac_toe", 0, "human"),
        ("kuhn_poker", 0, "minimax"),
    ],
)
async def test_what_cannot_be_played_is_refused(game: str, seat: int, opponent: str) -> None:
    async with opened() as games:
        with pytest.raises(ValueError, match=r"games|seats|none of|minimax"):
            await games.start(game, seat, opponent, model=False)


async def test_the_longest_unused_game_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "MAX_GAMES", 2)
    async with opened() as games:
        first, second, third = [
            await games.start("tic_tac_toe", 0, "random", model=False) for _ in range(3)
        ]
        with pytest.raises(PlayError, match="not open any more"):
            games.find(first)
        games.find(second)
        games.find(third)


async def test_an_unreachable_model_ends_the_game_with_the_reason(quick_refusal: None) -> None:
    async with opened() as games:
        game = games.find(await games.start("tic_tac_toe", 1, "hf_model", model=True))
        view = await wait_for(game.feed, "ended")
    assert view["problem"]
