"""What a language model is told at its turn: the same function for every game."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from arena.agents.base import Attempt, Turn
from arena.games.game import LegalAction

#: How a model answers: in JSON, which it writes freely; with one of the legal actions, by
#: constraint; or not at all, because the actions' probabilities are read, in quotes.
ReplyFormat = Literal["json", "choices", "score"]

#: (role, content) each, as ModelCall has them.
Messages = tuple[tuple[str, str], ...]

_JSON = (
    "How to reply: with one JSON object and nothing else, no text around it, no code fence:\n"
    '{"reasoning": "<your reasoning, in short>", "action": "<a legal action, exactly as listed>"}'
)
_BARE = "How to reply: with one of the legal actions, exactly as listed, and nothing else."
_QUOTED = (
    "How to reply: with one of the legal actions in its quotes, exactly as listed, and nothing "
    "else."
)

#: How to reply, and the prompt's last line.
_FORMATS: Mapping[ReplyFormat, tuple[str, str]] = {
    "json": (_JSON, "Your JSON object:"),
    "choices": (_BARE, "Your action:"),
    "score": (_QUOTED, "Your action:"),
}

#: Most characters of an own reply that a player is reminded of.
_REMINDED = 2000


def prompt_of(
    turn: Turn, reply: ReplyFormat, before: Sequence[Attempt] = (), system: str = ""
) -> Messages:
    """What to ask at a turn. Pure.

    What never changes in a game comes first, so that prefix caches hold it; then what the
    seat can see, last what it may do. before: the attempts at this turn that were no
    moves; the player sees each again, with what was wrong. system: a message ahead of all.
    """
    text = turn.game.text
    how, closing = _FORMATS[reply]
    content = (
        f"{text.rules}\nYour goal: get the highest return you can.\n\n{how}\n\n"
        f"{text.side(turn.seat)}\n"
        f"{text.position(turn.state, turn.seat)}\n"
        f"Legal actions: {legal_actions(turn, quoted=reply != 'choices')}\n\n{closing}"
    )
    messages = [("system", system)] if system else []
    messages.append(("user", content))
    for attempt in before:
        messages.append(("assistant", attempt.reply[:_REMINDED] or "(nothing)"))
        messages.append(
            ("user", f"Not accepted: {attempt.problem}. Try again.\n{how}\n\n{closing}")
        )
    return tuple(messages)


def legal_actions(turn: Turn, *, quoted: bool) -> str:
    """The strings of the legal actions, in quotes or bare, with the notes of the game."""
    told = []
    for action in turn.legal:
        text = in_quotes(action) if quoted else action.text
        note = turn.game.text.note(turn.state, turn.seat, action)
        told.append(f"{text} ({note})" if note else text)
    return ", ".join(told)


def in_quotes(action: LegalAction) -> str:
    """An action's string as JSON, which never is the beginning of another one."""
    return json.dumps(action.text, ensure_ascii=False)


def as_text(messages: Messages) -> str:
    """Messages for people to read: a single one as it is."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join(f"[{role}]\n{content}" for role, content in messages)
