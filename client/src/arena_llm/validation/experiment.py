"""An experiment's configuration: which models it names, and where in the file."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from arena_llm.errors import FailedPreconditionError, InvalidArgumentError

#: Nested lists cut short: by aliases, a small file can hold endless ones.
_repr = reprlib.Repr()
_repr.maxlevel = 1

#: One finding: where (such as "agents.player_0.model"), the model, what is wrong.
_Found = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A configuration that was read.

    models: each model with the places that name it, in the order of the file.
    problems: a line for each entry that names none, with file, key and reason.
    """

    path: Path
    config: Mapping[str, Any]
    models: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()


def read_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Read a YAML file with `models:` (names, or mappings with a name) or `agents:`.

    The models' `opponents:` are read like agents.

    A wrong entry is a line in `problems`, beside the models of the others. Raises
    InvalidArgumentError (reason INVALID_CONFIG) where the file cannot be read, is no
    mapping or names no model at all; FailedPreconditionError without PyYAML.
    """
    path = Path(path)
    config = read_config(path)
    models, problems = models_of(config)
    if not models and not problems:
        raise _invalid(path, "names no model, neither under models: nor under agents:")
    return Experiment(path, config, models, tuple(f"{path}: {line}" for line in problems))


def models_of(config: Mapping[str, Any]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Each model of `models:` and of the llm agents, with its places; and problems."""
    models: dict[str, tuple[str, ...]] = {}
    problems = []
    players = chain.from_iterable(_agents(key, config.get(key)) for key in ("agents", "opponents"))
    for where, model, problem in (*_listed(config.get("models")), *players):
        if problem:
            problems.append(f"{where}: {problem}")
        else:
            models[model] = (*models.get(model, ()), where)
    return models, problems


def _listed(entries: Any) -> Iterator[_Found]:
    if entries is None:
        return
    if not isinstance(entries, list):
        yield "models", "", "must be a list"
        return
    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping):
            yield _model(f"models[{index}].name", entry.get("name"))
        else:
            yield _model(f"models[{index}]", entry)


def _agents(key: str, agents: Any) -> Iterator[_Found]:
    if agents is None:
        return
    if not isinstance(agents, Mapping):
        yield key, "", "must be a mapping, such as player_0: {type: llm, model: ...}"
        return
    for player, agent in agents.items():
        if not isinstance(agent, Mapping):
            yield f"{key}.{player}", "", "must be a mapping, such as {type: llm, model: ...}"
        elif not isinstance(agent.get("type"), str):
            yield f"{key}.{player}.type", "", "must be set, such as llm or random"
        elif agent["type"] == "llm":
            yield _model(f"{key}.{player}.model", agent.get("model"))


def _model(where: str, name: Any) -> _Found:
    if isinstance(name, str) and name.strip():
        return where, name, ""
    given = "" if name is None else f", not {shown(name)}"
    return where, "", f"must be a model's full name, such as openrouter_openai/gpt-4o{given}"


def shown(value: Any) -> str:
    """A wrong value, in an error's one line."""
    return _repr.repr(value)


def read_config(path: Path) -> Mapping[str, Any]:
    """Read a YAML file that holds a mapping, in which no key appears twice.

    Raises InvalidArgumentError (reason INVALID_CONFIG), with the file and why it cannot
    be read; FailedPreconditionError without PyYAML.
    """
    try:
        # The one command that needs it; the client itself does not.
        from arena_llm.yaml_file import YamlError, read_mapping
    except ImportError as error:
        raise FailedPreconditionError(
            "reading a configuration needs PyYAML: pip install 'arena-llm[validate]' "
            "(in the repository: make setup)",
            reason="PYYAML_MISSING",
        ) from error
    try:
        return read_mapping(path)
    except YamlError as error:
        raise InvalidArgumentError(f"{error}", reason="INVALID_CONFIG") from error


def _invalid(path: Path, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{path}: {problem}", reason="INVALID_CONFIG")
