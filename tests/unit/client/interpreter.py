"""New interpreters, for what a process can do only once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

FORK_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"


def run_python(source: str, *arguments: str, fork_switch: str = "") -> subprocess.Popen[str]:
    """Start a program in its own process group, with text output.

    fork_switch: the value of GRPC_ENABLE_FORK_SUPPORT; not set by default.
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
