"""Prompts: their order, the reply's format, and what a retry is told."""

from __future__ import annotations

import pytest

from arena.agents.base import Attempt, Status
from arena.agents.prompt import ReplyFormat, as_text, prompt_of
from tests.support.turns import playout, turn_after

GAMES = [
    "tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker", "matrix_pd", "matching_pennies",
    "matrix_rps", "hex(board_size=5)", "breakthrough", "liars_dice", "chess", "othello",
]  # fmt: skip


@pytest.mark.parametrize("spec", GAMES)
def test_what_never_changes_in_a_game_comes_first(spec: str) -> None:
    prompts = [as_text(prompt_of(turn, "json")) for turn in playout(spec, most=6)]
    opening = prompts[0].partition("You are player")[0]
    assert [prompt for prompt in prompts if not prompt.startswith(opening)] == []
    assert "How to reply" in opening
    assert "Returns: " in opening


def test_a_prompt_reads_from_the_rules_to_the_legal_actions() -> None:
    turn = turn_after("tic_tac_toe", [4])
    assert prompt_of(turn, "json") == (
        (
            "user",
            f"""{turn.game.text.rules}
Your goal: get the highest return you can.

How to reply: with one JSON object and nothing else, no text around it, no code fence:
{{"reasoning": "<your reasoning, in short>", "action": "<a legal action, exactly as listed>"}}

You are player 1. Your marks are o.
The board (. is a free cell):
  0 1 2
0 . . .
1 . x .
2 . . .
Legal actions: "o(0,0)", "o(0,1)", "o(0,2)", "o(1,0)", "o(1,2)", "o(2,0)", "o(2,1)", "o(2,2)"

Your JSON object:""",
        ),
    )


@pytest.mark.parametrize(
    ("reply", "listed", "how"),
    [
        ("choices", "Pass (Fold), Bet (Call)", "legal actions, exactly as listed, and nothing"),
        ("score", '"Pass" (Fold), "Bet" (Call)', "in its quotes, exactly as listed, and nothing"),
    ],
)
def test_where_the_reply_is_the_action_alone(reply: ReplyFormat, listed: str, how: str) -> None:
    ((_, told),) = prompt_of(turn_after("kuhn_poker", [0, 1, 1]), reply)
    assert told.endswith(f"\nLegal actions: {listed}\n\nYour action:")
    assert how in told
    assert "JSON" not in told


def test_actions_are_quoted_as_json_will_have_them() -> None:
    # Hive's actions hold backslashes and slashes.
    told = [(turn.legal, prompt_of(turn, "json")[0][1]) for turn in playout("hive", most=2)]
    legal, prompt = told[1]
    slashed = next(action.text for action in legal if "\\" in action.text)
    assert '"' + slashed.replace("\\", "\\\\") + '"' in prompt


def test_a_retry_shows_each_reply_and_what_was_wrong() -> None:
    turn = turn_after("tic_tac_toe")
    before = [
        Attempt(Status.UNPARSEABLE, None, "the reply is empty", reply=""),
        Attempt(Status.ILLEGAL, None, '"x9" is none of the legal actions', reply="z" * 5000),
    ]
    first, *rest = prompt_of(turn, "json", before, system="You play well.")
    assert first == ("system", "You play well.")
    assert rest[0] == prompt_of(turn, "json")[0]
    roles, contents = zip(*rest[1:], strict=True)
    assert roles == ("assistant", "user", "assistant", "user")
    assert contents[0] == "(nothing)"
    assert contents[1].startswith("Not accepted: the reply is empty. Try again.\nHow to reply")
    assert contents[2] == "z" * 2000
    assert contents[3].startswith('Not accepted: "x9" is none of the legal actions. Try again.')


def test_messages_are_shown_as_text_with_their_roles() -> None:
    assert as_text((("user", "Hi"),)) == "Hi"
    assert as_text((("system", "S"), ("user", "U"))) == "[system]\nS\n\n[user]\nU"
