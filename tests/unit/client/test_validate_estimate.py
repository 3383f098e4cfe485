"""Tokens and dollars of an experiment, worked out by hand."""

from __future__ import annotations

import pytest

from arena_llm.errors import InvalidArgumentError
from arena_llm.types import Credits, ModelState, Price
from arena_llm.validation import Plan, Status, Verdict, Work, estimate, plan
from arena_llm.validation.games import GAMES, UNKNOWN_GAME
from arena_llm.validation.verdict import FREE

GPT, CLAUDE = "openrouter_openai/gpt-4o", "openrouter_anthropic/claude-3.5-sonnet"


def verdict(model: str, price: Price | None = None, left: Credits | None = None) -> Verdict:
    backend = model.partition("_")[0]
    return Verdict(model, backend, Status.OK, ModelState.READY, price=price, credits=left)


def agent(model: str) -> dict[str, str]:
    return {"type": "llm", "model": model}


def test_a_single_model_plays_every_seat() -> None:
    config = {"models": [GPT], "games": ["tic_tac_toe"], "episodes": 10}
    (work,) = plan(config).works
    # 10 episodes, 2 seats, 7.6 / 2 moves each.
    assert work == Work(GPT, "tic_tac_toe", pytest.approx(76), 303, 150)
    assert plan(config).notes == ()


def test_an_agent_has_one_seat() -> None:
    agents = {"player_0": agent(GPT), "player_1": {"type": "random"}}
    (work,) = plan({"agents": agents, "games": ["tic_tac_toe"], "num_episodes": 10}).works
    assert work.calls == pytest.approx(38)
    agents["player_1"] = agent(GPT)
    (work,) = plan({"agents": agents, "games": ["tic_tac_toe"], "num_episodes": 10}).works
    assert work.calls == pytest.approx(76)


def calls(config: dict[str, object]) -> dict[str, float]:
    """Calls of each model in matrix games, in which each player moves once an episode."""
    found = plan({"games": ["matrix_pd"], **config}).works
    return {work.model: work.calls for work in found}


KUHN_3 = [{"name": "kuhn_poker", "params": {"players": 3}, "estimate": {"plies": 3}}]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # 3 pairs, 2 seatings each: every model sits 4 times.
        ({"models": ["a", "b", "c"]}, {"a": 4, "b": 4, "c": 4}),
        ({"models": ["a", "b", "c"], "swap_seats": False}, {"a": 2, "b": 2, "c": 2}),
        ({"models": ["a", "b", "c"], "episodes": 5}, {"a": 20, "b": 20, "c": 20}),
        # Each model against each opponent, both ways.
        ({"models": ["a", "b"], "opponents": {"r": {"type": "random"}}}, {"a": 2, "b": 2}),
        (
            {"models": ["a", "b"], "opponents": {"r": {"type": "random"}, "x": agent("c")}},
            {"a": 4, "b": 4, "c": 4},
        ),
        # One opponent takes both other seats, in three rotations.
        ({"models": ["a"], "opponents": {"x": agent("c")}, "games": KUHN_3}, {"a": 3, "c": 6}),
        ({"models": ["a", "b", "c"], "games": KUHN_3}, {"a": 3, "b": 3, "c": 3}),
        ({"models": ["a"], "games": ["kuhn_poker(players=3)"], "estimate": {"plies": 3}}, {"a": 3}),
        ({"agents": {"x": agent("a"), "y": agent("b")}}, {"a": 1, "b": 1}),
        ({"agents": {"x": agent("a"), "y": agent("b")}, "swap_seats": True}, {"a": 2, "b": 2}),
        # A game that was not measured has as many seats as there are agents.
        (
            {
                "agents": {"x": agent("a"), "y": agent("b"), "z": agent("a")},
                "games": ["mine"],
                "estimate": {"plies": 3},
            },
            {"a": 2, "b": 1},
        ),
        # No more plies than are played.
        ({"models": ["a"], "games": [{"name": "chess", "max_plies": 10}]}, {"a": 10}),
    ],
)
def test_who_plays_whom(config: dict[str, object], expected: dict[str, float]) -> None:
    assert calls(config) == pytest.approx(expected)


