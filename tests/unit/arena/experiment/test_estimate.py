"""Calls, tokens and dollars of an experiment, compared with figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arena.experiment.budget import Budget
from arena.experiment.checks import CheckStatus, ModelCheck
from arena.experiment.estimate import estimate_cost
from arena.experiment.file import Experiment
from arena.experiment.measure import guess_size, measure_game
from arena.experiment.plan import Plan, Work, make_plan
from arena.games.game import Game
from arena.games.text import UNKNOWN_PLAYOUT, measured_playouts
from arena_llm import Credits, ModelState
from arena_llm.types import FreePrice, Price, PriceTable, PriceUnit, Rate, UnknownPrice
from tests.support.prices import credits_of, price

Load = Callable[..., Experiment]

GPT, CLAUDE = "openrouter_openai/gpt-4o", "openrouter_anthropic/claude-3.5-sonnet"
PAIR = "agents: {x: {type: llm, model: hf_a}, y: {type: llm, model: hf_b}}\n"


def calls(experiment: Experiment) -> dict[str, float]:
    return {work.model: work.calls for work in make_plan(experiment).works}


def completions(experiment: Experiment) -> dict[str, float]:
    return {work.model: work.completion_tokens for work in make_plan(experiment).works}


def test_a_single_model_plays_every_seat(load: Load) -> None:
    plan = make_plan(load("models: [hf_a]\ngames: [tic_tac_toe]\nepisodes: 10"))
    moves, prompt = measured_playouts()["tic_tac_toe"][1:]
    assert plan == Plan((Work("hf_a", "tic_tac_toe", pytest.approx(10 * moves), prompt, 150),))


KUHN_3 = "games: [{name: kuhn_poker, params: {players: 3}, estimate: {plies: 3}}]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Games of one move for each player; every model sits four times in three pairs.
        ("models: [hf_a, hf_b, hf_c]", {"hf_a": 4, "hf_b": 4, "hf_c": 4}),
        ("models: [hf_a, hf_b, hf_c]\nswap_seats: false", {"hf_a": 2, "hf_b": 2, "hf_c": 2}),
        ("models: [hf_a, hf_b]\nopponents: {r: {type: random}}", {"hf_a": 2, "hf_b": 2}),
        (PAIR, {"hf_a": 1, "hf_b": 1}),
        (PAIR + "num_episodes: 4\nswap_seats: true", {"hf_a": 8, "hf_b": 8}),
        ("models: [hf_a, {name: hf_a, as: hot, temperature: 1}]", {"hf_a": 4}),
        # Three seats: the opponent takes two of them, in three rotations.
        (
            KUHN_3 + "models: [hf_a]\nopponents: {x: {type: llm, model: hf_c}}",
            {"hf_a": 3, "hf_c": 6},
        ),
        # A game that is cut off.
        ("models: [hf_a]\ngames: [{name: chess, max_plies: 10}]", {"hf_a": 10}),
    ],
)
def test_calls(load: Load, text: str, expected: dict[str, float]) -> None:
    games = "" if "games:" in text else "games: [matrix_pd]\n"
    assert calls(load(games + text)) == pytest.approx(expected)


def test_the_reply_format_and_max_tokens_decide_the_completion_tokens(load: Load) -> None:
    text = """
games: [matrix_pd]
models:
  - hf_choices
  - {name: hf_json, reply: json}
  - {name: hf_short, reply: json, max_tokens: 4}
  - {name: hf_long, reply: json, max_tokens: 4096}
  - {name: hf_score, reply: score}
