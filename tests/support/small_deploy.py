"""`python -m deploy` for a router and a stand-in for the hf service.

It is the code of deploy/ with a shorter list of services. They start in a second, so that
the tests of the process manager can start many systems.

`python -m tests.support.small_deploy COMMAND`; the stand-in itself is
`python -m tests.support.small_deploy` without a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deploy import services
from services.common.server import main as serve
from services.hf.backend import HfBackend
from services.hf.config import HfConfig
from tests.support.scripted import PromptedBackend


class StandInBackend(PromptedBackend):
    """Reads the configuration of the hf service, loads no model, and answers "Paris".

    With the variable ARENA_PLANTED_CRASH it exits at its start with this text as the reason.
    """

    name = "hf"
    config_type: Any = HfConfig
    environment = HfBackend.environment

    def __init__(self, config: HfConfig) -> None:
        if reason := os.environ.get("ARENA_PLANTED_CRASH"):
            sys.exit(reason)
        super().__init__("hf", "Paris")


def small_services() -> Sequence[services.ManagedService]:
    """The router and the stand-in, on the addresses of the configuration."""
    by_name = {service.name: service for service in services.SERVICES}
    stand_in = replace(by_name["hf"], module="tests.support.small_deploy", prepare=None)
    return (by_name["router"], stand_in)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve(StandInBackend)
    else:
        # Before the commands are imported.
        services.SERVICES = services.ALL_SERVICES = tuple(small_services())
        from deploy.commands import main

        main()
