"""What all tests need."""

from __future__ import annotations

import os
import signal

# Before torch is loaded, here and in all that is started: threads that wait for each other
# sleep. Spinning, they take the cores from whom they wait for, where several models run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
