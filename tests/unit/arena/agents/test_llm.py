"""The agent of a language model: its calls, and how it uses the replies."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from arena.agents.base import Answer, AnswerStatus, Turn
from arena.agents.calls import ModelCall, ModelReply
from arena.agents.llm import make_schema
from arena.agents.prompt import as_text, build_prompt
from arena.agents.registry import build_agent
from arena_llm import NotFoundError
from tests.support.game_turns import playout, read_agent, turn_after


class Model:
    """Gives a fixed reply and stores the calls."""

    def __init__(self, text: str = "", **reply: Any) -> None:
        self.reply = ModelReply(text, "hf_answered", 12.5, **reply)
        self.calls: list[ModelCall] = []

    async def __call__(self, call: ModelCall) -> ModelReply:
        self.calls.append(call)
        return self.reply


async def _act(model: Model, turn: Turn, *before: Answer, **settings: Any) -> Answer:
    agent = build_agent(read_agent({"type": "llm", "model": "hf_m", **settings}))
    return await agent.act(turn, before, model)


def _json(action: object) -> str:
    return json.dumps({"reasoning": "I like it.", "action": action})


async def test_a_json_reply_has_a_preferred_schema() -> None:
    turn = turn_after("tic_tac_toe", [4])
    model = Model(
        _json("o(0,2)"), reasoning="Hm.", prompt_tokens=300, completion_tokens=20,
        reasoning_tokens=5, cost_picousd=25 * 10**10,
    )  # fmt: skip
    answer = await _act(model, turn)
    messages = build_prompt(turn, "json")
    schema = make_schema([action.text for action in turn.legal])
    assert model.calls == [ModelCall("hf_m", messages, preferred_schema=schema)]
    assert answer == Answer(
        AnswerStatus.OK, 2, prompt=as_text(messages), reply=_json("o(0,2)"),
        reasoning="Hm.\n\nI like it.", call=model.reply, reading="strict",
    )  # fmt: skip


async def test_the_next_call_shows_the_illegal_reply() -> None:
    turn, model = turn_after("tic_tac_toe", [4]), Model(_json("o(1,1)"))
    first = await _act(model, turn)
    assert (first.status, first.action, first.reasoning) == (
        AnswerStatus.ILLEGAL,
        None,
        "I like it.",
    )
    await _act(model, turn, first)
    assert model.calls[1].messages == (
        *model.calls[0].messages,
        ("assistant", _json("o(1,1)")),
        build_prompt(turn, "json", [first])[-1],
    )
    assert '"o(1,1)" is not a legal action' in model.calls[1].messages[-1][1]


async def test_a_truncated_reply_is_named_as_such() -> None:
    turn = turn_after("tic_tac_toe")
    cut = {"finish_reason": "length", "completion_tokens": 8}
    answer = await _act(Model('{"reasoning": "Well', **cut), turn)
    assert answer.status is AnswerStatus.UNPARSEABLE
    assert answer.problem.endswith("(it was cut off after 8 tokens)")
    whole = await _act(Model(_json("x(0,0)"), **cut), turn)
    assert (whole.status, whole.problem) == (AnswerStatus.OK, "")
    choice = await _act(Model("", **cut), turn, reply="choices")
    assert (choice.status, choice.problem) == (
        AnswerStatus.UNPARSEABLE,
        "the reply is empty (it was cut off after 8 tokens)",
    )


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("refusal", "the model refused to answer"),
        ("content_filter", "the provider's content filter removed it"),
        ("context", "it was cut off because the model's context is full"),
        ("tool_calls", "it is a tool call"),
    ],
)
async def test_a_reply_without_a_text_is_a_wrong_answer(end: str, why: str) -> None:
    answer = await _act(Model("", finish_reason=end, refusal="I can't."), turn_after("nim"))
    assert answer.status is AnswerStatus.UNPARSEABLE
    assert answer.problem == f"the reply is empty ({why})"
    assert answer.reply == "I can't."


async def test_only_the_given_settings_are_sent() -> None:
    settings: dict[str, Any] = {
        "temperature": 0, "top_p": 0.5, "top_k": 3, "max_tokens": 9, "stop": ["\n"],
        "presence_penalty": 1, "frequency_penalty": -1, "provider_options": {"order": ["a"]},
        "reasoning_effort": "low", "logit_bias": {7: -100}, "top_logprobs": 2,
        "template_arguments": {"enable_thinking": False},
        "routing": {"providers": ["a", "b"], "allow_fallbacks": False},
    }  # fmt: skip
    turn, model = turn_after("kuhn_poker", [0, 1], seed=2**62 + 5), Model(_json("Bet"))
    await _act(model, turn)
    await _act(model, turn, **settings, send_seed=True, timeout_seconds=2.5, system="Short.")
    assert [call.sampling for call in model.calls] == [
        {},
        settings | {"seed": 5, "timeout": 2.5},  # the contract's seeds have 53 bits
    ]
    assert model.calls[1].messages[0] == ("system", "Short.")
    # As JSON can hold them, except that its keys are texts.
    assert json.loads(json.dumps(model.calls[1].sampling)) == model.calls[1].sampling | {
        "logit_bias": {"7": -100}
    }


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"store_tokens": True}, {"top_logprobs": 0}),
        ({"store_tokens": True, "token_ids": True}, {"token_ids": True}),
        ({"store_tokens": True, "top_logprobs": 3}, {"top_logprobs": 3}),
        ({"store_tokens": False}, {}),
    ],
)
async def test_tokens_are_requested_if_they_are_stored(
    settings: dict[str, Any], sent: dict[str, Any]
) -> None:
    model = Model(_json("1;"))
    await _act(model, turn_after("nim"), **settings)
    assert model.calls[0].sampling == sent
    assert model.calls[0].store_tokens == settings["store_tokens"]


async def test_choices_are_the_legal_actions() -> None:
    turn, model = turn_after("kuhn_poker", [0, 1]), Model("Bet")
    answer = await _act(model, turn, reply="choices", temperature=0)
    assert model.calls == [
        ModelCall(
            "hf_m", build_prompt(turn, "choices"), {"temperature": 0}, choices=("Pass", "Bet")
        )
    ]
    assert (answer.status, answer.action, answer.reply) == (AnswerStatus.OK, 1, "Bet")
    # The reply is checked even if the backend enforces the choices.
    assert (await _act(Model("Raise"), turn, reply="choices")).status is AnswerStatus.ILLEGAL


async def test_scores_pick_the_likeliest_action() -> None:
    turn = turn_after("leduc_poker", [0, 5, 2])
    model = Model(logprobs=(-2.0, -0.5, -3.0))
    answer = await _act(model, turn, reply="score", max_tokens=5, temperature=9, send_seed=True)
    assert model.calls == [
        ModelCall(
            "hf_m", build_prompt(turn, "score"), continuations=('"Fold"', '"Call"', '"Raise"')
        )
    ]
    await _act(model, turn, reply="score", template_arguments={"x": 1})
    assert model.calls[1].sampling == {"template_arguments": {"x": 1}}
    assert (answer.status, answer.action) == (AnswerStatus.OK, 1)
    assert json.loads(answer.reply) == {"Fold": -2.0, "Call": -0.5, "Raise": -3.0}


@pytest.mark.parametrize("spec", ["hex", "go(board_size=19)", "goofspiel", "hive"])
async def test_no_scored_text_is_a_prefix_of_another(spec: str) -> None:
    """k1 is a prefix of k10: its probability would include that of k10."""
    turn = next(playout(spec))
    model = Model(logprobs=tuple(-float(place) for place in range(len(turn.legal))))
    await _act(model, turn, reply="score")
    (call,) = model.calls
    texts = sorted(call.continuations or ())
    assert [json.loads(text) for text in call.continuations or ()] == [a.text for a in turn.legal]
    # In sorted order, a prefix stands directly before a text that it begins.
    assert [text for text, after in pairwise(texts) if after.startswith(text)] == []
    ((_, prompt),) = call.messages
    assert [text for text in texts if text not in prompt] == []


@pytest.mark.parametrize(
    ("temperature", "weights"),
    [
        (None, (0.1, 0.6, 0.3)),
        (1, (0.1, 0.6, 0.3)),
        (0.5, (0.01 / 0.46, 0.36 / 0.46, 0.09 / 0.46)),
        (0, (0, 1, 0)),
    ],
)
async def test_scores_are_sampled_by_probability(
    temperature: float | None, weights: tuple[float, ...]
) -> None:
    draws = 500
    tolerance = 4 * math.sqrt(0.25 / draws)  # 4 standard deviations of a share, at most
    model = Model(logprobs=tuple(math.log(share / 1000) for share in (0.1, 0.6, 0.3)))
    settings = {"reply": "score", "score_pick": "sample", "temperature": temperature}
    first = turn_after("leduc_poker", [0, 5, 2])
    turns = [replace(first, seed=seed) for seed in range(draws)]
    drawn = [(await _act(model, turn, **settings)).action for turn in turns]
    counts = Counter(drawn)
    assert [counts[action] / draws for action in range(3)] == pytest.approx(weights, abs=tolerance)
    again = await _act(model, turns[17], **settings)
    assert again.action == drawn[17]


async def test_an_impossible_action_is_never_sampled() -> None:
    turn = turn_after("leduc_poker", [0, 5, 2])
    settings = {"reply": "score", "score_pick": "sample"}
    one = Model(logprobs=(-math.inf, -700.0, -math.inf))
    none = Model(logprobs=(-math.inf, -math.inf, -math.inf))
    assert (await _act(one, turn, **settings)).action == 1
    assert (await _act(none, turn, **settings)).action == 0


async def test_errors_of_the_call_are_raised() -> None:
    async def broken(call: ModelCall) -> ModelReply:
        raise NotFoundError("no such model", reason="MODEL_NOT_FOUND")

    agent = build_agent(read_agent({"type": "llm", "model": "hf_m"}))
    with pytest.raises(NotFoundError):
        await agent.act(turn_after("tic_tac_toe"), (), broken)
