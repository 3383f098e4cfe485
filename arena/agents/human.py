"""An agent for a person at the terminal."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from rich.console import Console

from arena.agents.base import Agent, Answer, AnswerStatus, Ending, PlayerLeft, Turn
from arena.agents.calls import PERSON, Ask, ModelCall, ModelReply
from arena.agents.prompt import list_legal_actions
from arena.games.game import CHANCE, Game, LegalAction, State
from arena_llm.terminal import escape_unsafe


class Terminal:
    """Reads lines from a file descriptor without blocking the other games.

    Several games can share the terminal, one after the other: a game has it from its first
    question to its end. Two people at one terminal hold `lock` for a whole turn.
    """

    def __init__(self, descriptor: int = 0, console: Console | None = None) -> None:
        self.lock = asyncio.Lock()
        self._console = console or Console()
        self.descriptor = descriptor
        #: The input has ended, so no further game asks.
        self.has_ended = False
        self._read = b""
        self._owner: State | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def claim(self, game: State) -> bool:
        """Wait until no other game has the terminal. Returns whether the game is new here."""
        if self._owner is game:
            return False
        while self._owner is not None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            finally:
                self._waiting.remove(waiter)
        self._owner = game
        return True

    def release(self, game: State) -> None:
        """Let the next game have the terminal."""
        if self._owner is game:
            self._owner = None
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)

    def is_free_for(self, game: State) -> bool:
        """Whether no other game has the terminal."""
        return self._owner is None or self._owner is game

    def show(self, text: str) -> None:
        # Without markup: boards and actions contain brackets. A terminal breaks lines within words.
        console = self._console
        wraps = console.is_terminal
        console.print(escape_unsafe(text), markup=False, highlight=False, soft_wrap=not wraps)

    async def read_line(self) -> str | None:
        """The next line without its line break; None if the input has ended or is closed."""
        while b"\n" not in self._read:
            try:
                await self._wait_readable()
                chunk = os.read(self.descriptor, 65536)
            except OSError:  # closed, a folder, or a terminal that was disconnected
                chunk = b""
            if not chunk:
                break
            self._read += chunk
        if not self._read:
            self.has_ended = True
            return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _wait_readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self.descriptor, ready.set)
        except PermissionError:
            return  # a plain file, which is always readable
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self.descriptor)


#: The process's terminal, shared by all of its games.
_shared_terminal = cache(Terminal)


_LEFT = "the player at the terminal has left"


class HumanAgent(Agent):
    """Shows what a model's prompt contains, and reads actions until one is legal.

    The answer is stored before it is played, like a model's reply.
    """

    def __init__(self, settings: Any, terminal: Terminal | None = None) -> None:
        """terminal: the process's own if not given."""
        super().__init__(settings)
        self._terminal = terminal or _shared_terminal()
        self._has_seen_rules = False
        #: How many moves of the game the player has seen.
        self._seen = 0

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        """Raises PlayerLeft at the end of the input."""
        reply = await ask(
            ModelCall(PERSON, (("user", _describe(turn)),), answer=lambda: self._read_action(turn))
        )
        action = _find_action(reply.text, turn.legal)
        status = AnswerStatus.ILLEGAL if action is None else AnswerStatus.OK
        return Answer(status, action, "" if action is not None else "not a legal action")

    async def _read_action(self, turn: Turn) -> ModelReply:
        await self._terminal.claim(turn.state)
        async with self._terminal.lock:
            if self._terminal.has_ended:
                raise PlayerLeft(_LEFT)
            self._show(turn)
            while (line := await self._terminal.read_line()) is not None:
                text = line.strip()
                if _find_action(text, turn.legal) is not None:
                    return ModelReply(
                        text, PERSON, 0.0, prompt_tokens=0, completion_tokens=0, cost_picousd=0
                    )
                self._terminal.show(f"{text!r} is not a legal action. Your action:")
        raise PlayerLeft(_LEFT)

    def finish(self, ending: Ending) -> None:
        """Show how the game ended, and let the next game have the terminal."""
        if ending.status and self._terminal.is_free_for(ending.state):
            moves = self._list_moves(ending.game, ending.state, ending.seat, ending.agents)
            board = ending.state.board()
            self._terminal.show("\n".join(["", *moves, board, _describe_ending(ending)]))
        self._terminal.release(ending.state)

    def _show(self, turn: Turn) -> None:
        lines = ["", *self._list_moves(turn.game, turn.state, turn.seat, turn.agents)]
        if not self._has_seen_rules:
            players = ", ".join(
                f"player {seat}: {name}{' (you)' * (seat == turn.seat)}"
                for seat, name in enumerate(turn.agents)
            )
            title = f"=== {turn.game.name}, game {turn.number + 1} === {players}"
            lines = ["", title, "", turn.game.text.rules, *lines]
            self._has_seen_rules = True
        self._terminal.show("\n".join([*lines, _describe(turn), "Your action:"]))

    def _list_moves(
        self, game: Game, state: State, seat: int, agents: Sequence[str]
    ) -> Iterator[str]:
        """Yield the moves since the last question, as far as the player may see them.

        In games with hidden information the position's own text says what may be seen.
        """
        start, self._seen = self._seen, len(state.history)
        open_game = game.perfect_information and not game.simultaneous
        if not (open_game or state.is_terminal):
            return
        for played in state.history[start:]:
            # The player knows the moves typed in this run, but perhaps not those of an earlier run.
            if played.seat != CHANCE and (played.seat != seat or not self._has_seen_rules):
                name = "you" if played.seat == seat else agents[played.seat]
                yield f"{name} played {played.text}"


def _describe(turn: Turn) -> str:
    text = turn.game.text
    return (
        f"{text.side(turn.seat)}\n{text.position(turn.state, turn.seat)}\n"
        f"Legal actions: {list_legal_actions(turn, quoted=False)}"
    )


def _describe_ending(ending: Ending) -> str:
    """Return one line on how a game ended."""
    if ending.status == "failed":
        return f"The game failed and has no result: {ending.reason}"
    if ending.status == "forfeited":
        return f"The game ended by forfeit: {ending.reason}"
    returns = ending.state.returns()
    own = returns[ending.seat]
    others = [value for seat, value in enumerate(returns) if seat != ending.seat]
    result = ""
    if others and abs(sum(returns)) < 1e-9:
        best = max(others)
        result = "you won; " if own > best else "you lost; " if own < best else "a draw; "
    shown = ", ".join(
        f"{name} {value:+g}" for name, value in zip(ending.agents, returns, strict=True)
    )
    return f"Result: {result}{shown}"


def _find_action(text: str, legal: Sequence[LegalAction]) -> int | None:
    """The legal action with this text; ignores case if only one action matches then."""
    exact = [action.action for action in legal if action.text.strip() == text]
    folded = text.casefold()
    matches = exact or [a.action for a in legal if a.text.strip().casefold() == folded]
    return matches[0] if len(matches) == 1 else None
