"""Which files of a repository are fetched, from a fake model hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration  # starts processes

COMMIT = "a" * 40
#: The library reads the hub's address on import, so each call runs in a new process.
PROGRAM = """
import json, sys
from services.hf.checkpoint import is_downloaded, locate
from services.hf.config import HfModel

entry = HfModel(name="hf_owner/model", revision="main", **json.loads(sys.argv[1]))
folder = locate(entry)
files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
print(json.dumps([is_downloaded(entry), files]))
"""
PARTS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = {"model.safetensors.index.json": json.dumps({"weight_map": {"a": PARTS[0], "b": PARTS[1]}})}
SETTINGS = {"config.json": "{}", "tokenizer.json": "{}"}
CODE = {"own.py": "", "layers/attention.py": ""}
OTHERS = {"consolidated.safetensors": "x", "README.md": "x", "model.onnx": "x"}
PICKLED = {"pytorch_model.bin": "x"}
SAFE = {"model.safetensors": "x"}


@contextmanager
def hub(files: dict[str, str]) -> Iterator[str]:
    """A model hub with one repository. Yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: bytes, **headers: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if "/tree/" in path:
                tree = [
                    {"type": "file", "path": name, "size": len(text), "oid": name}
                    for name, text in files.items()
                ]
                self._answer(json.dumps(tree).encode(), Content_Type="application/json")
                return
            if path.startswith("/api/models/owner/model"):
                siblings = [{"rfilename": name} for name in files]
                info = {"id": "owner/model", "sha": COMMIT, "siblings": siblings}
                self._answer(json.dumps(info).encode(), Content_Type="application/json")
                return
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            body = files[name].encode()
            tag = f'"{hashlib.sha256(body + name.encode()).hexdigest()}"'
            self._answer(body, ETag=tag, X_Repo_Commit=COMMIT)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def fetch(home: Path, files: dict[str, str], **entry: Any) -> tuple[bool, set[str]]:
    """Whether the model is then downloaded, and the names of the files that are fetched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with hub(files) as endpoint:
        own = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(entry)],
            env={**kept, **own, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    downloaded, names = json.loads(done.stdout)
    return downloaded, {*names}


@pytest.mark.parametrize(
    ("files", "entry", "fetched"),
    [
        ({**SETTINGS, **SAFE, **OTHERS, **PICKLED, **CODE}, {}, {*SETTINGS, *SAFE}),
        (
            {**SETTINGS, **INDEX, **dict.fromkeys([*PARTS, "other.safetensors"], "x"), **OTHERS},
            {},
            {*SETTINGS, *INDEX, *PARTS},
        ),
        (
            {**SETTINGS, **SAFE, **CODE},
            {"trust_remote_code": True},
            {*SETTINGS, *SAFE, *CODE},
        ),
        ({**SETTINGS, **PICKLED}, {"allow_pickle": True}, {*SETTINGS, *PICKLED}),
        ({**SETTINGS, **PICKLED}, {}, {*SETTINGS}),
        ({**SETTINGS, **SAFE, **PICKLED}, {"allow_pickle": True}, {*SETTINGS, *SAFE}),
    ],
    ids=["one file", "an index", "code", "pickled", "pickled, not allowed", "both"],
)
def test_only_what_the_model_needs_is_fetched(
    tmp_path: Path, files: dict[str, str], entry: dict[str, Any], fetched: set[str]
) -> None:
    complete = fetched != {*SETTINGS}
    assert fetch(tmp_path, files, **entry) == (complete, fetched)
