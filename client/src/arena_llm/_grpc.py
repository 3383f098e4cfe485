"""grpc, imported with its fork support switched off: the client takes it from here.

With the switch on, a fork can end the calls that run in the parent, because the
child closes the shared connections; with grpc.aio the parent can crash. With the
switch off a fork costs the parent nothing, and _channel refuses calls in the child.

grpc reads the switch twice: its Python part when it is imported, its core when it
is first used, where unset means on.
"""

import os
import sys
import warnings

_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"


def _switch_off() -> None:
    was_on = os.environ.get(_SWITCH, "").lower() in {"1", "true", "yes", "on"}
    if "grpc" not in sys.modules:
        os.environ[_SWITCH] = "0"
        outcome = "arena_llm has switched it off"
    else:
        os.environ.setdefault(_SWITCH, "0")
        outcome = "grpc was imported before arena_llm and keeps it on: unset the variable"
    if was_on:
        warnings.warn(
            f"{_SWITCH} is on, with which a fork can end running calls; {outcome}",
            RuntimeWarning,
            stacklevel=2,
        )


_switch_off()

import grpc  # noqa: E402 - the switch comes first
from grpc import aio  # noqa: E402 - as above

__all__ = ["aio", "grpc"]
