"""Calls of the process manager, over its socket in the run folder."""

from __future__ import annotations

import contextlib
import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from deploy.manager import SOCKET

#: Seconds for one answer of the manager, which never waits for a service.
_TIMEOUT = 10

#: supervisord's fault SHUTDOWN_STATE: it refuses all calls while it stops.
_SHUTDOWN_STATE = 6


class ManagerError(Exception):
    """The process manager did not answer, or refused: the end of a sentence about it."""

    stopping = False


def ask(run_dir: Path, method: str, *arguments: object) -> Any:
    """Call a method of the manager of a run folder. Raises ManagerError."""
    try:
        with xmlrpc.client.ServerProxy("http://manager", _Transport(run_dir)) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)
    except xmlrpc.client.Fault as error:
        refusal = ManagerError(f"refuses: {error.faultString}")
        if error.faultCode == _SHUTDOWN_STATE:
            refusal = ManagerError("is stopping its services")
            refusal.stopping = True
        raise refusal from error
    except FileNotFoundError as error:
        raise ManagerError(f"cannot be asked, because {run_dir / SOCKET} is gone") from error
    except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError) as error:
        raise ManagerError(f"does not answer at {run_dir / SOCKET}: {error}") from error


class _Transport(xmlrpc.client.Transport):
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
