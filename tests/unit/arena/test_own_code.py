"""Agents and games of one's own that are wrong: the message says whose code, where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.cli import main
from arena.games.text import _CLASSES
from arena.plugins import find_offered

HEAD = """
from arena.agents.base import Agent, Answer, AnswerStatus
from arena.agents.calls import ModelCall
from arena.games.text.base import GameText

"""
ACT = "    async def act(self, turn, before, ask):\n        "

#: The body of an agent, and what `arena run` says about it.
AGENTS = {
    "lacks": ("    pass", "agents.me.type: {}:Own lacks act; see arena.agents.base.Agent"),
    "plain": ("    def act(self, turn, before, ask): ...", "must define act with `async def`, not"),
    "signature": (
        "    async def act(self, turn): ...",
        "must define act with (self, turn, before, ask), not (self, turn)",
    ),
    "settings": (f"    Settings = dict\n{ACT}...", "{}:Own has Settings that are not a subclass"),
    "init": (
        f"    def __init__(self, settings): raise KeyError('x')\n{ACT}...",
        "{}.py, line 7, in Own.__init__: KeyError: 'x'",
    ),
    "version": (
        f"    @classmethod\n    def version(cls, settings, game): 1 / 0\n{ACT}...",
        "{}.py, line 8, in Own.version: ZeroDivisionError: division by zero",
    ),
    "raises": (f"{ACT}return [][1]", "{}.py, line 8, in Own.act: IndexError: list index"),
    "nothing": (f"{ACT}return None", "{}.Own.act returned NoneType: return an arena.agents.base."),
    "status": (f"{ACT}return Answer('ok', 1)", "{}.Own.act returned the status 'ok': return an"),
    "words": (
        f"{ACT}return Answer(AnswerStatus.OK, turn.legal[0].action, prompt=7)",
        "{}.Own.act returned an Answer whose prompt is not text",
    ),
    "asks": (
        f"{ACT}await ask('hf_m')",
        "line 8, in Own.act: TypeError: ask takes a ModelCall",
    ),
    "messages": (
        f"{ACT}await ask(ModelCall('hf_m', 'move'))",
        "line 8, in Own.act: TypeError: ModelCall.messages must be pairs such as",
    ),
}

WORDS = "    games = ('kuhn_poker',)\n"
INIT = "    def __init__(self, game): self.rules = 'r'\n"

#: The body of a class of words, and what `arena run` says about it.
GAMES = {
    "position": (f"{WORDS}{INIT}", "game {}:Own lacks position; see arena.games.text.base.Game"),
    "name": (
        f"    games = 'oware'\n{INIT}    def position(self, state, seat): return 'p'",
        'game {}:Own: its class attribute must be `games = ("NAME",)`',
    ),
    "rules": (
        f"{WORDS}    def __init__(self, game): ...\n    def position(self, state, seat): ...",
        "{}.Own: rules is NoneType, and must be text",
    ),
    "none": (
        f"{WORDS}{INIT}    def position(self, state, seat): ...",
        "{}.Own: position is NoneType, and must be text",
    ),
    "fails": (
        f"{WORDS}{INIT}    def position(self, state, seat): return 1 / 0",
        "{}.py, line 9, in Own.position: ZeroDivisionError: division by zero",
    ),
    "aliases": (
        f"{WORDS}{INIT}    def position(self, state, seat): return 'p'\n"
        "    def aliases(self, text): return text",
        "{}.Own: aliases returned no tuple",
    ),
}


def run(folder: Path, agent: str, game: str) -> int:
    file = folder / "own.yaml"
    file.write_text(
        f"games: [{game!r}]\nepisodes: 1\nagents: {{me: {{type: {agent!r}}}, "
        "other: {type: random}}\n"
    )
    return main(["run", "--config", str(file), "--results", str(folder / "r.sqlite")])


@pytest.mark.parametrize("case", AGENTS)
def test_a_wrong_agent(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body, says = AGENTS[case]
    module = f"own_agent_{case}"
    (tmp_path / f"{module}.py").write_text(f"{HEAD}class Own(Agent):\n{body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run(tmp_path, f"{module}:Own", "tic_tac_toe") in (1, 2)
    assert says.format(module) in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("case", GAMES)
def test_a_wrong_class_of_words(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body, says = GAMES[case]
    module = f"own_game_{case}"
    (tmp_path / f"{module}.py").write_text(f"{HEAD}class Own(GameText):\n{body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("arena.games.text._CLASSES", [*_CLASSES])
    assert run(tmp_path, "random", f"{module}:Own") == 2
    assert says.format(module) in " ".join(capsys.readouterr().err.split())


def test_a_name_that_two_packages_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package, path in (("one", "os:getcwd"), ("two", "os:getpid")):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[arena.agents]\nmine = {path}\n")
    monkeypatch.syspath_prepend(tmp_path)
    find_offered.cache_clear()
    assert run(tmp_path, "mine", "tic_tac_toe") == 2
    find_offered.cache_clear()
    said = " ".join(capsys.readouterr().err.split())
    assert "mine is offered by os:getcwd of the package one and os:getpid of the" in said
