"""The configuration of the process manager, supervisord."""

from __future__ import annotations

import configparser
import io
import os
import shlex
from collections.abc import Iterable

from deploy.instances import Instance
from deploy.manager import SOCKET
from deploy.services import ROOT, stop_priority

#: Seconds until a service that was asked to stop is killed; more than the time that it gives
#: its calls after SIGTERM.
STOP_WAIT = 40


def render_config(instances: Iterable[Instance]) -> str:
    """The text of supervisord.conf. It has no variables.

    Paths are relative to the run folder, where the manager is started.
    """
    config = configparser.RawConfigParser()
    config["unix_http_server"] = {"file": SOCKET, "chmod": "0700"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    config["rpcinterface:arena"] = {"supervisor.rpcinterface_factory": "deploy.manager:make_starts"}
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
    for instance in instances:
        config[f"program:{instance.name}"] = {
            "command": shlex.join(instance.command),
            "directory": str(ROOT),
            # The highest priority stops first.
            "priority": str(stop_priority(instance.service)),
            # After `arena.prepare`.
            "autostart": "false",
            # After a crash in the first seconds each restart waits longer, up to this many
            # tries. After a later crash the restart is immediate.
            "autorestart": "true",
            "startsecs": "5",
            "startretries": "60",
            # SIGTERM goes to the service alone, which ends its children in order. If they
            # outlive the wait, the whole process group is killed.
            "stopsignal": "TERM",
            "stopwaitsecs": str(STOP_WAIT),
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"logs/{instance.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
        }
    for section in config.values():
        for key, value in section.items():
            section[key] = value.replace("%", "%%")
    text = io.StringIO()
    config.write(text)
    return text.getvalue()
