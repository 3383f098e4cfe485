"""The lenient reader: what it reads by which rule, and that it never invents a choice."""

from __future__ import annotations

import json
import random
import re

import pytest

from arena.agents.base import AnswerStatus
from arena.agents.llm import list_names
from arena.agents.reply import Names, match_action, parse_json, read_leniently
from arena.games.game import LegalAction
from tests.support.game_turns import playout, turn_after

TEXTS = ("e4", "d4", "Nf3+", "O-O", "x(0,0)", "Pass")
LEGAL = tuple(LegalAction(number, text) for number, text in enumerate(TEXTS))
NAMES = Names(
    LEGAL,
    [(), (), (), ("0-0",), ("(0,0)",), ()],
    ["", "", "", "", "", "Check"],
    case_matters=True,
    ornaments="+#",
)
OK = '{"reasoning": "r", "action": "e4"}'

#: The reply, the action that is read, and the rule.
READ = [
    (OK, "e4", "strict"),
    (f"```json\n{OK}\n```", "e4", "object"),
    (f"```\n{OK}```", "e4", "object"),
    (f"Here is my move:\n{OK}", "e4", "object"),
    (f"{OK}\nGood luck!", "e4", "object"),
    (f"{OK}\n{OK}", "e4", "object"),
    (f"<think>d4 or e4? Or Pass.</think>\n{OK}", "e4", "thinking+object"),
    (f"<think>a</think>b<think>c</think>{OK}", "e4", "thinking+object"),
    (f'<think>{{"action": "d4"}}</think>{OK}', "e4", "thinking+object"),
    (f"I think d4 is worse.</think>{OK}", "e4", "thinking+object"),
    (f"analysis d4<|channel|>final<|message|>{OK}", "e4", "thinking+object"),
    (f"\ufeff{OK}", "e4", "object"),
    ('{"action": "e4"}', "e4", "object"),
    ('{"reasoning": "r", "action": "e4", "confidence": 0.9}', "e4", "object"),
    ('{"Reasoning": "r", "Action": "e4"}', "e4", "object"),
    ('{"reasoning": "r", "move": "e4"}', "e4", "object(move)"),
    ('{"reasoning": "r", "choice": "e4"}', "e4", "object(choice)"),
    ('{"answer": {"reasoning": "r", "action": "e4"}}', "e4", "object"),
    (f"[{OK}]", "e4", "object"),
    ('{"reasoning": "r", "action": ["e4"]}', "e4", "object"),
    ('{"reasoning": null, "action": "e4"}', "e4", "object"),
    ('{"reasoning": {"a": 1}, "action": "e4"}', "e4", "object"),
    ('{"reasoning": "a\nb", "action": "e4"}', "e4", "object"),
    ('{"reasoning": "a", "action": "e4",}', "e4", "object"),
    ("{'reasoning': 'it''s', 'action': 'e4'}", "e4", "object"),
    ('{"reasoning": "say "hi"", "action": "e4"}', "e4", "fragment"),
    ('{"action": "e4", "reasoning": "because it', "e4", "fragment"),
    ('{"reasoning": "r", "action": "e4"', "e4", "fragment"),
    ('{"reasoning": "<yours>", "action": "<a legal action, exactly as listed>"} ' + OK,
     "e4", "object"),
    ('{"reasoning": "r", "action": "e4 "}', "e4", "object+spaces"),
    ('{"reasoning": "r", "action": "\\"e4\\""}', "e4", "object+spaces"),
    ('{"reasoning": "r", "action": "Nf3"}', "Nf3+", "object+spelling"),
    ('{"reasoning": "r", "action": "e4#"}', "e4", "object+spelling"),
    ('{"reasoning": "r", "action": "O−O"}', "O-O", "object+spelling"),  # noqa: RUF001
    ('{"reasoning": "r", "action": "x(0, 0)"}', "x(0,0)", "object+spelling"),
    ('{"reasoning": "r", "action": "0-0"}', "O-O", "object+alias"),
    ('{"reasoning": "r", "action": "(0,0)"}', "x(0,0)", "object+alias"),
    ('{"reasoning": "", "action": "Check"}', "Pass", "object+note"),
    ('{"reasoning": "", "action": "Pass (here: Check)"}', "Pass", "object+note"),
    ('{"reasoning": "", "action": "Pass (Check)"}', "Pass", "object+note"),
    ("Action: e4", "e4", "label"),
    ("I like the centre.\n\n**Action:** e4", "e4", "label"),
    ("**Final answer: e4**", "e4", "label"),
    ("My move is: `e4`.", "e4", "label"),
    ("Move: d4\nNo idea.\nFinal move: e4", "e4", "label"),
    ("So \\boxed{e4}", "e4", "label"),
    ("The answer is \\boxed{\\text{e4}}.", "e4", "label"),
    ("e4", "e4", "bare"),
    (' "e4".\n', "e4", "bare"),
    ("**e4**", "e4", "bare"),
    ("```\ne4\n```", "e4", "bare"),
    ("<think>hm</think>e4", "e4", "thinking+bare"),
    ("Action: e4 (not d4)", "e4", "label+contrast"),
    ("Action: x(0,0) (not O-O)", "x(0,0)", "label+contrast"),
    ("Not d4 but e4", "e4", "bare+contrast"),
    ("e4, not x(0,0)", "e4", "bare+contrast"),
    ("I play e4, not d4.", "e4", "sentence+contrast"),
    ("I choose e4 over d4.", "e4", "sentence+contrast"),
    ("My move is not d4 but rather Nf3.", "Nf3+", "sentence+contrast"),
    ('{"action": "e4 instead of d4"}', "e4", "object+contrast"),
    ('{"action": "e4", "status": "legal", "is_valid": true, "rejected": false}', "e4", "object"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "action", "rule"), READ)
