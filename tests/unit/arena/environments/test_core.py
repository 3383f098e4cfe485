"""A program plays games with the arena's prompts, readers and opponents."""

from __future__ import annotations

import json
import random

import pytest

from arena.environments.core import GameEnvironment, Request, Result


async def play_randomly(environment: GameEnvironment, seed: int) -> tuple[list[str], Result]:
    """Play an episode; return the prompts, and the result."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    prompts = []
    now = await environment.reset(seed)
    while isinstance(now, Request):
        prompts.append(now.messages[-1][1])
        now = await environment.play(rng.choice(now.legal).action)
    return prompts, now


GAMES = ["tic_tac_toe", "kuhn_poker", "matrix_pd", "leduc_poker", "hex(board_size=3)", "goofspiel"]


@pytest.mark.parametrize("game", GAMES)
async def test_a_seed_repeats_an_episode(game: str) -> None:
    environment = GameEnvironment(game)
    first, second = [await play_randomly(environment, 5) for _ in range(2)]
    assert first == second
    assert len(first[1].rewards) == environment.game.players


async def test_another_seed_is_another_deal() -> None:
    environment = GameEnvironment("leduc_poker")
    prompts = {(await play_randomly(environment, seed))[0][0] for seed in range(20)}
    assert len(prompts) > 1


@pytest.mark.parametrize("seat", [0, 1])
async def test_the_opponent_plays_the_other_seat(seat: int) -> None:
    environment = GameEnvironment(
        "tic_tac_toe", opponents={1 - seat: {"type": "minimax", "depth": 9}}
    )
    for seed in range(3):
        now = await environment.reset(seed)
        while isinstance(now, Request):
            assert now.seat == seat
            now = await environment.play(now.legal[0].action)
        assert now.rewards[seat] <= 0  # nobody beats minimax


async def test_an_illegal_answer_is_explained_and_asked_again() -> None:
    environment = GameEnvironment("tic_tac_toe", learner={"on_illegal": "retry 1"})
    first = await environment.reset(0)
    assert isinstance(first, Request)
    again = await environment.answer('{"action": "x(9,9)"}')
    assert isinstance(again, Request)
    assert (again.attempt, again.seat) == (1, first.seat)
    assert again.messages[-2][1] == '{"action": "x(9,9)"}'
    result = await environment.answer("I give up.")
    assert isinstance(result, Result)
    assert result.episode.status == "forfeited"
    assert result.rewards == (-1.0, 0.0)


async def test_a_reply_is_read_leniently() -> None:
    environment = GameEnvironment("tic_tac_toe")
    first = await environment.reset(0)
    assert isinstance(first, Request)
    reply = json.dumps({"reasoning": "the centre", "action": "x(1,1)"})
    after = await environment.answer(f"```json\n{reply}\n```")
    assert isinstance(after, Request)
    assert after.seat == 1


async def test_an_episode_can_be_left() -> None:
    environment = GameEnvironment("tic_tac_toe")
    for seed in (1, 2):
        assert isinstance(await environment.reset(seed), Request)
    await environment.close()
    with pytest.raises(ValueError, match="call reset"):
        await environment.answer("x")


async def test_an_illegal_action_is_refused() -> None:
    environment = GameEnvironment("tic_tac_toe")
    await environment.reset(0)
    with pytest.raises(ValueError, match="99 is not legal for seat 0"):
        await environment.play(99)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opponents": {2: {"type": "random"}}}, "has no seat 2"),
        ({"opponents": {0: {"type": "llm", "model": "hf_a"}}}, "seat 0 is a model"),
        ({"opponents": {0: {"type": "random"}, 1: {"type": "random"}}}, "must be left"),
        ({"learner": {"model": "hf_a"}}, "are not among reply"),
        ({"learner": {"reply": "score"}}, "needs a model's probabilities"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GameEnvironment("tic_tac_toe", **options)  # type: ignore[arg-type]
