"""How the players of an experiment use each model, compared with what the model can do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from arena.agents.settings import LlmSettings
from arena_llm import Model

_UNPINNED = (
    "its provider is not pinned: providers of one model differ in precision and settings, and "
    "their results by up to 16 points in public reports; set routing: {providers: [NAME], "
    "allow_fallbacks: false}"
)


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What all players of a model need.

    scores: a player compares actions (reply: score). any_provider: a player does not say which
    provider may answer. fields: the paths of the request's fields that players set.
    efforts: the levels of reasoning that they request.
    """

    scores: bool = False
    any_provider: bool = False
    fields: frozenset[str] = frozenset()
    efforts: frozenset[str] = frozenset()

    def list_refused(self, model: Model | None) -> list[str]:
        """Return the settings that the model is known to refuse, by the path of their field."""
        if model is None:
            return []
        refused: list[str] = []
        if model.supported_fields_known:
            refused += sorted(self.fields - set(model.supported_fields))
        if model.reasoning_efforts and "reasoning.effort" not in refused:
            efforts = sorted(self.efforts - set(model.reasoning_efforts))
            levels = ", ".join(model.reasoning_efforts)
            refused += [f"reasoning.effort {effort} (but {levels})" for effort in efforts]
        return refused

    def list_warnings(self, model: Model | None) -> list[str]:
        """Return warnings about a model that can run."""
        if model is None:
            return []
        warnings = []
        supported = set(model.supported_fields)
        if supported and not model.supported_fields_known and (missing := self.fields - supported):
            warnings.append(f"it may refuse {', '.join(sorted(missing))}, which it does not list")
        if self.any_provider and "routing.providers" in supported:
            warnings.append(_UNPINNED)
        return warnings


def list_uses(players: Iterable[object]) -> dict[str, ModelUse]:
    """Return the use of each model. players: the settings of agents of all types."""
    uses: dict[str, ModelUse] = {}
    for player in players:
        if isinstance(player, LlmSettings):
            before = uses.get(player.model, ModelUse())
            uses[player.model] = ModelUse(
                before.scores or player.reply == "score",
                before.any_provider or not player.names_provider,
                before.fields | player.request_fields,
                before.efforts | {effort for effort in (player.reasoning_effort,) if effort},
            )
    return uses
