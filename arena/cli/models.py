"""Before an experiment begins: can its models run?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rich.console import Console

from arena.agents.settings import LlmSettings
from arena.cli.output import show
from arena.experiment.file import Experiment
from arena.experiment.load import ConfigError
from arena_llm import Capability, Client, Model
from arena_llm.validation import (
    Estimate,
    Status,
    Verdict,
    estimate,
    models_of,
    plan,
    validate,
)


def check_models(
    experiment: Experiment, target: str | None, console: Console, *, lenient: bool
) -> bool:
    """Ask the services for every model, as `arena-llm validate` does; False if any cannot run.

    Prints credits, warnings, failures and what it will cost. Raises ConfigError: a model's
    prefix is one that nobody serves, or it is to score actions and cannot. ArenaError: the
    router does not answer.
    """
    config = json.loads(experiment.config)
    places, _ = models_of(config)
    if not places:
        return True
    with Client(target) as client:
        verdicts = validate(client, places, lenient=lenient)
        scoring = _scoring(experiment)
        unable = _unable_to_score(client.list_models()) if scoring else set()
    wrong = [
        f"{experiment.path}: {places[verdict.model][0]}: {problem}"
        for verdict in verdicts
        if (problem := _problem(verdict, verdict.model in scoring, unable))
    ]
    if wrong:
        raise ConfigError("\n".join(wrong))
    failed = [verdict for verdict in verdicts if verdict.status is Status.FAIL]
    told = (line for verdict in verdicts for line in _lines(verdict, places[verdict.model]))
    lines = list(dict.fromkeys(told))  # models of one account have the same credits
    lines.append(f"{len(verdicts) - len(failed)} of {len(verdicts)} models can run")
    if not failed:
        lines += _costs(estimate(plan(config), verdicts))
    for line in lines:
        show(console, line)
    return not failed


def _scoring(experiment: Experiment) -> set[str]:
    """The models whose actions are chosen by their probabilities."""
    players = experiment.participants.values()
    return {one.model for one in players if isinstance(one, LlmSettings) and one.reply == "score"}


def _unable_to_score(models: Iterable[Model]) -> set[str]:
    """The backends that tell what their models can do, and of which none can score."""
    told = [model for model in models if model.capabilities]
    able = {model.backend for model in told if Capability.SCORE in model.capabilities}
    return {model.backend for model in told} - able


def _problem(verdict: Verdict, scores: bool, unable: set[str]) -> str:
    """What is wrong with the experiment, and not with the model; empty if nothing is."""
    if verdict.reason == "UNKNOWN_PREFIX":
        return verdict.detail
    if scores and verdict.backend in unable:
        return (
            f"reply score: {verdict.backend} cannot score actions: write reply choices or json, "
            "or take a local model"
        )
    return ""


def _costs(costs: Estimate) -> Iterator[str]:
    """What it will cost: a guess, so that nothing of it is a failure."""
    if costs.usd:
        about = "at least" if costs.unpriced else "about"
        yield f"{about} ${costs.usd:.2f} to be expected (arena-llm validate --estimate)"
    for line in (*costs.failures, *costs.warnings):
        yield f"warning: {line}"


def _lines(verdict: Verdict, places: tuple[str, ...]) -> Iterator[str]:
    """What is to be said of a model: nothing of one that just runs."""
    if verdict.status is Status.FAIL:
        yield f"{verdict.model}: {verdict.reason}: {verdict.detail} (in {', '.join(places)})"
    left = verdict.credits
    for what, usd in (
        ("of credits", left and left.balance_usd),
        ("of its key's limit", left and left.limit_remaining_usd),
    ):
        if usd is not None:
            yield f"{verdict.backend}: ${usd:.2f} {what} left"
    for warning in verdict.warnings:
        yield f"warning: {verdict.model}: {warning}"
