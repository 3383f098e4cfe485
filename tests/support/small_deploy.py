"""`python -m tests.support.small_deploy COMMAND`: deploy for a router and a stand-in for hf.

It is the code of deploy/ with a shorter list of services. They start in a second, so that
the tests of the process manager can start many systems.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from deploy import services
from deploy.managed import ManagedService


def small_services() -> Sequence[ManagedService]:
    """The router and the stand-in, on the addresses of the configuration."""
    by_name = {service.name: service for service in services.ALL_SERVICES}
    stand_in = replace(by_name["hf"], module="tests.support.stand_in", prepare=None)
    return (by_name["router"], stand_in)


if __name__ == "__main__":
    # Before the commands are imported, as in deploy/__main__.py.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    services.SERVICES = tuple(small_services())
    services.ALL_SERVICES = (services.find_service("edge"), *services.SERVICES)
    from deploy.commands import main

    main()