reply: choices
"""
    expected = {"hf_choices": 10, "hf_json": 150, "hf_short": 4, "hf_long": 150, "hf_score": 0}
    assert completions(load(text)) == expected
    more = {"hf_choices": 800, "hf_json": 800, "hf_short": 4, "hf_long": 800, "hf_score": 0}
    assert completions(load(text + "estimate: {completion_tokens: 800}")) == more


def test_assumptions_of_the_file(load: Load) -> None:
    plan = make_plan(
        load(
            """
            models: [hf_a]
            episodes: 4
            max_tokens: 100
            estimate: {plies: 10, prompt_tokens: 500, completion_tokens: 400}
            games: [chess, {name: hex, estimate: {plies: 20, completion_tokens: 50}}]
            """
        )
    )
    assert plan == Plan((Work("hf_a", "chess", 40, 500, 100), Work("hf_a", "hex", 80, 500, 50)))


def test_a_game_with_parameters_is_measured(load: Load) -> None:
    """A small board needs far fewer moves and shorter prompts than the default one."""
    text = "models: [hf_a]\ngames: [hex, {name: hex, params: {board_size: 3}}]"
    plan = make_plan(load(text))
    default, small = plan.works
    assert default.calls == pytest.approx(measured_playouts()["hex"].moves)
    # A win on 3 x 3 takes at least 5 moves, and the board has 9 cells.
    assert 5 <= small.calls <= 9
    assert 200 < small.prompt_tokens < default.prompt_tokens
    assert plan.notes == ()


def test_an_episode_without_an_end_counts_with_its_moves_so_far() -> None:
    size = measure_game(Game.load("go"), len, seconds=0)
    assert (size.players, size.moves) == (2, 1)
    assert size.prompt_tokens > 1000


def test_a_game_that_cannot_be_measured_is_guessed(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "arena.experiment.plan.measure_games", lambda specs: dict.fromkeys(specs, "too slow")
    )
    plan = make_plan(load("models: [hf_a]\ngames: [hex(board_size=3)]"))
    moves = measured_playouts()["hex"].moves
    assert plan.works[0].calls == pytest.approx(moves)
    assert plan.notes == (f"hex(board_size=3): assumed {moves:g} moves an episode (too slow)",)
    # Each of three players makes as many moves as with two players.
    kuhn = measured_playouts()["kuhn_poker"]
    assert guess_size("kuhn_poker(players=3)", 3).moves == pytest.approx(kuhn.moves * 1.5)
    assert guess_size("never_heard_of", 2) == UNKNOWN_PLAYOUT


def check(model: str, price: Price | None = None, credits: Credits | None = None) -> ModelCheck:
    backend = model.partition("_")[0]
    return ModelCheck(
        model, backend, CheckStatus.OK, ModelState.READY, price=price, credits=credits
    )


def test_dollars() -> None:
    works = (
        Work(GPT, "hex", 100, 200, 50),
        Work(GPT, "chess", 50, 400, 50),
        Work("hf_a", "hex", 100, 200, 50),
        Work("litellm_x/y", "hex", 10, 200, 50),
    )
    checks = [
        check(GPT, price(2e-6, 10e-6), credits_of(10)),
        check("hf_a", FreePrice()),
        check("litellm_x/y"),
    ]
    costs = estimate_cost(Plan(works, ("a note",)), checks)
    gpt, local, unknown = costs.models
    # 100 x 200 + 50 x 400 = 40,000 at $2, and 150 x 50 = 7,500 at $10 a million.
    assert (gpt.calls, gpt.prompt_tokens, gpt.completion_tokens) == (150, 40_000, 7_500)
    assert gpt.picousd == 155 * 10**9
    assert (local.picousd, local.prompt_tokens) == (0, 20_000)
    assert (unknown.picousd, unknown.prompt_tokens) == (None, 2_000)
    assert (costs.picousd, costs.at_least) == (155 * 10**9, True)
    assert costs.unpriced == ("litellm_x/y",)
    assert costs.warnings == ("litellm_x/y: its price is unknown",)
    assert (costs.failures, costs.notes) == ((), ("a note",))
    assert estimate_cost(Plan(works[:1]), []).unpriced == (GPT,)


@pytest.mark.parametrize(
    ("usd", "credits", "problems"),
    [
        ([7.9], credits_of(10), (0, 0)),
        ([8.1], credits_of(10), (0, 1)),
        ([10.1], credits_of(10), (1, 0)),
        # The models of one key share its credits.
        ([4, 3.9], credits_of(10), (0, 0)),
        ([4, 4.1], credits_of(10), (0, 1)),
        ([6, 6], credits_of(10), (1, 0)),
        # The lower one of the account's balance and the key's limit counts.
        ([5], credits_of(100, 4), (1, 0)),
        ([5], credits_of(4, 100), (1, 0)),
        ([5], credits_of(None, 100), (0, 0)),
        ([5], None, (0, 0)),
        ([0], credits_of(0), (0, 0)),
    ],
)
def test_credits(usd: list[float], credits: Credits | None, problems: tuple[int, int]) -> None:
    names = [f"openrouter_{index}" for index in range(len(usd))]
    checks = [check(name, price(cost, 0), credits) for name, cost in zip(names, usd, strict=True)]
    costs = estimate_cost(Plan(tuple(Work(name, "hex", 1, 1, 1) for name in names)), checks)
    assert (len(costs.failures), len(costs.warnings)) == problems


def test_a_cost_with_an_unknown_part_is_a_lower_bound() -> None:
    works = (Work(GPT, "hex", 1, 1, 1), Work(CLAUDE, "hex", 1, 1, 1))
    costs = estimate_cost(Plan(works), [check(GPT, price(3, 0), credits_of(2)), check(CLAUDE)])
    assert costs.failures == (
        "openrouter: will cost at least $3.00, and $2.00 of credits are left",
    )


@pytest.mark.parametrize(
    ("budget", "warning"),
    [
        (Budget(6.0, 300_000), None),
        (Budget(4.5), "about $5.00 is over max_cost_usd 4.5: the run will stop before its end"),
        (Budget(None, 299_999), "about 300,000 tokens is over max_tokens_total 299,999: the run"),
    ],
)
def test_an_estimate_over_the_budget_is_a_warning(budget: Budget, warning: str | None) -> None:
    plan = Plan((Work(GPT, "hex", 1000, 200, 100),))
    costs = estimate_cost(plan, [check(GPT, price(20e-6, 10e-6))], budget)
    assert (costs.picousd, costs.at_least) == (5 * 10**12, False)
    assert len(costs.warnings) == (warning is not None)
    assert all(line.startswith(warning or "") for line in costs.warnings)


PROMPT, COMPLETION = PriceUnit.PROMPT_TOKEN, PriceUnit.COMPLETION_TOKEN


@pytest.mark.parametrize(
    ("rates", "picousd", "at_least"),
    [
        # Ten calls of 200 and 50 tokens.
        ([(PROMPT, 3), (COMPLETION, 5)], 10 * (600 + 250), False),
        ([(PROMPT, 3), (COMPLETION, 5), (PriceUnit.REQUEST, 7)], 10 * (600 + 250 + 7), False),
        # A higher price holds for prompts of more tokens than its limit.
        ([(PROMPT, 3), (PROMPT, 6, 199), (COMPLETION, 5)], 10 * (1200 + 250), False),
        ([(PROMPT, 6, 200), (PROMPT, 3), (COMPLETION, 5)], 10 * (600 + 250), False),
        # Caches and images only make prompts cheaper or do not occur.
        ([(PROMPT, 3), (COMPLETION, 5), (PriceUnit.CACHED_TOKEN, 1)], 8500, False),
        # How many of the completion tokens are reasoning is not known.
        ([(PROMPT, 3), (COMPLETION, 5), (PriceUnit.REASONING_TOKEN, 9)], 8500, True),
        ([(PROMPT, 3), (COMPLETION, 5), (PriceUnit.REASONING_TOKEN, 5)], 8500, False),
        ([(PROMPT, 3), (COMPLETION, 5), (PriceUnit.UNKNOWN, 9)], 8500, True),
        ([(PriceUnit.UNKNOWN, 9)], None, False),
    ],
)
def test_a_price_table(rates: list[tuple[Any, ...]], picousd: int | None, at_least: bool) -> None:
    table = PriceTable(tuple(Rate(*rate) for rate in rates))
    costs = estimate_cost(Plan((Work(GPT, "hex", 10, 200, 50),)), [check(GPT, table)])
    (model,) = costs.models
    assert (model.picousd, model.at_least) == (picousd, at_least)
    assert costs.at_least == (at_least or picousd is None)


def test_an_unknown_price_is_not_free() -> None:
    plan = Plan((Work(GPT, "hex", 10, 200, 50),))
    costs = estimate_cost(plan, [check(GPT, UnknownPrice("not in the list"))])
    assert (costs.picousd, costs.unpriced) == (0, (GPT,))
    assert costs.warnings == (f"{GPT}: its price is unknown (not in the list)",)