def test_a_models_own_bound_comes_first() -> None:
    config = {
        "models": [{"name": "hf_a", "max_tokens": 20}, "hf_b"],
        "games": ["hex"],
        "max_tokens": 40,
    }
    assert completions(config) == {"hf_a": 20, "hf_b": 40}


def test_games_models_and_episodes_multiply() -> None:
    games = ["kuhn_poker", {"name": "hex", "episodes": 3}]
    found = plan({"models": ["hf_a", "hf_b"], "games": games, "episodes": 5}).works
    assert [(work.model, work.game, round(work.calls, 1)) for work in found] == [
        ("hf_a", "kuhn_poker", 11.0),
        ("hf_b", "kuhn_poker", 11.0),
        ("hf_a", "hex", 320.7),
        ("hf_b", "hex", 320.7),
    ]


@pytest.mark.parametrize(("most", "tokens"), [(None, 150), (64, 64), (4096, 150)])
def test_max_tokens_bounds_the_completion(most: int | None, tokens: int) -> None:
    config = {"models": ["hf_a"], "games": ["hex"], "max_tokens": most}
    assert plan(config).works[0].completion_tokens == tokens


def test_the_reply_decides_how_much_is_generated() -> None:
    config = {
        "agents": {
            "own": agent("a") | {"reply": "json"},
            "general": agent("b"),
            "bounded": agent("c") | {"max_tokens": 4},
            "scoring": agent("d") | {"reply": "score"},
        },
        "reply": "choices",
        "games": ["mine"],
    }
    assert completions(config) == {"a": 150, "b": 10, "c": 4, "d": 0}
    # A model that thinks before it chooses; one that only scores generates nothing ever.
    config["estimate"] = {"completion_tokens": 800}
    assert completions(config) == {"a": 800, "b": 800, "c": 4, "d": 0}


def completions(config: dict[str, object]) -> dict[str, float]:
    return {work.model: work.completion_tokens for work in plan(config).works}


def test_assumptions_can_be_replaced() -> None:
    config = {
        "models": ["hf_a"],
        "episodes": 4,
        "max_tokens": 100,
        "estimate": {"plies": 10, "prompt_tokens": 500, "completion_tokens": 400},
        "games": ["chess", {"name": "mine", "estimate": {"plies": 20, "completion_tokens": 50}}],
    }
    found = plan(config)
    assert found.works == (Work("hf_a", "chess", 40, 500, 100), Work("hf_a", "mine", 80, 500, 50))
    assert found.notes == ()


