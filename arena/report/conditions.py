"""Compares the conditions under which one model plays."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from arena.report.count import Summary
from arena.results.rows import ModelRow
from arena.statistics.intervals import Mean, subtract

#: Settings of a player, by path, and the value of those that its configuration lacks.
_DEFAULTS: Mapping[str, object] = {
    "reply": "json", "reader": "lenient", "system": "", "prompt.template": "standard",
    "prompt.actions": "listed", "prompt.conversation": False, "prompt.examples": 0,
    "prompt.persona": "", "prompt.board": "standard",
}  # fmt: skip

_Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ConditionEffect:
    """The results of a model in a game with two values of a setting.

    results: scores, or mean returns in games without winners, over all players that differ in this
    setting alone. legal: shares of turns whose first answer was legal. Both in the order of values.
    """

    model: str
    game: str
    setting: str
    values: tuple[str, str]
    results: tuple[Mean, Mean]
    legal: tuple[float, float]

    @property
    def difference(self) -> Mean:
        """The second result minus the first."""
        return subtract(self.results[1], self.results[0])


def compare_conditions(summary: Summary) -> list[ConditionEffect]:
    """Return the effect of each setting in which players of one model differ, for each game."""
    models: defaultdict[str, dict[str, _Settings]] = defaultdict(dict)
    for agent, row in summary.participants.items():
        if row.type == "llm" and row.model:
            models[row.model][agent] = _read_settings(row)
    found: list[ConditionEffect] = []
    for model, players in models.items():
        for setting in _DEFAULTS:
            for game in summary.games:
                found += _compare(summary, model, game, setting, players)
    return found


def _read_settings(row: ModelRow) -> _Settings:
    try:
        config = json.loads(row.config)
    except ValueError:
        config = {}
    values = []
    for path, default in _DEFAULTS.items():
        value = config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        values.append((path, str(default if value is None else value)))
    return tuple(values)


def _compare(
    summary: Summary, model: str, game: str, setting: str, players: Mapping[str, _Settings]
) -> Iterator[ConditionEffect]:
    """Compare each value of a setting with the first one, over pairs of players otherwise equal."""
    by_value: defaultdict[str, dict[_Settings, str]] = defaultdict(dict)
    for agent, settings in players.items():
        others = tuple(item for item in settings if item[0] != setting)
        by_value[dict(settings)[setting]][others] = agent
    values = list(by_value)
    for value in values[1:]:
        first, second = by_value[values[0]], by_value[value]
        both = [others for others in first if others in second]
        pairs = [(first[others], second[others]) for others in both]
        sides = [[pair[side] for pair in pairs] for side in (0, 1)]
        results = [_average([summary.result(agent, game) for agent in side]) for side in sides]
        legal = [_share_legal(summary, side, game) for side in sides]
        if None not in results and None not in legal:
            yield ConditionEffect(
                model,
                game,
                setting.removeprefix("prompt."),
                (values[0], value),
                (results[0], results[1]),  # type: ignore[arg-type]  # not None
                (legal[0], legal[1]),  # type: ignore[arg-type]  # not None
            )


def _average(means: Sequence[Mean | None]) -> Mean | None:
    """Return the mean of independent means with its interval; None if one is not known."""
    known = [mean for mean in means if mean is not None]
    if not known or len(known) < len(means):
        return None
    count = len(known)
    value = sum(mean.value for mean in known) / count
    below = math.hypot(*(mean.value - mean.low for mean in known)) / count
    above = math.hypot(*(mean.high - mean.value for mean in known)) / count
    return Mean(value, value - below, value + above, sum(mean.n for mean in known))


def _share_legal(summary: Summary, agents: Sequence[str], game: str) -> float | None:
    stats = [summary.answers[agent, game] for agent in agents if (agent, game) in summary.answers]
    turns = sum(one.turns for one in stats)
    return sum(one.first_legal for one in stats) / turns if turns else None
