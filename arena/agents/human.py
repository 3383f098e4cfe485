"""Somebody at the terminal as a player."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from rich.console import Console

from arena.agents.base import Agent, Attempt, PlayerLeft, Status, Turn
from arena.agents.prompt import legal_actions
from arena.calls import Ask
from arena.games.game import LegalAction
from arena_llm.terminal import visible


class Terminal:
    """Lines from a file descriptor, without holding up the other games.

    One conversation at a time: `lock` is held for a whole turn, because several games may
    want the same terminal.
    """

    def __init__(self, descriptor: int = 0, console: Console | None = None) -> None:
        self.lock = asyncio.Lock()
        self._console = console or Console()
        self.descriptor = descriptor
        self._read = b""

    def show(self, text: str) -> None:
        # No markup: boards and actions have brackets of their own.
        self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)

    async def line(self) -> str | None:
        """The next line without its end; None at the end of the input, or where there is none."""
        while b"\n" not in self._read:
            try:
                await self._readable()
                chunk = os.read(self.descriptor, 65536)
            except OSError:  # it is closed, a folder, or a terminal that has hung up
                chunk = b""
            if not chunk:
                break
            self._read += chunk
        if not self._read:
            return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self.descriptor, ready.set)
        except PermissionError:
            return  # a plain file, which can always be read
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self.descriptor)


class HumanAgent(Agent):
    """Shows what a model is told and reads an action; asks again until it is legal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._knows_rules = False

    async def act(self, turn: Turn, before: Sequence[Attempt], ask: Ask) -> Attempt:
        """Raises PlayerLeft at the end of the input."""
        async with self._terminal.lock:
            self._show(turn)
            while (line := await self._terminal.line()) is not None:
                if (action := _found(line.strip(), turn.legal)) is not None:
                    return Attempt(Status.OK, action)
                self._terminal.show(f"{line.strip()!r} is no legal action; your action:")
        raise PlayerLeft("the player at the terminal has left")

    def _show(self, turn: Turn) -> None:
        text = turn.game.text
        if not self._knows_rules:
            self._terminal.show(f"\n{text.rules}")
            self._knows_rules = True
        self._terminal.show(
            f"\n{text.side(turn.seat)}\n{text.position(turn.state, turn.seat)}\n"
            f"Legal actions: {legal_actions(turn, quoted=False)}\nYour action:"
        )


def _found(text: str, legal: Sequence[LegalAction]) -> int | None:
    """The action of this string; of another case, if there is only one such."""
    exact = [action.action for action in legal if action.text.strip() == text]
    folded = text.casefold()
    alike = exact or [a.action for a in legal if a.text.strip().casefold() == folded]
    return alike[0] if len(alike) == 1 else None
