"""The litellm service before an OpenAI-compatible server that is not ours, with a real model.

`transformers serve` with the embedded checkpoint
(https://huggingface.co/docs/transformers/serving).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from arena_llm import ArenaError, AsyncClient
from services.hf.embedded import default_folder, prepare
from tests.support.processes import ServiceProcess
from tests.support.system import free_ports

CHECKPOINT = default_folder()
#: The server calls its one model as it was called on its command line.
MODEL = f"litellm_hosted_vllm/{CHECKPOINT}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The base URL of the server; it is killed when the tests end."""
    prepare(CHECKPOINT)
    (port,) = free_ports(1)
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    assert command is not None
    environ = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        server = subprocess.Popen(
            [
                *(command, "serve", str(CHECKPOINT), "--host", "127.0.0.1", "--port", str(port)),
                *("--device", "cpu", "--dtype", "float32"),
            ],
            env=environ,
            stdout=log,
            stderr=log,
        )
        try:
            _wait(server, f"http://127.0.0.1:{port}/health", Path(log.name))
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.wait(timeout=30)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    ends = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=1) as answer:  # noqa: S310 - loopback
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.1)


@pytest.fixture
async def llm(url: str, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    (port,) = free_ports(1)
    config = tmp_path / "litellm_models.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"models:\n  - {{name: {MODEL}, api_base: '{url}', timeout_seconds: 120}}\n"
    )
    service = ServiceProcess(f"127.0.0.1:{port}", "-m", "services.litellm", "--config", str(config))
    with service:
        async with AsyncClient(service.address, timeout=120) as client:
            yield client


async def test_a_server_that_this_project_did_not_write(llm: AsyncClient) -> None:
    assert (await llm.is_available(MODEL)).available
    prompt = "What is the capital of France? Answer with one word."
    whole = await llm.generate(MODEL, prompt, max_tokens=12, temperature=0)
    assert "Paris" in whole.text
    assert whole.usage.prompt_tokens > 10
    assert whole.usage.completion_tokens > 0
    assert whole.usage.cost_usd is None
    stream = llm.stream(MODEL, prompt, max_tokens=12, temperature=0)
    deltas = [delta async for delta in stream]
    assert "".join(deltas) == whole.text
    assert len(deltas) > 1
    assert stream.completion is not None
    assert stream.completion.finish_reason == whole.finish_reason
    # So small a model may fail twice, but what comes back is never wrong.
    (move,) = await llm.generate_many(MODEL, ["Pick a or b."], choices=["a", "b"], max_tokens=8)
    if isinstance(move, ArenaError):
        assert move.reason in ("UNSUPPORTED", "INVALID_REQUEST")
    else:
        assert move.text in ("a", "b")