def test_a_reply_is_read_by_the_rule(text: str, action: str, rule: str) -> None:
    read = parse_json(text, LEGAL)
    if read.status is not AnswerStatus.OK:
        read = read_leniently(text, NAMES)
    assert (read.action, read.rule) == (TEXTS.index(action), rule)
    assert (read.status, read.problem) == (AnswerStatus.OK, "")


#: Replies that name no action, several, or one that is not legal.
NOT_READ = [
    ("", "empty"),
    (" \n", "empty"),
    ("I would play e4 here.", "does not name"),
    ("I don't want to play e4.", "does not name"),
    ("e4 is bad, d4 is good", "does not name"),
    ("e4\nd4", "does not name"),
    ("e4 d4", "does not name"),
    ("e4, d4, Pass", "does not name"),
    ("not e4", "does not name"),
    ('{"reasoning": "e4 is best"}', "does not name"),
    ("{}", "does not name"),
    ("null", "not a legal action"),
    ('{"reasoning": "r", "action": null}', "does not name"),
    ('{"reasoning": "r", "action": true}', "does not name"),
    ('{"reasoning": "r", "action": ["e4", "d4"]}', "does not name"),
    ('{"reasoning": "r", "action": {"from": "e2", "to": "e4"}}', "does not name"),
    ('{"reasoning": "r", "action": "<a legal action, exactly as listed>"}', "does not name"),
    ('{"action": "d4", "action": "e4"}', "several"),
    ('{"action": "d4", "Action": "e4"}', "several"),
    ('{"action": "d4"} {"action": "e4"}', "several"),
    ('[{"action": "d4"}, {"action": "e4"}]', "several"),
    ("Action: d4\nAction: e4", "several"),
    ("Final answer: d4\nFinal answer: e4", "several"),
    ("\\boxed{d4} or \\boxed{e4}", "several"),
    (f"{OK} Wait, that loses a pawn.", "take it back"),
    (f"{OK} Actually, no.", "take it back"),
    (f"{OK} Oh, that is illegal.", "take it back"),
    (f"{OK} I could also play d4.", "names another action"),
    (f"{OK} But <think>d4 is", "ends before its reasoning"),
    ("<think>I will play e4", "ends before its reasoning"),
    ('{"action": "e4", "status": "rejected"}', "rejects its action"),
    ('{"action": "e4", "Status": "not chosen"}', "rejects its action"),
    ('{"action": "e4", "is_legal": false}', "rejects its action"),
    ('{"action": "e4", "isValid": "no"}', "rejects its action"),
    ('{"action": "e4", "rejected": true}', "rejects its action"),
    ("{'action': 'e4', 'status': 'rejected'}", "rejects its action"),
    ('{"action": "e4", "status": "rejected"', "rejects its action"),
    ('{"status": "rejected", "action": "e4"', "rejects its action"),
    ('{"action": "d4", "legal": false}\nAction: d4', "rejects its action"),
    ("Action: e4 (not sure)", "not a legal action"),
    ("Action: e4 (not e4)", "not a legal action"),
    ("Action: e4 (not d4, not Pass)", "not a legal action"),
    ("Action: not e4 but e5", "not a legal action"),
    ("Action: not e4 but d4 or Pass", "not a legal action"),
    ("Not e4, d4", "does not name"),
    ("e4 over the top", "does not name"),
    ("Action: e4 or d4", "not a legal action"),
    ("Action: not e4", "not a legal action"),
    ("Action: e4, because d4 is bad", "not a legal action"),
    ('{"reasoning": "r", "action": "e5"}', "not a legal action"),
    ('{"reasoning": "r", "action": "E4"}', "not a legal action"),  # a case that may matter
    ('{"reasoning": "r", "action": "pass"}', "not a legal action"),
    ('{"reasoning": "r", "action": ""}', "not a legal action"),
    ('{"reasoning": "r", "action": "Pass (Fold)"}', "not a legal action"),
    ('{"reasoning": "r", "action": "1"}', "not a legal action"),
    ("e5", "not a legal action"),
    ("[" * 50_000, "does not name"),
    ('{"a":' * 15_000, "does not name"),
    ("x" * 100_001, "longer than 100000"),
]


