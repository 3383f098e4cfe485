"""Finds the class of an agent's type: built in, an entry point, or a dotted path."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from arena.agents.base import Agent
from arena.agents.human import HumanAgent
from arena.agents.llm import LlmAgent
from arena.agents.random_agent import RandomAgent
from arena.agents.search import MctsAgent, MinimaxAgent
from arena.agents.settings import AgentSettings

#: Installed packages offer agents under this group of entry points.
GROUP = "arena.agents"

BUILT_IN: Mapping[str, type[Agent]] = {
    "llm": LlmAgent,
    "random": RandomAgent,
    "human": HumanAgent,
    "mcts": MctsAgent,
    "minimax": MinimaxAgent,
}


def find_agent(kind: object) -> type[Agent]:
    """The class of a type, such as "llm" or "my_package.agents:FirstMove".

    A module of a dotted path is imported from Python's path or the working directory.
    Raises ValueError: there is no such type, or it cannot be imported.
    """
    if not isinstance(kind, str):
        problem = "is missing" if kind is None else f"must be text, not {kind!r}"
        raise ValueError(f"{problem}; the types are {', '.join(BUILT_IN)} or package.module:Class")
    return BUILT_IN.get(kind) or _load(kind)


def build_agent(settings: AgentSettings) -> Agent:
    """A player for one seat of one episode."""
    return find_agent(settings.type)(settings)


@cache
def _load(kind: str) -> type[Agent]:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in installed and ":" not in kind:
        names = ", ".join([*BUILT_IN, *installed])
        raise ValueError(f"must be one of {names} or package.module:Class, not {kind!r}")
    try:
        agent = installed[kind].load() if kind in installed else _import(kind)
    except Exception as error:  # a module may raise anything while it is imported
        raise ValueError(f"{kind} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(agent, type) and issubclass(agent, Agent)):
        raise ValueError(f"{kind} is not a subclass of arena.agents.base.Agent")
    return agent


def _import(path: str) -> object:
    """Import an object by "package.module:Class"."""
    module, _, name = path.partition(":")
    if (folder := os.getcwd()) not in sys.path:
        # The command `arena` itself does not look for modules there.
        sys.path.append(folder)
    return getattr(importlib.import_module(module), name)
