"""`arena report` as a process: its reader may leave early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.random_play import play, write

pytestmark = pytest.mark.integration  # starts processes


def test_the_page_is_there_though_nobody_reads_the_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "r.sqlite", [play("matrix_rps", ("hf_one", "random"))])
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "arena.cli", "report", path],
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (1, "")
    assert (tmp_path / "r.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
