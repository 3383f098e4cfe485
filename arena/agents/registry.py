"""Finds the class of an agent's type: an entry point, or a dotted path."""

from __future__ import annotations

from arena.agents.base import Agent
from arena.agents.settings import AgentSettings
from arena.plugins import find_offered, is_dotted_path, load_class, load_offered

#: The arena and installed packages offer agents under this group of entry points.
GROUP = "arena.agents"


def find_agent(kind: object) -> type[Agent]:
    """The class of a type, such as "llm" or "my_package.agents:FirstMove".

    A module of a dotted path is imported from Python's path or the working directory.
    Raises ValueError: there is no such type, or it cannot be imported.
    """
    paths = find_offered(GROUP)
    names = f"{', '.join(paths)} or package.module:Class"
    if not isinstance(kind, str):
        problem = "is missing" if kind is None else f"must be text, not {kind!r}"
        raise ValueError(f"{problem}; the types are {names}")
    if kind not in paths and not is_dotted_path(kind):
        raise ValueError(f"must be one of {names}, not {kind!r}")
    found: type[Agent] = (
        load_offered(GROUP, kind, Agent)  # type: ignore[type-abstract]
        if kind in paths
        else load_class(kind, Agent)
    )
    if not (isinstance(found.Settings, type) and issubclass(found.Settings, AgentSettings)):
        raise ValueError(
            f"{kind} has Settings that are not a subclass of arena.agents.settings.AgentSettings"
        )
    return found


def build_agent(settings: AgentSettings) -> Agent:
    """A player for one seat of one episode."""
    return find_agent(settings.type)(settings)
