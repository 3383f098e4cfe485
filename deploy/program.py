"""The process manager's configuration, as text, and what each process may see."""

from __future__ import annotations

import configparser
import io
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

from deploy.manager import SOCKET
from deploy.services import ROOT, Service
from services.common.environment import matches

#: In the environment of every process of a run, so that none can be lost.
MARK = "ARENA_SUPERVISED_BY"

#: What every service sees.
_COMMON = (
    *("PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("XDG_*", "SSL_CERT_*", "PYTHON*", "ARENA_*"),
)

#: Seconds; more than the grace that a service gives its calls after SIGTERM.
STOP_WAIT = 40


def environment(services: Sequence[Service], environ: Mapping[str, str]) -> dict[str, str]:
    """What the process manager sees: what any of its services may."""
    hides = [set(hidden(service, environ)) for service in services]
    return {name: value for name, value in environ.items() if any(name not in h for h in hides)}


def hidden(service: Service, environ: Iterable[str]) -> list[str]:
    """The names that this service may not see."""
    return sorted(n for n in environ if not matches(n, (*_COMMON, *service.environment)))


def render(services: Sequence[Service], environ: Iterable[str]) -> str:
    """The text of supervisord.conf. It holds names of variables, never values.

    Paths are relative to the run folder, where the manager is started.
    """
    config = configparser.RawConfigParser()
    config["unix_http_server"] = {"file": SOCKET, "chmod": "0700"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    config["supervisord"] = {
        "pidfile": "supervisord.pid",
        "logfile": "logs/supervisord.log",
        "logfile_maxbytes": "1MB",
        "logfile_backups": "1",
        "umask": "077",
        "identifier": "arena-llm",
    }
    if os.geteuid() == 0:  # otherwise the manager warns that it runs as root
        config["supervisord"]["user"] = "root"
    names = list(environ)
    for place, service in enumerate(services):
        unset = [word for name in hidden(service, names) for word in ("-u", name)]
        command = ["env", *unset, str(service.python), "-m", service.module]
        config[f"program:{service.name}"] = {
            "command": shlex.join(command),
            "directory": str(ROOT),
            # The highest starts last and stops first.
            "priority": str(len(services) - place),
            # After a crash in the first seconds each restart waits longer, up to the
            # last of these tries. After a later crash the restart is immediate.
            "autorestart": "true",
            "startsecs": "5",
            "startretries": "60",
            "stopsignal": "TERM",
            "stopwaitsecs": str(STOP_WAIT),
            # SIGTERM to the service alone, which ends its children in order; what
            # outlives the wait goes with its whole group.
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"logs/{service.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
        }
    for section in config.values():
        for key, value in section.items():
            section[key] = value.replace("%", "%%")
    text = io.StringIO()
    config.write(text)
    return text.getvalue()
