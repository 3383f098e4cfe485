"""The process manager: supervisord for one run folder, whose path may have any length.

`python -m deploy.manager RUN_FOLDER` reads supervisord.conf there, whose paths are relative.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from supervisor import supervisord
from supervisor.options import ServerOptions

#: The manager's socket, in the run folder.
SOCKET = "supervisor.sock"


class _Options(ServerOptions):  # type: ignore[misc] # supervisor has no types
    def realize(self, *args: Any, **kwargs: Any) -> None:
        super().realize(*args, **kwargs)
        # supervisord makes it absolute, but the path of a Unix socket has at most 107 bytes
        # (103 on macOS).
        for server in self.server_configs:
            server["file"] = SOCKET
        # A log is opened again after a crash. The folder may be a new one by then, made after
        # the one that this process stands in was deleted.
        for group in self.process_group_configs:
            for service in group.process_configs:
                service.stdout_logfile = os.path.abspath(service.stdout_logfile)


def main() -> None:
    os.chdir(sys.argv[1])
    supervisord.ServerOptions = _Options
    supervisord.main(["-c", "supervisord.conf"])


if __name__ == "__main__":
    main()
