"""The process manager, supervisord, of one run folder: its process, and calls to it.

`python -m deploy.manager RUN_FOLDER` starts it with supervisord.conf from that folder. The
paths in this file are relative, so the folder's path may have any length.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

#: The manager's socket, in the run folder.
SOCKET = "supervisor.sock"

#: Seconds for one answer of the manager, which never waits for a service.
_TIMEOUT = 10

#: supervisord's fault SHUTDOWN_STATE: it refuses all calls while it stops.
_SHUTDOWN_STATE = 6


class ManagerError(Exception):
    """The manager did not answer, or refused. The text completes "the process manager ...".

    stopping: it refuses because it is stopping its services.
    """

    def __init__(self, text: str, *, stopping: bool = False) -> None:
        super().__init__(text)
        self.stopping = stopping


def call_manager(run_dir: Path, method: str, *arguments: object) -> Any:
    """Call a method of a run folder's manager. A name without a dot is one of `supervisor`.

    Raises ManagerError.
    """
    space, _, name = method.rpartition(".")
    try:
        with xmlrpc.client.ServerProxy("http://manager", _SocketTransport(run_dir)) as proxy:
            return getattr(getattr(proxy, space or "supervisor"), name)(*arguments)
    except xmlrpc.client.Fault as error:
        if error.faultCode == _SHUTDOWN_STATE:
            raise ManagerError("is stopping its services", stopping=True) from error
        raise ManagerError(f"refuses: {error.faultString}") from error
    except FileNotFoundError as error:
        raise ManagerError(f"cannot be reached, because {run_dir / SOCKET} is gone") from error
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError) as error:
        raise ManagerError(f"does not answer at {run_dir / SOCKET}: {error}") from error


class Starts:
    """The variables that each service is started with, behind the manager's calls `arena.*`.

    The values of variables, such as keys, are in the manager's memory and in no file.
    """

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._stamps: dict[str, str] = {}

    def prepare(self, name: str, environment: str, stamp: str) -> bool:
        """Set the variables of a service's next start, as JSON. stamp: is kept for `list`."""
        config = self._supervisord.process_groups[name].processes[name].config
        config.environment = json.loads(environment)
        self._stamps[name] = stamp
        return True

    def list(self) -> str:
        """Return the variables and the stamp of each service, as JSON."""
        return json.dumps(
            {
                name: (group.processes[name].config.environment, self._stamps.get(name, ""))
                for name, group in self._supervisord.process_groups.items()
            }
        )


def make_starts(supervisord: Any) -> Starts:
    """Return the calls `arena.*`; supervisord.conf names this function."""
    return Starts(supervisord)


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self._run_dir)
        self._connection = host, connection  # closed with the proxy
        return connection


class _Connection(http.client.HTTPConnection):
    def __init__(self, run_dir: Path) -> None:
        super().__init__("manager", timeout=_TIMEOUT)
        self._run_dir = run_dir

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        # The whole path can be too long for a socket.
        with contextlib.chdir(self._run_dir):
            self.sock.connect(SOCKET)


def main() -> None:
    """Become the manager of the run folder in the first argument."""
    from supervisor import supervisord
    from supervisor.options import ServerOptions

    class Options(ServerOptions):  # type: ignore[misc] # supervisor has no types
        def realize(self, *args: Any, **kwargs: Any) -> None:
            super().realize(*args, **kwargs)
            # supervisord makes the path absolute, but the path of a Unix socket has at most
            # 107 bytes (103 on macOS).
            for server in self.server_configs:
                server["file"] = SOCKET

        def process_config(self, do_usage: bool = True) -> None:  # also of a later reloadConfig
            super().process_config(do_usage)
            # A log is opened again after a crash. By then the folder may have been deleted and
            # made again, and this process is still in the deleted one.
            for group in self.process_group_configs:
                for service in group.process_configs:
                    service.stdout_logfile = os.path.abspath(service.stdout_logfile)

    os.chdir(sys.argv[1])
    supervisord.ServerOptions = Options
    supervisord.main(["-c", "supervisord.conf"])


if __name__ == "__main__":
    main()
