"""Prompts as data: templates, the order of actions, examples, personas, conversations."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from arena.agents.base import Answer, AnswerStatus, Turn
from arena.agents.calls import ModelCall, ModelReply
from arena.agents.prompt import as_text, build_prompt
from arena.agents.registry import build_agent
from arena.agents.settings import PromptSettings
from tests.support.game_turns import playout, read_agent, turn_after


def prompt_of(turn: Turn, reply: Any = "json", **settings: Any) -> str:
    return as_text(build_prompt(turn, reply, prompt=PromptSettings(**settings)))


def listed(prompt: str) -> list[str]:
    part = re.split(r"Legal actions, one per line.*:\n", prompt)[-1].partition("\n\nYour")[0]
    return part.splitlines()


def test_the_order_of_the_legal_actions() -> None:
    turn = turn_after("tic_tac_toe", [4])
    usual = [f'"{action.text}"' for action in turn.legal]
    assert listed(prompt_of(turn)) == usual
    assert listed(prompt_of(turn, actions="reversed")) == usual[::-1]
    shuffled = listed(prompt_of(turn, actions="shuffled"))
    assert shuffled != usual
    assert sorted(shuffled) == usual
    assert listed(prompt_of(turn, actions="shuffled")) == shuffled
    # Each action comes first in about the same number of turns.
    turns = [turn_after("kuhn_poker", [0, 1], seed=seed) for seed in range(200)]
    first = Counter(listed(prompt_of(one, actions="shuffled"))[0] for one in turns)
    assert min(first.values()) > 70


def test_hidden_actions_are_nowhere_in_the_request() -> None:
    turn = turn_after("chess", [])
    prompt = prompt_of(turn, actions="hidden")
    assert "Legal actions" not in prompt
    assert "written as the rules say" in prompt
    assert '"Nh6"' not in prompt


async def test_the_schema_does_not_show_hidden_actions() -> None:
    calls = await _play("chess", {"prompt": {"actions": "hidden"}}, ["Nh6"])
    assert "Nh6" not in calls[0].preferred_schema
    assert json.loads(calls[0].preferred_schema)["properties"]["action"] == {"type": "string"}
    calls = await _play("chess", {}, ["Nh6"])
    assert "Nh6" in json.loads(calls[0].preferred_schema)["properties"]["action"]["enum"]
    assert (await _play("chess", {"reply": "free"}, ["Nh6"]))[0].preferred_schema == ""


def test_examples_are_turns_of_another_game_in_the_right_format() -> None:
    turn = turn_after("kuhn_poker", [0, 1, 1])
    for reply in ("json", "choices", "score"):
        messages = build_prompt(turn, reply, prompt=PromptSettings(examples=2))  # type: ignore[arg-type]
        assert [role for role, _ in messages] == ["user", "assistant"] * 2 + ["user"]
        for (_, user), (_, said) in zip(messages[::2], messages[1::2], strict=False):
            assert "An example of the format, from another game." in user
            action = json.loads(said)["action"] if reply == "json" else said
            names = [re.split(r" \(here", line)[0] for line in listed(user)]
            assert (json.dumps(action) if reply == "json" else action) in names
        assert messages[-1][1].startswith("Now your game.\nYou are player 1.\nYour card: Queen")
        assert messages[0][1].startswith(turn.game.text.rules)


def test_a_persona_is_in_the_system_message() -> None:
    turn = turn_after("tic_tac_toe")
    persona = PromptSettings(persona="a careful player")
    assert build_prompt(turn, "json", prompt=persona)[0] == ("system", "You are a careful player.")
    both = build_prompt(turn, "json", system="Be brief.", prompt=persona)[0]
    assert both == ("system", "You are a careful player. Be brief.")
    assert build_prompt(turn, "json")[0][0] == "user"


TEMPLATE = """\
{# of a test #}
{% block turn %}
{{ side }} {{ position|upper }}
{% for action in actions %}[{{ action.name }}]{% endfor %}
{% endblock %}
"""


def test_a_template_of_a_file_changes_its_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "mine.j2"
    path.write_text(TEMPLATE)
    turn = turn_after("kuhn_poker", [0, 1])
    prompt = prompt_of(turn, template=str(path))
    assert prompt.startswith(f"{turn.game.text.rules}\nYour goal: get the highest return you can.")
    assert prompt.endswith(
        'You are player 0. YOUR CARD: JACK\nBETTING SO FAR: NONE\nPOT: 2 CHIPS\n["Pass"]["Bet"]'
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "there is no template"),
        ("{% block turn %}", "cannot be read"),
        ("{% block trun %}{% endblock %}", "has the block 'trun'; blocks are system, how"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_wrong_template_is_refused(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "mine.j2"
    if text is not None:
        path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValidationError, match="template") as caught:
        PromptSettings(template=str(path))
    assert problem in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    "evil", ["{{ ''.__class__.__mro__ }}", "{{ actions.append(1) }}", "{{ missing }}"]
)
def test_a_template_runs_no_code(tmp_path: Path, evil: str) -> None:
    path = tmp_path / "evil.j2"
    path.write_text("{% block turn %}" + evil + "{% endblock %}")
    with pytest.raises(Exception, match=r"unsafe|undefined|not callable|has no attribute"):
        prompt_of(turn_after("tic_tac_toe"), template=str(path))


async def _play(
    spec: str, settings: dict[str, Any], says: list[str], seed: int = 1
) -> list[ModelCall]:
    """The calls of one agent that plays all seats of a random game; each reply in JSON."""
    calls: list[ModelCall] = []

    async def ask(call: ModelCall) -> ModelReply:
        calls.append(call)
        action = says[(len(calls) - 1) % len(says)]
        return ModelReply(json.dumps({"reasoning": "", "action": action}), "m", 1.0)

    agent = build_agent(read_agent({"type": "llm", "model": "hf_m", **settings}))
    for turn in playout(spec, seed):
        if turn.seat == 0:
            answer = await agent.act(turn, (), ask)
            if answer.status is not AnswerStatus.OK and settings.get("on_illegal") == "retry 1":
                await agent.act(turn, (answer,), ask)
        if len(calls) >= 3:
            break
    return calls


async def test_a_conversation_has_the_whole_game_with_the_models_own_replies() -> None:
    settings = {"prompt": {"conversation": True}, "system": "S"}
    # Each reply is illegal from the second turn on, so a random action is played in its place.
    calls = await _play("tic_tac_toe", settings, ["x(0,0)", "x(9,9)", "x(9,9)"])
    first, second, third = (call.messages for call in calls)
    assert [role for role, _ in first] == ["system", "user"]
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert second[2] == ("assistant", '{"reasoning": "", "action": "x(0,0)"}')
    assert [role for role, _ in third] == ["system", *["user", "assistant"] * 2, "user"]
    replaced = third[-1][1]
    assert replaced.startswith(
        'Not accepted: "x(9,9)" is not a legal action. A random action was played instead: x('
    )
    assert "The board" in replaced
    # Only the first message has the rules.
    assert [content.count("Rules:") for _, content in third] == [0, 1, 0, 0, 0, 0]


async def test_a_single_message_forgets_the_replies() -> None:
    calls = await _play("tic_tac_toe", {}, ["x(0,0)"])
    assert all(len(call.messages) == 1 for call in calls)


async def test_a_conversation_of_scores_has_the_actions() -> None:
    agent = build_agent(
        read_agent(
            {"type": "llm", "model": "m", "reply": "score", "prompt": {"conversation": True}}
        )
    )
    seen: list[ModelCall] = []

    async def ask(call: ModelCall) -> ModelReply:
        seen.append(call)
        scores = tuple(-float(place) for place in range(len(call.continuations or ())))
        return ModelReply("", "m", 1.0, logprobs=scores)

    answers: list[Answer] = []
    for turn in playout("tic_tac_toe"):
        if turn.seat == 0 and len(seen) < 2:
            answers.append(await agent.act(turn, (), ask))
    assert seen[1].messages[1] == ("assistant", (seen[0].continuations or ("",))[0])


async def test_the_reading_of_a_reply_is_recorded() -> None:
    async def ask(call: ModelCall) -> ModelReply:
        return ModelReply("Action: x(1, 1)", "m", 1.0)

    turn = turn_after("tic_tac_toe")
    for reader, status, reading in (
        ("lenient", AnswerStatus.OK, "label+spelling, strict: unparseable"),
        ("strict", AnswerStatus.UNPARSEABLE, "none, strict: unparseable"),
    ):
        agent = build_agent(read_agent({"type": "llm", "model": "m", "reader": reader}))
        answer = await agent.act(turn, (), ask)
        assert (answer.status, answer.reading) == (status, reading)
