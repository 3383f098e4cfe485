"""The embedded replays: complete, of limited size, and reproducible."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arena.report.count import summarise
from arena.report.embed import TEXT, Embedded, Report, clip, embed
from arena.report.load import open_results
from arena.report.page import render
from arena.results.rows import MoveRow
from tests.support.random_play import Played, asked, play, write


def embed_file(path: Path, **limits: int) -> Embedded:
    with open_results(path) as results:
        return embed(results, summarise(results), **limits)


def unpack(embedded: Embedded, entry: dict[str, Any]) -> dict[str, Any]:
    part = gzip.decompress(base64.b64decode(embedded.parts[entry["part"]]))
    episodes: list[dict[str, Any]] = json.loads(part)
    place: int = entry["place"]
    return episodes[place]


def test_an_embedded_episode_is_equal_to_the_stored_one(tmp_path: Path) -> None:
    game = play("kuhn_poker", ("hf_one", "random"), 3, lambda row: [asked(row)])
    other = play("tic_tac_toe", ("random", "hf_one"), 0)
    found = embed_file(write(tmp_path / "r.db", [game, other]))
    entry = next(entry for entry in found.index["episodes"] if entry["id"] == game.row.episode)
    assert found.index["games"][entry["game"]] == "kuhn_poker"
    assert [found.index["agents"][place]["name"] for place in entry["agents"]] == [
        "hf_one",
        "random",
    ]
    assert entry["returns"] == game.row.returns
    steps = unpack(found, entry)["steps"]
    assert [step["seat"] for step in steps[:3]] == [-1, -1, 0]
    for step, move in zip(steps, game.moves, strict=True):
        for name in ("board", "prompt", "reply", "reasoning", "action"):
            assert step.get(name) == getattr(move, name)
        assert step.get("text") == move.action_text


def test_the_parts_contain_no_time(tmp_path: Path) -> None:
    """With the time of gzip's header, equal results would not give equal pages."""
    found = embed_file(write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))]))
    for part in found.parts:
        assert base64.b64decode(part)[4:8] == bytes(4)  # MTIME (RFC 1952)


def test_the_final_position_is_embedded(tmp_path: Path) -> None:
    game = play("tic_tac_toe", ("hf_one", "random"), 0)
    found = embed_file(write(tmp_path / "r.db", [game]))
    board = unpack(found, found.index["episodes"][0])["board"]
    assert board.count(".") == (game.moves[-1].board or "").count(".") - 1


def test_a_step_says_who_answered_and_what_it_took(tmp_path: Path) -> None:
    def answer(row: MoveRow) -> list[MoveRow]:
        known = {"provider": "p", "precision": "fp8", "enforcement": "prompt", "attempts": 2}
        unknown = {"prompt_tokens": None, "reasoning_tokens": None, "cost_picousd": None}
        return [asked(row, finish_reason="length", completion_tokens=3, **known, **unknown)]

    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0, answer)
    found = embed_file(write(tmp_path / "r.db", [game]))
    step = unpack(found, found.index["episodes"][0])["steps"][0]
    assert step["tokens"] == [None, 3, None]
    assert "cost" not in step
    assert (step["served"], step["enforcement"], step["end"]) == ("p, fp8", "prompt", "length")
    assert step["attempts"] == 2


def test_a_step_has_its_cost_as_it_is_shown(tmp_path: Path) -> None:
    def answer(row: MoveRow) -> list[MoveRow]:
        return [asked(row, cost_picousd=33 * 10**9)]

    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0, answer)
    found = embed_file(write(tmp_path / "r.db", [game]))
    assert unpack(found, found.index["episodes"][0])["steps"][0]["cost"] == "$0.033"


def test_a_long_text_keeps_its_ends_and_says_what_was_cut() -> None:
    text = "a" * 600_000 + "b" * 400_000
    short = clip(text)
    assert short is not None
    assert len(short) < TEXT + 200
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert f"{len(text) - TEXT:,} characters are left out" in short
    assert clip("a" * TEXT) == "a" * TEXT


def long_winded(row: MoveRow) -> list[MoveRow]:
    return [asked(row, reply="\x00</script>" * 100_000)]


def test_megabytes_of_replies_become_kilobytes(tmp_path: Path) -> None:
    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0, long_winded)
    assert sum(len(move.reply or "") for move in game.moves) > 5_000_000
    found = embed_file(write(tmp_path / "r.db", [game]))
    assert sum(map(len, found.parts)) < 50_000


def test_beyond_the_limits_texts_and_then_moves_are_left_out(tmp_path: Path) -> None:
    """The first episodes of each line-up stay complete."""
    pairs = (("hf_one", "hf_two"), ("hf_two", "hf_one"))
    played = [
        play("hex(board_size=6)", pair, number, lambda row: [asked(row)])
        for pair in pairs
        for number in range(6)
    ]
    path = write(tmp_path / "r.db", played)
    everything = embed_file(path, part=1)
    assert (everything.brief, everything.absent) == (0, 0)
    size = sum(map(len, everything.parts))
    found = embed_file(path, part=1, whole=size // 4, brief=size // 2)
    assert found.brief
    assert sum(map(len, found.parts)) < size
    entries = found.index["episodes"]
    assert len(entries) == len(played)
    there = [entry for entry in entries if "part" in entry]
    whole = [entry for entry in there if "brief" not in unpack(found, entry)]
    brief = [entry for entry in there if "brief" in unpack(found, entry)]
    assert len(brief) == found.brief
    assert len(there) + found.absent == len(played)
    assert max(entry["number"] for entry in whole) <= min(entry["number"] for entry in brief)
    step = unpack(found, brief[0])["steps"][0]
    assert "board" in step
    assert "prompt" not in step
    nothing = embed_file(path, whole=0, brief=0)
    assert (nothing.absent, nothing.parts) == (len(played), [])


def test_a_large_page_lists_the_first_episodes_and_those_that_a_table_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena.report.embed.LISTED", 3)
    games = [play("tic_tac_toe", ("hf_one", "hf_two"), number) for number in range(6)]
    failed = replace(games[5].row, status="failed", reason="A B c", returns=None)
    path = write(tmp_path / "r.db", [*games[:5], Played(failed, ())])
    report = Report.load(path, replays=1)
    entries = report.embedded.index["episodes"]
    assert [entry["number"] for entry in entries] == [0, 1, 2, 5]
    assert ["part" in entry for entry in entries] == [True, False, False, False]
    assert (report.embedded.absent, report.embedded.unlisted) == (3, 2)
    page = render(report)
    assert "3 without moves, and 2 are not listed." in page


def test_a_failed_episode_has_its_error_as_a_move(tmp_path: Path) -> None:
    game = play("tic_tac_toe", ("hf_one", "hf_two"), 0)
    error = replace(game.moves[1], status="error", problem="A B c", action=None, action_text=None)
    row = replace(game.row, status="failed", reason="A B c", returns=(float("nan"), 0.0))
    found = embed_file(write(tmp_path / "r.db", [Played(row, (game.moves[0], error))]))
    (entry,) = found.index["episodes"]
    assert entry["outcomes"] == ["failed", "failed"]
    assert "returns" not in entry
    assert unpack(found, entry)["steps"][1]["problem"] == "A B c"
