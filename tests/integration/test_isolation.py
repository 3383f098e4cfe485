"""No socket that the configuration does not name: no telemetry, no downloads, no name servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.services import ROOT
from tests.support.network import UNSHARE, can_isolate


@pytest.mark.integration
@pytest.mark.skipif(not can_isolate(), reason="needs unshare and ip, and the right to use them")
def test_a_local_and_a_hosted_experiment_open_no_other_connection(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.isolated_system", str(tmp_path)]
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "tests.support.isolated", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # The packet with which tests.support.isolated shows that it sees packets.
    assert json.loads(done.stdout) == ["192.0.2.1"]
