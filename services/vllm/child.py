"""What runs inside the processes of an engine, called by vLLM as a general plugin.

vLLM starts an engine core for each engine, and the core its workers. The entry point in
pyproject.toml makes each of them call `adopt` before it does anything else.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
from typing import TextIO

#: The pid of the service, and, while an engine starts, the file for why it fails.
PARENT = "ARENA_VLLM_PARENT"
FAILURE = "ARENA_VLLM_FAILURE"

# prctl(2), <sys/prctl.h>
_PR_SET_PDEATHSIG = 1


def adopt() -> None:
    """Make this process one of the service's; elsewhere do nothing."""
    if PARENT not in os.environ:
        return
    if os.environ[PARENT] == str(os.getppid()):  # an engine core; workers stay with it
        # A group of its own: Ctrl-C reaches the service alone, which lets calls end.
        os.setpgid(0, 0)
        # A service that is killed takes its engines along, and their memory.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _zero_cache_blocks()
    # It logs texts of grammars and of replies.
    logging.getLogger("vllm.v1.structured_output.backend_guidance").disabled = True
    if os.environ[PARENT] != str(os.getpid()) and FAILURE in os.environ:
        file = open(os.environ[FAILURE], "a", encoding="utf-8")  # noqa: SIM115 - for good
        logging.getLogger("vllm").addHandler(_FirstError(file))


def _zero_cache_blocks() -> None:
    """Make an engine on a CPU zero the blocks of its cache before it uses them again.

    Attention on a CPU multiplies masked values by 0, and NaN times 0 is NaN: without this, one
    request's NaN would reach the next. Engines on GPUs skip masked values.
    """
    from vllm.platforms import current_platform
    from vllm.v1.kv_cache_interface import KVCacheConfig

    if current_platform.is_cpu():
        KVCacheConfig.needs_kv_cache_zeroing = True


class _FirstError(logging.Handler):
    """Writes the first exception that is logged to a file.

    The service itself is told only that a process failed.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(logging.ERROR)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None or record.exc_info[1] is None:
            return
        error = record.exc_info[1]
        with contextlib.suppress(OSError):  # the engine must not fail of its log
            if not os.fstat(self._file.fileno()).st_size:
                self._file.write(f"{type(error).__name__}: {error}")
                self._file.flush()
