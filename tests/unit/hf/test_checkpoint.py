"""Where a model's files come from, with a fake model hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.ports import refusing

pytestmark = pytest.mark.integration  # starts processes

#: The library reads the hub's address on import, so each call runs in a new process.
PROGRAM = """
import sys
from services.common.errors import BackendError
from services.hf.checkpoint import is_downloaded, locate
from services.hf.config import HfModel

entry = HfModel(name=sys.argv[1], revision="main")
try:
    print(is_downloaded(entry), locate(entry))
except BackendError as error:
    print(error.reason, error.message)
"""


@contextmanager
def hub(status: int, headers: dict[str, str]) -> Iterator[str]:
    """A server with the same answer to every request. Yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"<html>log in to this network first</html>")

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def locate_in_process(home: Path, endpoint: str, name: str = "hf_owner/model", **more: str) -> str:
    own = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        env={**kept, **own, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "MODEL_NOT_FOUND"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "MODEL_NOT_FOUND"),
        (403, {"X-Error-Code": "GatedRepo"}, "MODEL_MISCONFIGURED"),
        (429, {"Retry-After": "1"}, "UPSTREAM_UNAVAILABLE"),
        (500, {}, "UPSTREAM_UNAVAILABLE"),
        (200, {"Content-Type": "text/html"}, "UPSTREAM_UNAVAILABLE"),
    ],
)
def test_an_answer_of_the_hub(
    tmp_path: Path, status: int, headers: dict[str, str], reason: str
) -> None:
    with hub(status, headers) as endpoint:
        said = locate_in_process(tmp_path, endpoint)
    assert said.startswith(f"{reason} hf_owner/model: ")


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_an_unreachable_hub_is_reported_with_a_fix(tmp_path: Path, more: dict[str, str]) -> None:
    with refusing() as (address,):
        said = locate_in_process(tmp_path, f"http://{address}", **more)
    assert said.startswith("UPSTREAM_UNAVAILABLE ")
    assert "the model hub cannot be reached" in said
    assert "set model_path to the model's folder" in said


def test_a_name_that_no_hub_can_have(tmp_path: Path) -> None:
    said = locate_in_process(tmp_path, "http://127.0.0.1:1", "hf_a//b")
    assert said.startswith("MODEL_MISCONFIGURED ")


def test_a_downloaded_model_needs_no_hub(tmp_path: Path) -> None:
    repo = tmp_path / "hub/models--owner--model"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text("a" * 40)
    with refusing() as (address,):
        said = locate_in_process(tmp_path, f"http://{address}")
    assert said == f"True {snapshot}\n"
