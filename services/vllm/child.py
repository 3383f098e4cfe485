"""Set-up of the processes of an engine. vLLM calls it as a general plugin.

vLLM starts an engine core for each engine, and the core starts its workers. The entry point in
pyproject.toml makes each of them call `adopt` first.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
from multiprocessing import shared_memory
from typing import TextIO

#: Variables: the pid of the service, and, while an engine starts, the file for its error, and how
#: the names of its shared memory begin.
PARENT = "ARENA_VLLM_PARENT"
FAILURE = "ARENA_VLLM_FAILURE"
SHARED = "ARENA_VLLM_SHARED"

# prctl(2), <sys/prctl.h>
_PR_SET_PDEATHSIG = 1


def adopt() -> None:
    """Tie this process to the service. Does nothing in processes of other programs."""
    if PARENT not in os.environ:
        return
    if os.environ[PARENT] == str(os.getppid()):  # an engine core; workers stay with it
        # Its own process group, so that Ctrl-C reaches only the service, which lets
        # running calls finish.
        os.setpgid(0, 0)
        # If the service is killed, the kernel kills its engines, which frees their memory.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _zero_cache_blocks()
    if SHARED in os.environ:
        # The service removes the memory of an engine that died while it started.
        shared_memory._SHM_NAME_PREFIX = "/" + os.environ[SHARED]  # type: ignore[attr-defined]
    # Its log contains texts of grammars and replies.
    logging.getLogger("vllm.v1.structured_output.backend_guidance").disabled = True
    if os.environ[PARENT] != str(os.getpid()) and FAILURE in os.environ:
        file = open(os.environ[FAILURE], "a", encoding="utf-8")  # noqa: SIM115 - stays open
        logging.getLogger("vllm").addHandler(_FirstError(file))


def _zero_cache_blocks() -> None:
    """Make an engine on a CPU zero the blocks of its cache before it reuses them.

    Attention on a CPU multiplies masked values by 0, and NaN times 0 is NaN: otherwise one
    request's NaN would reach the next request. Engines on GPUs skip masked values.
    """
    from vllm.platforms import current_platform
    from vllm.v1.kv_cache_interface import KVCacheConfig

    if current_platform.is_cpu():
        KVCacheConfig.needs_kv_cache_zeroing = True


class _FirstError(logging.Handler):
    """Writes the first logged exception to a file.

    vLLM reports to the service only that a process failed.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(logging.ERROR)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None or record.exc_info[1] is None:
            return
        error = record.exc_info[1]
        with contextlib.suppress(OSError):  # the log must not make the engine fail
            if not os.fstat(self._file.fileno()).st_size:
                self._file.write(f"{type(error).__name__}: {error}")
                self._file.flush()
