"""Finds the class of an agent's type: built in, an entry point, or a dotted path."""

from __future__ import annotations

from collections.abc import Mapping

from arena.agents.base import Agent
from arena.agents.settings import AgentSettings
from arena.plugins import find_installed, is_dotted_path, load_class

#: Installed packages offer agents under this group of entry points.
GROUP = "arena.agents"

BUILT_IN: Mapping[str, str] = {
    "llm": "arena.agents.llm:LlmAgent",
    "random": "arena.agents.random_agent:RandomAgent",
    "human": "arena.agents.human:HumanAgent",
    "mcts": "arena.agents.search:MctsAgent",
    "minimax": "arena.agents.search:MinimaxAgent",
}


def find_agent(kind: object) -> type[Agent]:
    """The class of a type, such as "llm" or "my_package.agents:FirstMove".

    A module of a dotted path is imported from Python's path or the working directory.
    Raises ValueError: there is no such type, or it cannot be imported.
    """
    if not isinstance(kind, str):
        problem = "is missing" if kind is None else f"must be text, not {kind!r}"
        raise ValueError(f"{problem}; the types are {', '.join(BUILT_IN)} or package.module:Class")
    paths = {**find_installed(GROUP), **BUILT_IN}
    if kind not in paths and not is_dotted_path(kind):
        names = ", ".join(dict.fromkeys([*BUILT_IN, *paths]))
        raise ValueError(f"must be one of {names} or package.module:Class, not {kind!r}")
    return load_class(paths.get(kind, kind), Agent, kind)


def build_agent(settings: AgentSettings) -> Agent:
    """A player for one seat of one episode."""
    return find_agent(settings.type)(settings)
