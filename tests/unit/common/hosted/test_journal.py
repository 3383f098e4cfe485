"""The journal of paid requests: what a kill leaves, and what the next call reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from arena_llm.types import Attempt
from services.common.hosted import journal as module
from services.common.hosted.journal import Bill, Journal


def make(folder: Path) -> Journal:
    return Journal(folder, "openrouter")


def kill(journal: Journal) -> None:
    """What a kill does: the lock ends with the process, and nothing is written."""
    os.close(journal._lock)


def costs(attempts: tuple[Attempt, ...]) -> list[tuple[str, int | None]]:
    return [(attempt.upstream_id, attempt.cost_picousd) for attempt in attempts]


def test_a_kill_leaves_what_was_sent(tmp_path: Path) -> None:
    journal = make(tmp_path)
    bill = Bill(journal, "one", "openrouter_a")
    answered, silent, refused, queued = (bill.begin() for _ in range(4))
    answered.send()
    answered.end("here", "gen-1", 7)
    silent.send()
    silent.name("gen-2")
    refused.send()
    refused.end("here", "", 0)
    assert not queued.sent
    assert len({answered.header, silent.header, refused.header, queued.header}) == 4
    assert all(entry.header.startswith("one-") for entry in (answered, silent))
    kill(journal)

    second = make(tmp_path)
    assert second._path == journal._path
    again = Bill(second, "one", "openrouter_a")
    assert costs(again.earlier) == [("gen-1", 7), ("gen-2", None)]
    assert {attempt.reason for attempt in again.earlier} == {"INTERRUPTED"}
    assert Bill(second, "other", "openrouter_a").earlier == ()
    again.close(answered=True)
    kill(second)
    # Its reply may not have reached the caller: the next process still knows.
    assert costs(Bill(make(tmp_path), "one", "openrouter_a").earlier) == costs(again.earlier)


def test_attempts_of_an_error_that_nobody_heard(tmp_path: Path) -> None:
    """They survive a kill. What cost nothing is not remembered."""
    journal = make(tmp_path)
    attempts = [Attempt("here", "gen-1", cost_picousd=7), Attempt(cost_picousd=0), Attempt()]
    journal.keep_attempts("one", attempts)
    kill(journal)
    second = make(tmp_path)
    assert costs(Bill(second, "one", "openrouter_a").earlier) == [("gen-1", 7), ("", None)]


def test_a_reply_that_nobody_got_is_remembered_once(tmp_path: Path) -> None:
    """Its own lines are in the file, too."""
    journal = make(tmp_path)
    journal.keep_attempts("one", [Attempt("here", "gen-0", cost_picousd=5)])
    bill = Bill(journal, "other", "openrouter_a")
    entry = bill.begin()
    entry.send()
    entry.end("here", "gen-1", 7)
    bill.close(answered=True)
    journal.keep_attempts("other", [Attempt("here", "gen-1", cost_picousd=7)])
    journal.keep_attempts("one", [Attempt("here", "gen-2", cost_picousd=9)])
    kill(journal)
    second = make(tmp_path)
    assert costs(Bill(second, "other", "openrouter_a").earlier) == [("gen-1", 7)]
    assert costs(Bill(second, "one", "openrouter_a").earlier) == [("gen-0", 5), ("gen-2", 9)]


def test_an_error_reports_its_requests_once(tmp_path: Path) -> None:
    journal = make(tmp_path)
    bill = Bill(journal, "one", "openrouter_a")
    bill.begin().send()
    bill.report()
    bill.close(answered=False)
    assert Bill(journal, "one", "openrouter_a").earlier == ()
    kill(journal)
    assert Bill(make(tmp_path), "one", "openrouter_a").earlier == ()


@pytest.mark.parametrize("written", [True, False], ids=["with a file", "without"])
def test_a_cancelled_call_is_remembered(tmp_path: Path, written: bool) -> None:
    journal = Journal(tmp_path if written else None, "litellm")
    bill = Bill(journal, "one", "litellm_a")
    bill.begin().send()
    bill.begin()  # not sent
    bill.close(answered=False)
    again = Bill(journal, "one", "litellm_a")
    assert costs(again.earlier) == [("", None)]
    again.close(answered=False)
    assert costs(Bill(journal, "one", "litellm_a").earlier) == [("", None)]


def test_it_has_no_more_than_ids_times_and_costs(tmp_path: Path) -> None:
    bill = Bill(make(tmp_path), "one", "openrouter_a")
    entry = bill.begin()
    entry.send()
    entry.end("here", "gen-1", 7)
    (file,) = tmp_path.glob("*.jsonl")
    assert file.stat().st_mode & 0o077 == 0
    sent, ended = map(json.loads, file.read_text().splitlines())
    assert sent.keys() == {"sent", "request_id", "model", "time"}
    assert ended.keys() == {"ended", "request_id", "cost_picousd", "id", "provider"}


def test_its_size_is_bounded_and_open_requests_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 5_000)
    monkeypatch.setattr(module, "_MAX_CALLS", 20)
    journal = make(tmp_path)
    Bill(journal, "slow", "openrouter_a").begin().send()
    for number in range(1000):
        bill = Bill(journal, f"call-{number}", "openrouter_a")
        entry = bill.begin()
        entry.send()
        entry.end("here", "", 7)
        bill.close(answered=number % 10 > 0)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 20_000
    assert len(journal._lost) == 20
    kill(journal)
    assert costs(Bill(make(tmp_path), "slow", "openrouter_a").earlier) == [("", None)]


def test_a_line_that_a_kill_left_unfinished_is_skipped(tmp_path: Path) -> None:
    journal = make(tmp_path)
    Bill(journal, "one", "openrouter_a").begin().send()
    kill(journal)
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("ab") as end:
        end.write(b'[]\n{"sent": 7, "request_id": []}\n\xff\n{"sent": "a", "requ')
    assert costs(Bill(make(tmp_path), "one", "openrouter_a").earlier) == [("", None)]


def test_each_process_has_its_own_file(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    assert first._path != second._path
    Bill(first, "one", "openrouter_a").begin().send()
    assert Bill(second, "one", "openrouter_a").earlier == ()


def test_a_disk_that_fails_stops_no_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    journal = make(tmp_path / "file" / "folder")
    bill = Bill(journal, "one", "openrouter_a")
    bill.begin().send()
    bill.close(answered=False)
    assert costs(Bill(journal, "one", "openrouter_a").earlier) == [("", None)]
