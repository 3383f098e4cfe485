"""Fresh interpreters, for what a process can do but once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

FORK_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"


def run_python(source: str, *arguments: str, fork_switch: str = "") -> subprocess.Popen[str]:
    """A fresh interpreter, whose output is text, in a process group of its own.

    fork_switch: what the user has set; by default nothing.
    """
    # Importing the client sets it for this process.
    env = {name: value for name, value in os.environ.items() if name != FORK_SWITCH}
    if fork_switch:
        env[FORK_SWITCH] = fork_switch
    warnings = "default" if fork_switch else "error"
    return subprocess.Popen(
        [sys.executable, "-W", warnings, "-c", textwrap.dedent(source), *arguments],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
