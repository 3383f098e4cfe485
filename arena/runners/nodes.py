"""The nodes of a Ray cluster: which code they get, and whether each can play."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from arena.agents.registry import find_agent
from arena.experiment.file import Experiment
from arena.experiment.model_calls import ModelCaller
from arena.games.game import Game, find_path
from arena.plugins import is_dotted_path
from arena.runners.job import Job
from arena_llm import ArenaError

#: Libraries on whose versions an episode can depend.
_LIBRARIES = ("open-spiel", "numpy", "scipy", "pydantic", "jinja2", "grpcio", "protobuf")

#: Seconds in which a node must reach the router.
_ROUTER_SECONDS = 15.0


def make_runtime_env(experiment: Experiment) -> dict[str, Any]:
    """Return what Ray sends to each node: the arena, the client, and an experiment's own modules.

    The libraries are not sent. Each node has them installed.
    """
    modules = dict.fromkeys(("arena", "arena_llm", *_list_own_modules(experiment)))
    installed = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib")}
    own = {"arena", "arena_llm"}
    paths = [
        str(path)
        for name in modules
        if (path := _find_source(name)) and (name in own or installed.isdisjoint(path.parents))
    ]
    return {"py_modules": paths, "excludes": ["__pycache__"]}


def _list_own_modules(experiment: Experiment) -> Iterator[str]:
    """The packages, or single modules, of the dotted paths that an experiment names."""
    paths = [find_path(game.spec) for game in experiment.games]
    paths += [row.type for row in experiment.models if is_dotted_path(row.type)]
    return (path.partition(":")[0].partition(".")[0] for path in paths if path)


def _find_source(name: str) -> Path | None:
    """The folder or the file of a top-level module that is imported."""
    module = sys.modules[name]
    if folders := list(getattr(module, "__path__", ())):
        return Path(folders[0])
    return Path(module.__file__) if module.__file__ else None


def find_versions() -> dict[str, str]:
    """Return the versions, on this machine, of the libraries on which an episode depends."""
    return {name: _find_version(name) for name in _LIBRARIES}


def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def check_node(job: Job, versions: Mapping[str, str]) -> str:
    """Return why the node on which this runs cannot play; "" if it can.

    versions: those of the machine that runs the experiment.
    """
    here = find_versions()
    if differing := [name for name in versions if here[name] != versions[name]]:
        found = ", ".join(f"{name} {here[name]} (here {versions[name]})" for name in differing)
        return f"it has other versions of libraries: {found}"
    for game in job.experiment.games:
        Game.load(game.spec)
    for row in job.experiment.models:
        find_agent(row.type)
    if isinstance(job.backend, ModelCaller):
        try:
            asyncio.run(job.backend.check_router(_ROUTER_SECONDS))
        except ArenaError as error:
            return f"it cannot reach the router: {error}"
    return ""
