from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from arena.cli import main
from tests.support.playing_service import Player


class Done(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """A backend that plays, in its own process."""
    with Player(tmp_path_factory.mktemp("player")) as player:
        yield player


@pytest.fixture
def arena(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Done]:
    """Runs the command in its own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARENA_LLM_TARGET", "127.0.0.1:1")  # nothing listens there

    def command(*arguments: object) -> Done:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as usage:
            code = int(str(usage.code))
        return Done(code, *capsys.readouterr())

    return command
