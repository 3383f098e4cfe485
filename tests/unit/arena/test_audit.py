"""The audit reads stored replies again and counts lost and unchosen moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from arena.agents.calls import ModelReply
from arena.agents.settings import AgentSettings
from arena.audit import AuditCounts, audit, audit_episode
from arena.cli import main
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.load import load_experiment
from arena.experiment.schedule import EpisodeSpec
from arena.games.game import Game
from arena.games.sandbox import Sandbox
from arena.results.rows import EpisodeRow, MoveRow
from tests.support import random_play
from tests.support.game_turns import read_agent
from tests.support.random_play import Played
from tests.support.scripted_experiment import Script, run

#: How a model writes the action that it chooses. The strict reader accepts the first one alone.
WRITTEN: dict[str, Callable[[str], str]] = {
    "exact": lambda action: json.dumps({"reasoning": "r", "action": action}),
    "fence": lambda action: "```json\n" + json.dumps({"reasoning": "", "action": action}) + "\n```",
    "thinking": lambda action: f'<think>{{"action": "?"}}</think>{{"action": "{action}"}}',
    "spaces": lambda action: json.dumps({"reasoning": "", "action": f"{action} "}),
    "label": lambda action: f"I like it.\nFinal answer: {action}",
    "prose": lambda action: f"I would like to play {action} here.",
}


async def play(spec: str, reader: str, write: Callable[[str], str], **settings: object) -> tuple[
    EpisodeRow, list[MoveRow]
]:  # fmt: skip
    """An episode of two models that always choose the last legal action."""
    llm = read_agent(
        {"type": "llm", "model": "hf_m", "reply": "free", "reader": reader, **settings}
    )
    players: dict[str, AgentSettings] = {"a": llm, "b": llm}

    def ask_for(key: object) -> Callable[[object], object]:
        async def ask(call: object) -> ModelReply:
            prompt = call.messages[0][1]  # type: ignore[attr-defined]
            listed = prompt.rpartition(':\n"')[2].partition("\n\nYour JSON")[0]
            last = json.loads(('"' + listed).splitlines()[-1].partition(" (here")[0])
            return ModelReply(write(last), "m", 1.0)

        return ask

    episode = EpisodeSpec("one", spec, 0, ("a", "b"), 1)
    seats = seat_players(episode, players)
    return await play_episode(episode, Game.load(spec), seats, ask_for)  # type: ignore[arg-type]


FORMATS = {"a": "free", "b": "free"}


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("reader", ["strict", "lenient"])
async def test_good_moves_that_a_run_has_lost(kind: str, reader: str) -> None:
    row, moves = await play("tic_tac_toe", reader, WRITTEN[kind])
    counts, problems = audit([(row, moves)], FORMATS)
    assert problems == {}
    total = sum(one.replies for one in counts.values())
    lost = sum(one.lost for one in counts.values())
    if kind == "exact" or (reader == "lenient" and kind != "prose"):
        assert (row.status, total, lost) == ("finished", 7, 0)
    else:  # the first reply ended the game
        assert (row.status, total, lost) == ("forfeited", 1, int(kind != "prose"))
    assert sum(one.unchosen for one in counts.values()) == 0
    (first, *_) = counts.values()
    assert first.strict == (first.replies if kind == "exact" else 0)
    assert first.first_legal == (0 if kind == "prose" else first.first)


async def test_notes_and_aliases_need_the_position() -> None:
    row, moves = await play("kuhn_poker", "lenient", lambda action: json.dumps(
        {"action": "Check" if action == "Pass" else action}))  # fmt: skip
    counts, problems = audit([(row, moves)], FORMATS)
    assert (row.status, problems) == ("finished", {})
    assert sum(one.lost + one.unchosen for one in counts.values()) == 0


async def test_a_move_that_was_not_chosen_is_found() -> None:
    row, moves = await play("tic_tac_toe", "lenient", WRITTEN["exact"])
    other = moves[0].legal_actions[0]  # type: ignore[index]  # the model has chosen the last one
    forged = [replace(moves[0], action=other[0], action_text=other[1])]
    counts, _ = audit([(row, forged)], FORMATS)
    assert counts["a"].unchosen == 1


async def test_a_random_move_in_place_of_a_wrong_one_is_no_choice() -> None:
    row, moves = await play("tic_tac_toe", "lenient", lambda _: "no idea", on_illegal="random")
    counts, _ = audit([(row, moves)], FORMATS)
    assert row.status == "finished"
    assert sum(one.lost + one.unchosen + one.lenient for one in counts.values()) == 0


async def test_files_of_others_are_audited_in_another_process() -> None:
    row, moves = await play("tic_tac_toe", "strict", WRITTEN["fence"])

    def episodes() -> Iterator[tuple[EpisodeRow, list[MoveRow]]]:
        yield row, moves
        yield replace(row, episode="two", game="no_such_game"), moves
        yield replace(row, episode="three"), [replace(moves[0], seat=1)]

    with closing(Sandbox()) as sandbox:
        counts, problems = audit(episodes(), FORMATS, partial(sandbox.call, audit_episode))
    assert counts["a"].lost == 1
    assert "no game with this name" in problems["two"]
    assert problems["three"] == "AuditError: seat 1 does not move at ply 0"


def test_an_interval_covers_small_counts() -> None:
    low, high = AuditCounts(replies=200).interval(0)
    assert low == pytest.approx(0, abs=1e-9)
    assert 0.01 < high < 0.03


async def test_the_command_audits_a_results_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("name: small\ngames: [kuhn_poker]\nmodels: [hf_a, hf_b]\nreply: choices\n")
    path = tmp_path / "small.sqlite"
    await run(load_experiment(file), path, Script())
    assert main(["audit", str(path)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "player"
    assert [row.split()[0] for row in rows[:2]] == ["hf_a", "hf_b"]
    assert all(row.split()[2:10] == ["100.0", "%"] * 3 + ["0", "(0.0"] for row in rows[:2])
    assert rows[-1].split() == ["strict", str(sum(int(row.split()[1]) for row in rows[:2]))]
    missing = tmp_path / "missing.sqlite"
    assert main(["audit", str(missing)]) == 2


@pytest.fixture
def forged(tmp_path: Path) -> Path:
    """Results of one good episode, and of 23 in which a seat moved out of turn."""
    agents = ("hf_a-name-of-many-words", "openrouter_someone/a-model")
    good = random_play.play("tic_tac_toe", agents, rewrite=lambda row: [random_play.asked(row)])
    bad = [
        Played(
            replace(good.row, episode=f"bad{number}", number=number),
            (replace(good.moves[0], episode=f"bad{number}", seat=1),),
        )
        for number in range(1, 24)
    ]
    return random_play.write(tmp_path / "r.sqlite", [good, *bad])


@pytest.mark.parametrize(("command", "code"), [("audit", 0), ("verify", 1)])
def test_the_first_problems_are_named_and_the_others_counted(
    command: str, code: int, forged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(forged)]) == code
    *named, rest = capsys.readouterr().err.splitlines()
    assert len(named) == 20
    assert all("seat" in line for line in named)
    assert rest == "arena: and 3 more"


def test_the_tables_fit_into_a_terminal(
    forged: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With such names they were 98 characters wide."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["audit", str(forged)]) == 0
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 80
    # Names are broken at their punctuation, and no figure is.
    assert {"a-model", "words", "(0.0", "43.4", "%)"} <= set(narrow.split())
    assert "Not shown: first legal (use --wide)." in narrow
    assert main(["audit", str(forged), "--wide"]) == 0
    wide = capsys.readouterr().out
    assert "first legal" in wide.splitlines()[0]
    assert "Not shown" not in wide