@pytest.mark.parametrize(("text", "problem"), NOT_READ)
def test_no_choice_is_invented(text: str, problem: str) -> None:
    read = read_leniently(text, NAMES)
    assert (read.action, read.rule) == (None, "")
    assert problem in read.problem
    assert len(read.problem) < 200
    assert read.status is not AnswerStatus.OK


@pytest.mark.parametrize(
    ("spec", "actions", "said", "meant"),
    [
        ("kuhn_poker", [0, 1], "Check", "Pass"),
        ("kuhn_poker", [0, 1, 1], "Call", "Bet"),
        ("kuhn_poker", [0, 1, 1], "Fold", "Pass"),
        ("kuhn_poker", [0, 1, 1], "Check", None),
        ("leduc_poker", [0, 2], "check", "Call"),
        ("chess", [], "E4", None),
        ("tic_tac_toe", [], "(1,1)", "x(1,1)"),
        ("tic_tac_toe", [], "X(1, 1)", "x(1,1)"),
        ("tic_tac_toe", [], "o(1,1)", None),
        ("connect_four", [], "3", "x3"),
        ("breakthrough", [], "A7A6", "a7a6"),
        ("nim", [], "pile:2, take:1", "pile:2, take:1;"),
        ("go(board_size=5)", [], "c3", "B c3"),
        ("go(board_size=5)", [], "pass", "B PASS"),
        ("go(board_size=5)", [], "W c3", None),
        ("dots_and_boxes", [], "(h,0,1)", "P1(h,0,1)"),
        ("dots_and_boxes", [], "P2(h,0,1)", None),
        ("goofspiel(num_cards=4)", [0], "3", "[P0]Bid: 3"),
        ("first_sealed_auction", [4, 4], "3", "Player 0 bid: 3"),
        ("universal_poker", [0, 1], "Call", "player=0 move=Call"),
        ("universal_poker", [0, 1], "check", "player=0 move=Call"),
    ],
)
def test_the_usual_names_of_actions(
    spec: str, actions: list[int], said: str, meant: str | None
) -> None:
    found = match_action(said, list_names(turn_after(spec, actions)))
    assert (found and found[0].text) == meant


