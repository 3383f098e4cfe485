"""Prompts: their order, the format of the reply, and retries."""

from __future__ import annotations

import pytest

from arena.agents.base import Answer, AnswerStatus
from arena.agents.prompt import ReplyFormat, as_text, build_prompt
from tests.support.game_turns import playout, turn_after

GAMES = [
    "tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker", "matrix_pd", "matching_pennies",
    "matrix_rps", "hex(board_size=5)", "breakthrough", "liars_dice", "chess", "othello",
]  # fmt: skip


@pytest.mark.parametrize("spec", GAMES)
def test_the_text_that_stays_the_same_comes_first(spec: str) -> None:
    prompts = [as_text(build_prompt(turn, "json")) for turn in playout(spec, most=6)]
    opening = prompts[0].partition("You are player")[0]
    assert [prompt for prompt in prompts if not prompt.startswith(opening)] == []
    assert "Reply with one JSON object" in opening
    assert "Returns: " in opening


def test_a_prompt_reads_from_the_rules_to_the_legal_actions() -> None:
    turn = turn_after("tic_tac_toe", [4])
    assert build_prompt(turn, "json") == (
        (
            "user",
            f"""{turn.game.text.rules}
Your goal: get the highest return you can.

Reply with one JSON object and nothing else: no text around it, no code fence.
{{"reasoning": "<your reasoning, in brief>", "action": "<a legal action, exactly as listed>"}}

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . . .
1 . x .
2 . . .
Legal actions, one per line:
"o(0,0)"
"o(0,1)"
"o(0,2)"
"o(1,0)"
"o(1,2)"
"o(2,0)"
"o(2,1)"
"o(2,2)"

Your JSON object:""",
        ),
    )


@pytest.mark.parametrize(
    ("reply", "listed", "how"),
    [
        (
            "choices",
            "Pass (here: Fold)\nBet (here: Call)",
            "legal actions, exactly as listed, and nothing",
        ),
        (
            "score",
            '"Pass" (here: Fold)\n"Bet" (here: Call)',
            "in its quotes, exactly as listed, and nothing",
        ),
    ],
)
def test_prompts_for_the_other_reply_formats(reply: ReplyFormat, listed: str, how: str) -> None:
    ((_, prompt),) = build_prompt(turn_after("kuhn_poker", [0, 1, 1]), reply)
    assert prompt.endswith(f"\n{listed}\n\nYour action:")
    assert "(brackets at the end explain an action and are not part of it)" in prompt
    assert how in prompt
    assert "JSON" not in prompt


def test_actions_are_quoted_as_json_strings() -> None:
    # Hive's actions contain backslashes and slashes.
    prompts = [(turn.legal, build_prompt(turn, "json")[0][1]) for turn in playout("hive", most=2)]
    legal, prompt = prompts[1]
    slashed = next(action.text for action in legal if "\\" in action.text)
    assert '"' + slashed.replace("\\", "\\\\") + '"' in prompt


def test_a_retry_shows_each_rejected_reply_and_the_reason() -> None:
    turn = turn_after("tic_tac_toe")
    before = [
        Answer(AnswerStatus.UNPARSEABLE, None, "the reply is empty", reply=""),
        Answer(AnswerStatus.ILLEGAL, None, '"x9" is not a legal action', reply="z" * 5000),
    ]
    first, *rest = build_prompt(turn, "json", before, system="You play well.")
    assert first == ("system", "You play well.")
    assert rest[0] == build_prompt(turn, "json")[0]
    roles, contents = zip(*rest[1:], strict=True)
    assert roles == ("assistant", "user", "assistant", "user")
    assert contents[0] == "(empty reply)"
    assert contents[1].startswith("Not accepted: the reply is empty. Try again.\nReply with one")
    assert contents[2] == "z" * 2000
    assert contents[3].startswith('Not accepted: "x9" is not a legal action. Try again.')


def test_messages_are_shown_as_text_with_their_roles() -> None:
    assert as_text((("user", "Hi"),)) == "Hi"
    assert as_text((("system", "S"), ("user", "U"))) == "[system]\nS\n\n[user]\nU"
