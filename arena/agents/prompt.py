"""The prompt of a language model at its turn, from a template: the same for every game."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from arena.agents.base import Answer, Turn
from arena.agents.settings import PromptSettings, ReplyFormat
from arena.agents.template import PromptTemplate, load_template
from arena.games.game import CHANCE, Game, LegalAction

#: Pairs of (role, content), as in ModelCall.
Messages = tuple[tuple[str, str], ...]

_Action = TypeVar("_Action")

_DEFAULT = PromptSettings()

#: Characters of a rejected reply that the next prompt repeats.
_MAX_REPEATED = 2000

#: Examples are drawn from the first turns of one random game, which is always the same.
_EXAMPLE_SEED = 20_261_129


class ListedAction(NamedTuple):
    """A legal action as a prompt lists it. note: its meaning in this position; may be empty."""

    name: str
    note: str


def build_prompt(
    turn: Turn,
    reply: ReplyFormat,
    before: Sequence[Answer] = (),
    system: str = "",
    prompt: PromptSettings = _DEFAULT,
    earlier: Messages = (),
) -> Messages:
    """Build the messages of a turn. Pure.

    The text that stays the same during a game comes first, so that prefix caches keep it;
    then what the seat can see; last the legal actions. before: the rejected answers at
    this turn; each is repeated together with the reason. system: a first message.
    earlier: the messages of the game before this turn, in a conversation.
    """
    template = load_template(prompt.template)
    messages = list(earlier) or _open(turn, reply, system, prompt)
    content = _render_turn(template, turn, reply, prompt)
    if len(messages) > 1 and not earlier and prompt.examples:
        content = template.render("game", turn=content)
    messages = _append_user(messages, content)
    for answer in before:
        messages.append(("assistant", repeat_reply(answer.reply)))
        again = template.render("retry", problem=answer.problem, **_format(reply, prompt))
        messages.append(("user", again))
    return tuple(messages)


def repeat_reply(reply: str) -> str:
    """A reply as a later prompt repeats it."""
    return reply[:_MAX_REPEATED] or "(empty reply)"


def describe_replaced(prompt: PromptSettings, problem: str, action: str) -> str:
    """The message that a random action was played in place of an answer."""
    return load_template(prompt.template).render("replaced", problem=problem, action=action)


def _open(
    turn: Turn, reply: ReplyFormat, system: str, prompt: PromptSettings
) -> list[tuple[str, str]]:
    """The messages before the first turn: instructions, rules, format and examples."""
    template = load_template(prompt.template)
    instructions = template.render("system", persona=prompt.persona, instructions=system)
    messages = [("system", instructions)] if instructions.strip() else []
    opening = template.render("opening", rules=turn.game.text.rules, **_format(reply, prompt))
    messages.append(("user", opening))
    for shown, action in _draw_examples(turn.game.spec, prompt.examples):
        content = _render_turn(template, shown, reply, prompt)
        messages = _append_user(messages, template.render("example", turn=content))
        messages.append(("assistant", write_reply(action, reply)))
    return messages


def _append_user(messages: Sequence[tuple[str, str]], content: str) -> list[tuple[str, str]]:
    """Add a text of the user, to the last message if that is the user's too."""
    *others, (role, last) = messages
    if role == "user":
        return [*others, (role, f"{last}\n\n{content}")]
    return [*messages, ("user", content)]


def _format(reply: ReplyFormat, prompt: PromptSettings) -> dict[str, object]:
    """The values that say how to reply."""
    values = {"format": "json" if reply == "free" else reply, "listed": prompt.actions != "hidden"}
    return {**values, "how": load_template(prompt.template).render("how", **values)}


def _render_turn(
    template: PromptTemplate, turn: Turn, reply: ReplyFormat, prompt: PromptSettings
) -> str:
    listed = list(list_actions(turn, prompt, quoted=reply != "choices"))
    text = turn.game.text
    return template.render(
        "turn",
        side=text.side(turn.seat),
        position=(
            text.position(turn.state, turn.seat)
            if prompt.board in (None, "standard")
            else text.position_as(prompt.board or "", turn.state, turn.seat)
        ),
        actions=listed,
        explained=any(action.note for action in listed),
        **_format(reply, prompt),
    )


def list_actions(turn: Turn, prompt: PromptSettings, *, quoted: bool) -> Iterator[ListedAction]:
    """The legal actions in the order of the prompt; none if they are hidden."""
    if prompt.actions == "hidden":
        return
    for action in order_actions(turn.legal, prompt.actions, turn.seed):
        note = turn.game.text.note(turn.state, turn.seat, action)
        yield ListedAction(quote(action) if quoted else action.text, note)


def order_actions(legal: Sequence[_Action], order: str, seed: int) -> list[_Action]:
    """Return legal actions in an order of PromptSettings. seed: of the turn."""
    ordered = list(legal)
    if order == "reversed":
        ordered.reverse()
    elif order == "shuffled":
        random.Random(seed).shuffle(ordered)  # noqa: S311 - repeatable, not secret
    return ordered


def list_legal_actions(turn: Turn, *, quoted: bool) -> str:
    """The legal actions in one line, for people, each with the game's note if it has one."""
    listed = list_actions(turn, _DEFAULT, quoted=quoted)
    return ", ".join(f"{name} ({note})" if note else name for name, note in listed)


@lru_cache(maxsize=64)
def _draw_examples(spec: str, number: int) -> tuple[tuple[Turn, LegalAction], ...]:
    """Turns of one random game, each with the action that was played. It needs no model."""
    game, examples = Game.load(spec), []
    for index in range(number):
        # A new position object for each: a turn is only valid until its position changes.
        state, rng = game.new(), random.Random(_EXAMPLE_SEED)  # noqa: S311
        skipped = 0
        while not state.is_terminal:
            if state.is_chance:
                state.apply({CHANCE: state.draw_chance(rng).action})
                continue
            seats = state.players_to_move()
            drawn = {seat: rng.choice(state.legal_actions(seat)) for seat in seats}
            if skipped == index:
                seat = seats[0]
                turn = Turn(game, state, seat, 0, state.legal_actions(seat), _EXAMPLE_SEED + index)
                examples.append((turn, drawn[seat]))
                break
            skipped += 1
            state.apply({seat: action.action for seat, action in drawn.items()})
    return tuple(examples)


def write_reply(action: LegalAction, reply: ReplyFormat) -> str:
    """A reply that chooses an action, in the requested format."""
    if reply == "choices":
        return action.text
    if reply == "score":
        return quote(action)
    return json.dumps({"reasoning": "(an example)", "action": action.text}, ensure_ascii=False)


def quote(action: LegalAction) -> str:
    """An action's text as a JSON string. No quoted text is a prefix of another one."""
    return json.dumps(action.text, ensure_ascii=False)


def as_text(messages: Messages) -> str:
    """The messages as one text for people to read. A single message has no heading."""
    if len(messages) == 1:
        return messages[0][1]
    return "\n\n".join(f"[{role}]\n{content}" for role, content in messages)