def test_a_game_that_was_not_measured_is_told() -> None:
    found = plan({"models": ["hf_a"], "games": ["mine", "hex(board_size=5)"]})
    assert [work.calls for work in found.works] == [UNKNOWN_GAME.moves, GAMES["hex"].moves]
    assert found.notes == (
        "mine: not measured, counted as an average game with 60 plies an episode",
        "hex(board_size=5): not measured, counted as that game's defaults with 106.9 plies "
        "an episode",
    )


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "games"),
        ({"games": []}, "games"),
        ({"games": "hex"}, "games"),
        ({"games": [7]}, "games[0]"),
        ({"games": ["hex", {"episodes": 2}]}, "games[1]"),
        ({"games": [{"name": "hex", "episodes": 0}]}, "games[0].episodes"),
        ({"games": ["hex"], "episodes": -1}, "episodes"),
        ({"games": ["hex"], "episodes": 10**400}, "episodes"),
        ({"games": ["hex"], "num_episodes": 2.5}, "num_episodes"),
        ({"games": ["hex"], "episodes": True}, "episodes"),
        ({"games": ["hex"], "max_tokens": "many"}, "max_tokens"),
        ({"games": ["hex"], "estimate": 7}, "estimate"),
        ({"games": ["hex"], "estimate": {"plys": 7}}, "estimate.plys"),
        ({"games": ["hex"], "estimate": {"plies": float("nan")}}, "estimate.plies"),
        ({"games": [{"name": "hex", "estimate": {"plies": 0}}]}, "games[0].estimate.plies"),
        ({"games": [{"name": "hex", "max_plies": 0}]}, "games[0].max_plies"),
        (
            {"games": [{"name": "kuhn_poker", "params": {"players": 3}}], "models": ["a", "b"]},
            "games[0]",
        ),
        (
            {"games": ["hex"], "models": [{"name": "hf_b", "max_tokens": 0}]},
            "models[0].max_tokens",
        ),
        (
            {"games": ["hex"], "models": ["hf_b", {"name": "x", "max_tokens": [1]}]},
            "models[1].max_tokens",
        ),
        ({"games": ["hex"], "reply": "free"}, "reply"),
        ({"games": ["hex"], "opponents": {"x": agent("c") | {"reply": []}}}, "opponents.x.reply"),
    ],
)
def test_a_wrong_value_names_its_key(config, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        plan({"models": ["hf_a"], **config})
    assert (caught.value.reason, caught.value.field) == ("INVALID_CONFIG", field)
    assert caught.value.message.startswith(f"{field}: ")


def test_dollars_by_hand() -> None:
    works = (
        Work(GPT, "hex", 100, 200, 50),
        Work(GPT, "chess", 50, 400, 50),
        Work("hf_a", "hex", 100, 200, 50),
        Work("litellm_x/y", "hex", 10, 200, 50),
    )
    verdicts = [
        verdict(GPT, Price(2e-6, 10e-6), Credits(balance_usd=10)),
        verdict("hf_a", FREE),
        verdict("litellm_x/y"),
    ]
    found = estimate(Plan(works, ("a note",)), verdicts)
    gpt, local, unknown = found.models
    # 100 x 200 + 50 x 400 = 40,000 at $2, and 150 x 50 = 7,500 at $10 a million.
    assert (gpt.calls, gpt.prompt_tokens, gpt.completion_tokens) == (150, 40_000, 7_500)
    assert gpt.usd == pytest.approx(0.155)
    assert (local.usd, local.prompt_tokens) == (0, 20_000)
    assert (unknown.usd, unknown.prompt_tokens) == (None, 2_000)
    assert found.usd == pytest.approx(0.155)
    assert found.unpriced == ("litellm_x/y",)
    assert found.warnings == ("litellm_x/y: no price is known (see `arena-llm models`)",)
    assert (found.failures, found.notes) == ((), ("a note",))


def spend(*usd: float, left: Credits | None) -> tuple[int, int]:
    """How many failures and warnings there are for models that cost as much, of one key."""
    names = [f"openrouter_{index}" for index in range(len(usd))]
    verdicts = [verdict(name, Price(cost, 0), left) for name, cost in zip(names, usd, strict=True)]
    found = estimate(Plan(tuple(Work(name, "hex", 1, 1, 1) for name in names)), verdicts)
    return len(found.failures), len(found.warnings)


@pytest.mark.parametrize(
    ("usd", "left", "found"),
    [
        ([7.9], Credits(10), (0, 0)),
        ([8.1], Credits(10), (0, 1)),
        ([10.1], Credits(10), (1, 0)),
        # A key's models share its credits, which count once.
        ([4, 3.9], Credits(10), (0, 0)),
        ([4, 4.1], Credits(10), (0, 1)),
        ([6, 6], Credits(10), (1, 0)),
        # The account's balance and the key's limit: the lower one ends the run.
        ([5], Credits(100, 4), (1, 0)),
        ([5], Credits(4, 100), (1, 0)),
        ([5], Credits(None, 100), (0, 0)),
        ([5], Credits(), (0, 0)),
        ([5], None, (0, 0)),
        ([0], Credits(0), (0, 0)),
    ],
)
def test_credits(usd: list[float], left: Credits | None, found: tuple[int, int]) -> None:
    assert spend(*usd, left=left) == found


def test_a_lower_bound_is_told_as_one() -> None:
    works = (Work(GPT, "hex", 1, 1, 1), Work(CLAUDE, "hex", 1, 1, 1))
    verdicts = [verdict(GPT, Price(3, 0), Credits(2)), verdict(CLAUDE)]
    found = estimate(Plan(works), verdicts)
    assert found.failures == ("openrouter: at least $3.00 to be spent, $2.00 of credits left",)
    assert found.unpriced == (CLAUDE,)


def test_a_model_without_a_verdict_has_no_price() -> None:
    assert estimate(Plan((Work(GPT, "hex", 1, 1, 1),)), []).unpriced == (GPT,)
