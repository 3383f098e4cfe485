"""A third-party server with OpenAI's API, which serves the embedded model.

`transformers serve` (https://huggingface.co/docs/transformers/serving).
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare
from tests.support.ports import free_ports

#: The server gives its only model the name from its command line.
MODEL = str(embedded_folder())


@contextmanager
def foreign_server() -> Iterator[str]:
    """The base URL of the server; it is killed when the block ends."""
    prepare(embedded_folder(), weights=True)
    (port,) = free_ports(1)
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    assert command is not None
    environ = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        server = subprocess.Popen(
            [
                *(command, "serve", MODEL, "--host", "127.0.0.1", "--port", str(port)),
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
