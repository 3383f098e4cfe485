"""What an experiment needs before it runs: are its models there, and what will it cost?

from arena_llm import Client
from arena_llm.validation import plan, estimate, read_experiment, validate

experiment = read_experiment("experiment.yaml")
with Client() as llm:
    verdicts = validate(llm, experiment.models)
print([verdict.model for verdict in verdicts if verdict.status == "fail"])
print(estimate(plan(experiment.config), verdicts).usd)
"""

from __future__ import annotations

from arena_llm.validation.estimate import Estimate, ModelEstimate, estimate
from arena_llm.validation.experiment import (
    Experiment,
    models_of,
    read_config,
    read_experiment,
)
from arena_llm.validation.lineups import lineups
from arena_llm.validation.plan import Plan, Work, plan
from arena_llm.validation.verdict import Status, Verdict, judge, validate

__all__ = [
    "Estimate",
    "Experiment",
    "ModelEstimate",
    "Plan",
    "Status",
    "Verdict",
    "Work",
    "estimate",
    "judge",
    "lineups",
    "models_of",
    "plan",
    "read_config",
    "read_experiment",
    "validate",
]