def test_a_backgammon_move_needs_no_number() -> None:
    for turn in playout("backgammon", seed=2, most=20):
        names = list_names(turn)
        for action in turn.legal:
            moves = action.text.rpartition(" - ")[2]
            for said in (moves, moves.rstrip("*")):
                assert (found := match_action(said, names))
                # Two numbers may stand for the same moves, made in another order.
                assert found[0].text.rpartition(" - ")[2].rstrip("*") == moves.rstrip("*")


_SAID = [*TEXTS, "e5", "Nf3", "0-0", "Check", "(0,0)", "x(1,1)", "e4 d4"]
_SHAPES = [
    "%s", '"%s"', "Action: %s", "**Move:** %s", "Final answer: %s", '{"action": "%s"}',
    '{"reasoning": "", "action": "%s"}', "{'action': '%s'}", '"action": "%s"', "\\boxed{%s}",
    "I play %s.", "not %s", "```json\n%s\n```", "<think>%s</think>", "<think>%s", "wait, %s",
]  # fmt: skip
_SIGNS = "abd ,.:;\n*`\"'{}[]<>()=-e4Nf3O"

#: Where a reply may state a choice, in the simplest words.
_PLACES = re.compile(
    r"""["'](?:action|move|choice|answer)["']\s*:"""
    r"|(?:action|move|answer|choice)(?: is)?[*_`]*\s*[:=]|\\boxed\{",
    re.IGNORECASE,
)


def _random_reply(rng: random.Random) -> str:
    """A text of pieces that look like parts of replies, in any order, with noise between them."""
    parts = []
    for _ in range(rng.randrange(1, 6)):
        if rng.random() < 0.3:
            parts.append("".join(rng.choices(_SIGNS, k=rng.randrange(12))))
        else:
            parts.append(rng.choice(_SHAPES) % rng.choice(_SAID))
    return rng.choice(("", " ", "\n")).join(parts)


def test_what_is_read_is_what_the_reply_states_last() -> None:
    """An action is only read if it stands behind the last place that states a choice, or alone."""
    rng = random.Random(5)  # noqa: S311 - texts, not secrets
    read_ones = 0
    for _ in range(5_000):
        text = _random_reply(rng)
        read = read_leniently(text, NAMES)
        assert (read.status is AnswerStatus.OK) == (read.action is not None)
        if read.action is None:
            continue
        read_ones += 1
        body = text.rpartition("</think>")[2]
        written = [TEXTS[read.action], *NAMES.aliases[read.action], NAMES.notes[read.action]]
        written = [form for name in written if name for form in (name, name.rstrip("+"))]
        places = [match.end() for match in _PLACES.finditer(body)]
        # A label with "final" takes precedence over those behind it.
        final = re.search("final|boxed", body, re.IGNORECASE)
        stated = body[places[-1] :] if places and not final else body
        squeezed = "".join(stated.split())
        assert any("".join(name.split()) in squeezed for name in written), (text, read)
        if not places:  # then nothing but the action is there
            body = re.sub(r"\b(I play|My move is)\b", "", body)
            if read.rule.endswith("+contrast"):
                body = body.rpartition("not ")[0]
            letters = re.sub(r"```[a-z]*|[\s\"'`*_.]", "", body)
            assert letters in {re.sub(r"[\s\"'`*_.]", "", name) for name in written}, (text, read)
    assert read_ones > 300


def test_the_format_of_the_prompt_is_always_read() -> None:
    rng = random.Random(6)  # noqa: S311 - texts, not secrets
    for _ in range(2000):
        action = rng.choice(TEXTS)
        reasoning = "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(1, 0xD800))))
                            for _ in range(rng.randrange(30)))  # fmt: skip
        text = json.dumps({"reasoning": reasoning, "action": action})
        for wrapped in (text, f"```json\n{text}\n```", f"<think>x</think>{text}"):
            assert read_leniently(wrapped, NAMES).action == TEXTS.index(action), wrapped
