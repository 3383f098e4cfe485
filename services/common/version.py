"""The version of this software, as every reply names it."""

from __future__ import annotations

from importlib.metadata import version

SOFTWARE_VERSION = version("arena-llm-services")
