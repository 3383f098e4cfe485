"""Fresh interpreters, for what a process can do but once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

FORK_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"


def run_python(source: str, *arguments: str) -> subprocess.Popen[str]:
    """A fresh interpreter, whose output is text, and whose choice of fork support is its own."""
    # Importing the client sets it for this process, unless something imported grpc before.
    env = {name: value for name, value in os.environ.items() if name != FORK_SWITCH}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source), *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
