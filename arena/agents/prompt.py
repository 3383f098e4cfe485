"""The prompt of a language model at its turn: one function for every game."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from arena.agents.base import Answer, Turn
from arena.agents.settings import ReplyFormat
from arena.games.game import LegalAction

#: Pairs of (role, content), as in ModelCall.
Messages = tuple[tuple[str, str], ...]

_JSON = (
    "Reply with one JSON object and nothing else: no text around it, no code fence.\n"
    '{"reasoning": "<your reasoning, in short>", "action": "<a legal action, exactly as listed>"}'
)
_BARE = "Reply with one of the legal actions, exactly as listed, and nothing else."
_QUOTED = "Reply with one of the legal actions in its quotes, exactly as listed, and nothing else."

#: By reply format: how to reply, and the last line of the prompt.
_FORMATS: Mapping[ReplyFormat, tuple[str, str]] = {
    "json": (_JSON, "Your JSON object:"),
    "choices": (_BARE, "Your action:"),
    "score": (_QUOTED, "Your action:"),
}

#: Characters of a rejected reply that the next prompt repeats.
_MAX_REPEATED = 2000


def build_prompt(
    turn: Turn, reply: ReplyFormat, before: Sequence[Answer] = (), system: str = ""
) -> Messages:
    """Build the messages of a turn. Pure.

    The text that stays the same during a game comes first, so that prefix caches keep it;
    then what the seat can see; last the legal actions. before: the rejected answers at
    this turn; each is repeated together with the reason. system: a first message.
    """
    text = turn.game.text
    how, closing = _FORMATS[reply]
    content = (
        f"{text.rules}\nYour goal: get the highest return you can.\n\n{how}\n\n"
        f"{text.side(turn.seat)}\n"
        f"{text.position(turn.state, turn.seat)}\n"
        f"Legal actions: {list_legal_actions(turn, quoted=reply != 'choices')}\n\n{closing}"
    )
    messages = [("system", system)] if system else []
    messages.append(("user", content))
    for answer in before:
        messages.append(("assistant", answer.reply[:_MAX_REPEATED] or "(empty reply)"))
        messages.append(("user", f"Not accepted: {answer.problem}. Try again.\n{how}\n\n{closing}"))
    return tuple(messages)


def list_legal_actions(turn: Turn, *, quoted: bool) -> str:
    """The texts of the legal actions, quoted or bare, each with the game's note if it has one."""
    items = []
    for action in turn.legal:
        text = quote(action) if quoted else action.text
        note = turn.game.text.note(turn.state, turn.seat, action)
        items.append(f"{text} ({note})" if note else text)
    return ", ".join(items)


def quote(action: LegalAction) -> str:
    """An action's text as a JSON string. No quoted text is a prefix of another one."""
    return json.dumps(action.text, ensure_ascii=False)


def as_text(messages: Messages) -> str:
    """The messages as one text for people to read. A single message has no heading."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join(f"[{role}]\n{content}" for role, content in messages)
