"""grpc, imported with fork support: every module of the client takes it from here.

grpc reads the switch when it is imported, so it must be set before. Without it
a forked child shares its parent's sockets: neither can make calls any more.
Where the process imported grpc before the client, its choice stands.
"""

import os
import sys

_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"

if "grpc" not in sys.modules:
    os.environ.setdefault(_SWITCH, "1")

#: Whether a forked child can make calls after its parent has made some.
FORK_SUPPORT = os.environ.get(_SWITCH, "").lower() in {"1", "true", "yes"}

import grpc  # noqa: E402 - the switch comes first
from grpc import aio  # noqa: E402 - as above

__all__ = ["FORK_SUPPORT", "aio", "grpc"]
