"""Who plays in an experiment, and how often each model sits at a game."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from arena_llm.validation.games import COMPLETION_TOKENS
from arena_llm.validation.lineups import lineups
from arena_llm.validation.values import number, word

#: OpenSpiel's name for the number of seats, where a game lets one choose.
_SEATS = re.compile(r"[(,] *players=([0-9]+) *[,)]")


class Asked(NamedTuple):
    """A model as an experiment asks it: by its own settings, or the experiment's.

    max_tokens: None where there is no bound. reply: a key of COMPLETION_TOKENS.
    """

    model: str
    max_tokens: float | None
    reply: str


@dataclass(frozen=True, slots=True)
class Players:
    """Names of the players, and the models of those that have one."""

    agents: tuple[str, ...]
    models: tuple[str, ...]
    opponents: tuple[str, ...]
    asked: Mapping[str, Asked]
    swap_seats: bool

    def seats(self, game: str, params: Any, usual: int | None) -> int:
        """The seats of a game: its parameters say, or it has as many as usual.

        usual: None where that is not known, so that there are as many as agents, or 2.
        """
        chosen = params.get("players") if isinstance(params, Mapping) else None
        if isinstance(chosen, int) and chosen > 0:
            return chosen
        if (match := _SEATS.search(game)) and int(match[1]) > 0:
            return int(match[1])
        return usual or len(self.agents) or 2

    def sittings(self, seats: int) -> Counter[Asked]:
        """How many seats of all line-ups each model has. Raises ValueError; see lineups."""
        tables = lineups(
            seats,
            agents=self.agents,
            models=self.models,
            opponents=self.opponents,
            swap_seats=self.swap_seats,
        )
        names = Counter(name for table in tables for name in table)
        found: Counter[Asked] = Counter()
        for name, times in names.items():
            if name in self.asked:
                found[self.asked[name]] += times
        return found


def players_of(config: Mapping[str, Any]) -> Players:
    """The players of a configuration; entries that name no model are not asked.

    Raises InvalidArgumentError (reason INVALID_CONFIG, with the key as `field`).
    """
    general = _asked("", config, "", Asked("", None, "json"))
    agents = dict(_agents("agents", config, general))
    opponents = dict(_agents("opponents", config, general))
    models = dict(_models(config, general))
    asked = {name: one for name, one in (agents | models | opponents).items() if one}
    swap = config.get("swap_seats")
    return Players(
        tuple(agents),
        tuple(models),
        tuple(opponents),
        asked,
        swap if isinstance(swap, bool) else bool(models),
    )


def _agents(
    key: str, config: Mapping[str, Any], general: Asked
) -> Iterator[tuple[str, Asked | None]]:
    entries = config.get(key)
    for name, entry in entries.items() if isinstance(entries, Mapping) else ():
        if isinstance(entry, Mapping):
            model = entry.get("model") if entry.get("type") == "llm" else None
            yield str(name), _asked(str(model), entry, f"{key}.{name}.", general) if model else None


def _models(config: Mapping[str, Any], general: Asked) -> Iterator[tuple[str, Asked]]:
    entries = config.get("models")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        one = entry if isinstance(entry, Mapping) else {"name": entry}
        if isinstance(name := one.get("name"), str) and name:
            yield name, _asked(name, one, f"models[{index}].", general)


def _asked(model: str, settings: Mapping[str, Any], where: str, general: Asked) -> Asked:
    return Asked(
        model,
        number(settings, "max_tokens", where, whole=True) or general.max_tokens,
        word(settings, "reply", COMPLETION_TOKENS, where) or general.reply,
    )
