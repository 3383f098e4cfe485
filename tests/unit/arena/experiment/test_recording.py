"""--record and --replay: the same results without a backend, and errors that show why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from arena.agents.calls import ModelCall
from arena.experiment.file import Experiment
from arena.experiment.recording import RecordedModels, Recorder, RecordingError
from arena.experiment.schedule import schedule
from arena.export.tables import export_tables
from arena.results.database import connect
from arena.results.rows import CallKey, request_to_json
from arena_llm.errors import NotFoundError, UnavailableError
from arena_llm.types import Attempt, CallReport, CostBasis, ServedBy, Usage
from tests.support.results import content
from tests.support.scripted_experiment import Script, run, some_choice

Load = Callable[..., Experiment]


def sometimes(key: CallKey, call: ModelCall) -> str:
    """Fails in some episodes, and answers illegally in others."""
    if key.episode.startswith("kuhn_poker/0/hf_a") and key.ply > 2:
        raise UnavailableError("down \u2026", reason="BACKEND_DOWN", retry_after=2.5, model="hf_a")
    if key.episode.startswith("tic_tac_toe/1/hf_b") and key.ply == 4:
        return "somewhere"
    return some_choice(key, call)


def statuses(path: Path) -> list[str]:
    with closing(connect(path)) as connection:
        return [status for (status,) in connection.execute("SELECT status FROM episodes")]


async def test_a_replay_gives_the_same_bytes(load: Load, tmp_path: Path) -> None:
    experiment, record = load(), tmp_path / "record.jsonl"
    first, again = tmp_path / "first.sqlite", tmp_path / "again.sqlite"
    await run(experiment, first, Script(sometimes), record=record)
    await run(experiment, again, RecordedModels(record), width=3)
    assert content(again) == content(first)
    for one, other in zip(
        export_tables(first, tmp_path / "1", "csv"),
        export_tables(again, tmp_path / "2", "csv"),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()
    text = (tmp_path / "1" / "episodes.csv").read_text()
    assert "UNAVAILABLE BACKEND_DOWN: down \u2026 (model hf_a; retry after 2.5 s)" in text
    assert "forfeited" in text


async def test_a_recording_of_several_runs(load: Load, tmp_path: Path) -> None:
    """A second run repeats the failed episodes and adds their replies to the recording."""
    experiment, record = load(), tmp_path / "record.jsonl"
    first, again = tmp_path / "first.sqlite", tmp_path / "again.sqlite"
    episodes = schedule(experiment)
    await run(experiment, first, Script(sometimes), episodes=episodes[:15], record=record)
    assert set(statuses(first)) == {"finished", "forfeited", "failed"}
    # A process was killed while it wrote a line.
    with record.open("a") as file:
        file.write('{"key":["tic_tac')
    await run(experiment, first, Script(), record=record)
    await run(experiment, again, RecordedModels(record))
    assert content(again) == content(first)
    assert set(statuses(first)) == {"finished", "forfeited"}


async def test_a_reply_that_only_the_results_have_is_added_to_the_recording(
    load: Load, tmp_path: Path
) -> None:
    """The process was killed after it stored the reply and before it recorded it."""
    experiment, record = load(), tmp_path / "record.jsonl"
    first, again = tmp_path / "first.sqlite", tmp_path / "again.sqlite"

    def fails(key: CallKey, call: ModelCall) -> str:
        if key.ply >= 2:
            raise UnavailableError("down")
        return some_choice(key, call)

    await run(experiment, first, Script(fails), episodes=schedule(experiment)[:1])
    await run(experiment, first, Script(), record=record)
    await run(experiment, again, RecordedModels(record))
    assert content(again) == content(first)


async def test_an_experiment_is_recorded_from_its_first_run_on(load: Load, tmp_path: Path) -> None:
    experiment, results = load(), tmp_path / "r.sqlite"
    await run(experiment, results, Script(), episodes=schedule(experiment)[:1])
    with pytest.raises(RecordingError, match=rf"has no reply for .*, but {results} has"):
        await run(experiment, results, Script(), record=tmp_path / "record.jsonl")


CALL = ModelCall("hf_a", (("user", "line one\nline two"),), {"max_tokens": 5})


def write_recording(path: Path, request: dict[str, object] | None = None) -> Path:
    call = {"model": "hf_a", "messages": [["user", "line one\nline two"]], "sampling": {}}
    rest = {"choices": None, "continuations": None}
    reply = {"text": "x", "model": "hf_a", "latency_ms": 1.5, "logprobs": [-0.5, float("-inf")]}
    line = {"key": ["e", 3, 1, 0], "request": call | rest | (request or {}), "reply": reply}
    path.write_text(json.dumps(line) + "\n")
    return path


async def test_a_reply(tmp_path: Path) -> None:
    replay = RecordedModels(write_recording(tmp_path / "r", {"sampling": {"max_tokens": 5}}))
    reply = await replay(CallKey("e", 3, 1, 0), CALL)
    assert (reply.text, reply.latency_ms, reply.logprobs) == ("x", 1.5, (-0.5, float("-inf")))


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (
            CallKey("e", 3, 1, 0),
            "the call of e, ply 3, seat 1, attempt 0 was recorded with another request:\n"
            '--- recorded\n+++ requested\n@@ -11,3 +11,5 @@\n  "model": "hf_a",\n'
            '- "sampling": {}\n+ "sampling": {\n+  "max_tokens": 5\n+ }\n }',
        ),
        (
            CallKey("e", 4, 0, 0),
            "the call of e, ply 4, seat 0, attempt 0 was not recorded. The last recorded "
            "call of this episode is the call of e, ply 3, seat 1, attempt 0; the difference to "
            "it:\n--- recorded",
        ),
        (
            CallKey("x", 0, 0, 0),
            "the call of x, ply 0, seat 0, attempt 0 was not recorded, and neither was any "
            "other call of its episode",
        ),
    ],
)
async def test_a_request_that_was_not_recorded(key: CallKey, says: str, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r")
    with pytest.raises(RecordingError) as caught:
        await RecordedModels(path)(key, CALL)
    assert str(caught.value).startswith(f"{path}: {says}")


async def test_a_recorded_error_is_raised_again(tmp_path: Path) -> None:
    path, key = tmp_path / "r", CallKey("e", 0, 0, 0)
    error = NotFoundError("gone", reason="MODEL_NOT_FOUND", model="hf_a", metadata={"a": "b"})
    error.report = CallReport(
        "id",
        (Attempt("p", http_status=500, reason="UPSTREAM_UNAVAILABLE"),),
        Usage(3, cost_picousd=7, cost_basis=CostBasis.BILLED),
        ServedBy("hf", provider="p"),
    )
    with Recorder(path) as recorder:
        recorder.error(key, "0" * 16, request_to_json(CALL), error)
    assert RecordedModels(path).run_id == "0" * 16
    with pytest.raises(NotFoundError) as caught:
        await RecordedModels(path)(key, CALL)
    assert vars(caught.value) == vars(error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("", "Invalid JSON"),
        ("\xff", "Invalid JSON"),
        ('{"key": ["e", 0, 0], "request": {}, "reply": null}', r"key\.3: Field required"),
        ('{"key": ["e", 0, 0, 0], "request": {}}', "must have either a reply or an error"),
        ('{"key": ["e", 0, 0, 0], "request": {}, "reply": {"text": "x"}}', r"reply\.model: Field"),
        ('{"key": ["e", 0, 0, 0], "request": {}, "error": {}}', r"error\.message: Field"),
        ('{"key": ["e", 0, 0, 0], "reply": null}', "request: Field required"),
        ('{"key": ["e", "0", 0, 0], "request": {}}', r"key\.1: Input should be a valid integer"),
    ],
)
@pytest.mark.parametrize("use", [RecordedModels, Recorder])
def test_a_corrupt_recording(use, line: str, reason: str, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r")
    with path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    with pytest.raises(RecordingError, match=f"^{path}:2: .*{reason}"):
        use(path)


def test_a_recording_with_an_incomplete_line(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordingError, match=f"{path}:1: the last line is incomplete"):
        RecordedModels(path)


def test_a_recording_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=f"{tmp_path}/none: cannot be read: No such file"):
        RecordedModels(tmp_path / "none")
    with pytest.raises(RecordingError, match=f"{tmp_path}: cannot be written: Is a directory"):
        Recorder(tmp_path)


def test_two_runs_cannot_write_the_same_recording(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r")
    with Recorder(path), pytest.raises(RecordingError, match=f"^{path}: another run is writing"):
        Recorder(path)
    Recorder(path).close()
