"""arena-llm validate --models MODEL... | --config FILE"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Container

from arena_llm.cli.output import Output, format_credits, format_price
from arena_llm.client import Client
from arena_llm.errors import InvalidArgumentError
from arena_llm.validation.estimate import Estimate, estimate
from arena_llm.validation.experiment import read_experiment
from arena_llm.validation.plan import Plan, plan
from arena_llm.validation.verdict import Status, Verdict, validate

HELP = "tell before an expensive run whether all its models can run, and what it will cost"

#: The exit code of argparse, here for a file that must be fixed.
USAGE = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the models or the file that names them, and what to do with them."""
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--models", nargs="+", metavar="MODEL", help="full names")
    models.add_argument(
        "--config", metavar="FILE", help="an experiment: the models of its models: and agents:"
    )
    parser.add_argument(
        "--estimate", action="store_true", help="predict the tokens and dollars of the experiment"
    )
    parser.add_argument("--quiet", action="store_true", help="show warnings and failures only")
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="assume that models of other backends than OpenRouter are valid, with a warning",
    )


def run(client: Client, args: argparse.Namespace, output: Output) -> int:
    """Print what is known of each model; 0 if all can run, 1 if not, 2 for a wrong file."""
    try:
        places, problems, planned = _wanted(args)
    except InvalidArgumentError as error:
        output.error(error)
        return USAGE
    for problem in problems:
        output.warn(problem)
    verdicts = validate(client, places, lenient=args.lenient)
    costs = estimate(planned, verdicts) if planned else None
    failed = [verdict for verdict in verdicts if verdict.status is Status.FAIL]
    can_run = not (failed or problems or (costs and costs.failures))
    if output.json:
        output.document(
            {
                "target": client.target,
                "can_run": can_run,
                "models": verdicts,
                "places": places,
                "problems": problems,
                "estimate": costs,
            }
        )
    else:
        _print_verdicts(verdicts, places, output, quiet=args.quiet)
        if costs:
            _print_estimate(costs, output, quiet=args.quiet)
        if not args.quiet:
            output.text(f"{len(verdicts) - len(failed)} of {len(verdicts)} models can run")
    return USAGE if problems else int(not can_run)


def _wanted(
    args: argparse.Namespace,
) -> tuple[dict[str, tuple[str, ...]], list[str], Plan | None]:
    """The models with their places in the file, what is wrong in it, and the plan."""
    if args.config is None:
        if args.estimate:
            raise InvalidArgumentError("--estimate needs --config", reason="INVALID_REQUEST")
        return dict.fromkeys(args.models, ()), [], None
    experiment = read_experiment(args.config)
    problems, planned = list(experiment.problems), None
    if args.estimate:
        try:
            planned = plan(experiment.config)
        except InvalidArgumentError as error:
            # The models are checked all the same.
            problems.append(f"{experiment.path}: {error.message}")
    return dict(experiment.models), problems, planned


def _print_verdicts(
    verdicts: list[Verdict], places: dict[str, tuple[str, ...]], output: Output, *, quiet: bool
) -> None:
    shown = [verdict for verdict in verdicts if not (quiet and verdict.status is Status.OK)]
    shared = _shared(shown)
    if shown:
        output.table(
            ("MODEL", "BACKEND", "STATUS", "CREDITS", "USD PER MILLION TOKENS", "REASON"),
            [
                (
                    verdict.model,
                    verdict.backend or "-",
                    verdict.status,
                    format_credits(verdict.credits),
                    format_price(verdict.price),
                    _reason(verdict, places[verdict.model], shared),
                )
                for verdict in shown
            ],
        )
    for backend, warning in shared:
        output.line(f"warning: {backend}: {warning}")


def _shared(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    """Backends and warnings that several of their models have, such as of the one key."""
    counted = Counter((one.backend, warning) for one in verdicts for warning in set(one.warnings))
    return [one for one, count in counted.items() if count > 1]


def _reason(verdict: Verdict, places: tuple[str, ...], shared: Container[tuple[str, str]]) -> str:
    own = [warning for warning in verdict.warnings if (verdict.backend, warning) not in shared]
    if verdict.status is not Status.FAIL:
        return "; ".join(own) or verdict.detail or "-"
    where = f" (in {', '.join(places)})" if places else ""
    return "; ".join((f"{verdict.reason}: {verdict.detail}{where}", *own))


def _print_estimate(costs: Estimate, output: Output, *, quiet: bool) -> None:
    if not quiet:
        rows = [
            (
                one.model,
                f"{one.calls:,.0f}",
                f"{one.prompt_tokens:,.0f}",
                f"{one.completion_tokens:,.0f}",
                _cost(one.usd),
            )
            for one in costs.models
        ]
        output.text("")
        output.table(("MODEL", "CALLS", "PROMPT TOKENS", "COMPLETION TOKENS", "COST"), rows)
        output.text(f"{'at least' if costs.unpriced else 'about'} {_cost(costs.usd)} in all")
        for note in costs.notes:
            output.line(f"note: {note}")
    for label, lines in (("warning", costs.warnings), ("fail", costs.failures)):
        for line in lines:
            output.line(f"{label}: {line}")


def _cost(usd: float | None) -> str:
    if usd is None:
        return "unknown"
    return "<$0.01" if 0 < usd < 0.01 else f"${usd:,.2f}"
