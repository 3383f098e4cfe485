"""The version of this software, as every reply names it, and of the clients that it serves."""

from __future__ import annotations

from importlib.metadata import version

SOFTWARE_VERSION = version("arena-llm-services")

#: The oldest revision of a client's contract that is served.
MINIMUM_CLIENT_REVISION = 1
