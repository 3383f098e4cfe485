"""One call: bugs, bytes that do not parse, deadlines, cancellation, and its line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from arena_llm.types import Delta
from services.common.errors import Overloaded
from tests.support.logs import capture_logs
from tests.support.scripted import completion, hang, scripted
from tests.support.waiting import eventually, reaching
from tests.support.wire import details, failure, reason, request, score_request, stub

PRIVATE = "sk-secret-key and the prompt"


@pytest.fixture
def log() -> Any:
    with capture_logs() as lines:
        yield lines


def call_lines(log: Any) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == "call"]


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_bug_is_internal_with_an_id_that_is_in_the_log(rpc: str, log: Any) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(ValueError(PRIVATE))
        error = await failure(getattr(llm, rpc)(request(prompt=PRIVATE)))
    assert error.code().name == "INTERNAL"
    info = details(error)["ErrorInfo"]
    assert info.reason == "INTERNAL"
    (bug,) = [line for line in log if line["event"] == "bug"]
    assert bug["error_id"] == info.metadata["error_id"]
    assert bug["error_id"] in error.details()
    assert bug["type"] == "ValueError"
    assert any("scripted.py" in frame for frame in bug["frames"])
    assert "secret" not in f"{log}{error.details()}{error.trailing_metadata()}"


@pytest.mark.parametrize("kind", [AttributeError, TypeError, NameError, ImportError])
async def test_the_log_shows_the_text_of_an_exception_about_code(
    kind: type[Exception], log: Any
) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(kind("'dict' object has no attribute 'role'\n"))
        error = await failure(llm.Generate(request()))
    (bug,) = [line for line in log if line["event"] == "bug"]
    assert bug["message"] == r"'dict' object has no attribute 'role'\n"
    assert "dict" not in error.details()


async def test_a_timeout_inside_the_backend_is_a_bug_and_not_a_missed_deadline() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(TimeoutError())
        assert reason(await failure(llm.Generate(request(), timeout=60))) == "INTERNAL"


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate", "Score", "IsAvailable"])
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x02\xff\xfe"])  # 2nd: not UTF-8
async def test_bytes_that_do_not_parse(rpc: str, data: bytes) -> None:
    async with scripted() as (_, server), stub(server.address) as llm:
        error = await failure(_raw(llm, rpc)(data))
    assert error.code().name == "INVALID_ARGUMENT"
    assert reason(error) == "INVALID_REQUEST"


def _raw(llm: Any, rpc: str) -> Any:
    call = getattr(llm, rpc)
    call._request_serializer = None  # the stub then sends the bytes unchanged
    return call


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_missed_deadline_cancels_the_backend(rpc: str, log: Any) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.default = hang
        error = await reaching(
            lambda: backend.history,
            lambda seconds: failure(getattr(llm, rpc)(request(), timeout=seconds)),
        )
        assert error.code().name == "DEADLINE_EXCEEDED"
        await eventually(lambda: not backend.running)
        assert set(backend.ended) == {"CancelledError"}
        await eventually(lambda: call_lines(log))
    assert call_lines(log)[0]["status"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate", "Score"])
async def test_a_cancelled_call_cancels_the_backend(rpc: str, log: Any) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(hang)
        call = getattr(llm, rpc)(score_request() if rpc == "Score" else request())
        await eventually(lambda: backend.running == 1)
        call.cancel()
        await eventually(lambda: backend.ended == ["CancelledError"])
        await eventually(lambda: call_lines(log))
    assert call_lines(log)[0]["status"] == "CANCELLED"


async def test_a_stream_that_is_cancelled_while_a_message_is_sent(log: Any) -> None:
    """gRPC drops the generator at that point. The log must not say that the call succeeded."""
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue([Delta(text="x" * 100_000)] * 1000)
        call = llm.StreamGenerate(request())
        await anext(aiter(call))
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call.code()
        await eventually(lambda: backend.ended)
        await eventually(lambda: call_lines(log))
        assert backend.ended == ["GeneratorExit"] or backend.ended == ["CancelledError"]
    assert call_lines(log)[0]["status"] == "CANCELLED"


async def test_the_line_of_a_call(log: Any) -> None:
    labels = {"experiment": "one", "player": "x"}
    async with scripted() as (_, server), stub(server.address) as llm:
        await llm.Generate(request(prompt=PRIVATE, session="game-7", labels=labels))
    (line,) = call_lines(log)
    assert line.pop("total_s") >= 0
    assert line.pop("request_id")
    assert line == {
        "event": "call",
        "log_level": "info",
        "rpc": "Generate",
        "status": "OK",
        "model": "hf_model",
        "session": "game-7",
        "label.experiment": "one",
        "label.player": "x",
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "cost_usd": "0",
        "queue_s": 0.0,
    }


async def test_the_line_of_a_call_has_the_id_of_its_completion(log: Any) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.generate_response = AsyncMock(  # type: ignore[method-assign]
            return_value=replace(completion("ok"), id="gen-1")
        )
        assert (await llm.Generate(request())).id == "gen-1"
    assert [line["id"] for line in call_lines(log)] == ["gen-1"]


async def test_the_line_of_a_failed_call(log: Any) -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(Overloaded("full", field="prompt"))
        await failure(llm.Generate(request(prompt=PRIVATE)))
    (line,) = call_lines(log)
    assert line["log_level"] == "warning"
    assert (line["status"], line["reason"], line["field"]) == (
        "RESOURCE_EXHAUSTED",
        "OVERLOADED",
        "prompt",
    )
    assert "secret" not in str(log)


#: Runs in a separate process, because a service configures its logger only once.
_WRITE = """
import json, sys
from services.common.call import CallRecord
from services.common.log import configure_logging

configure_logging()
for text in json.load(sys.stdin):
    record = CallRecord("Generate")
    record.add_request(text, text, dict.fromkeys([text, *map(str, range(99))], text))
    record.end()
"""


def test_text_of_a_caller_cannot_forge_a_line() -> None:
    texts = ["a b", 'a"b', "a=b", "two\nlines", "\x1b[31mred", "\u2028", "\r", "x" * 9999]
    written = subprocess.run(
        [sys.executable, "-c", _WRITE], input=json.dumps(texts).encode(), capture_output=True
    )
    assert written.returncode == 0, written.stderr.decode()
    lines = written.stderr.decode().split("\n")[:-1]
    assert len(lines) == len(texts)
    for line in lines:
        assert line.startswith("timestamp=")
        assert line.isprintable()
        assert len(line) < 6000
