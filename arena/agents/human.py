"""An agent for a person at the terminal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from rich.console import Console

from arena.agents.base import Agent, Answer, AnswerStatus, PlayerLeft, Turn
from arena.agents.calls import Ask
from arena.agents.prompt import list_legal_actions
from arena.games.game import LegalAction
from arena_llm.terminal import escape_unsafe


class Terminal:
    """Reads lines from a file descriptor without blocking the other games.

    Several games can share the terminal: hold `lock` for a whole turn.
    """

    def __init__(self, descriptor: int = 0, console: Console | None = None) -> None:
        self.lock = asyncio.Lock()
        self._console = console or Console()
        self.descriptor = descriptor
        self._read = b""

    def show(self, text: str) -> None:
        # Without markup: boards and actions contain brackets.
        self._console.print(escape_unsafe(text), markup=False, highlight=False, soft_wrap=True)

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


class HumanAgent(Agent):
    """Shows what a model's prompt contains, and reads actions until one is legal."""

    def __init__(self, settings: Any, terminal: Terminal | None = None) -> None:
        """terminal: the process's own if not given."""
        super().__init__(settings)
        self._terminal = terminal or _shared_terminal()
        self._has_seen_rules = False

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        """Raises PlayerLeft at the end of the input."""
        async with self._terminal.lock:
            self._show(turn)
            while (line := await self._terminal.read_line()) is not None:
                if (action := _find_action(line.strip(), turn.legal)) is not None:
                    return Answer(AnswerStatus.OK, action)
                self._terminal.show(f"{line.strip()!r} is not a legal action. Your action:")
        raise PlayerLeft("the player at the terminal has left")

    def _show(self, turn: Turn) -> None:
        text = turn.game.text
        if not self._has_seen_rules:
            self._terminal.show(f"\n{text.rules}")
            self._has_seen_rules = True
        self._terminal.show(
            f"\n{text.side(turn.seat)}\n{text.position(turn.state, turn.seat)}\n"
            f"Legal actions: {list_legal_actions(turn, quoted=False)}\nYour action:"
        )


def _find_action(text: str, legal: Sequence[LegalAction]) -> int | None:
    """The legal action with this text; ignores case if only one action matches then."""
    exact = [action.action for action in legal if action.text.strip() == text]
    folded = text.casefold()
    matches = exact or [a.action for a in legal if a.text.strip().casefold() == folded]
    return matches[0] if len(matches) == 1 else None
