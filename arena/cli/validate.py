"""arena validate --models MODEL... | --config FILE

`arena run` makes the same checks with `check_experiment` before it plays.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from arena.cli import output
from arena.experiment.checks import CheckStatus, ModelCheck, check_models, require_prices
from arena.experiment.estimate import Estimate, estimate_cost
from arena.experiment.file import Experiment
from arena.experiment.load import ExperimentError, ModelsFile, load_file
from arena.experiment.plan import make_plan
from arena.experiment.power import Needed, Power, list_needed, list_powers
from arena.experiment.uses import list_uses
from arena.report.layout import Column
from arena.results.database import ResultsError
from arena.results.opening import check_results
from arena_llm import Client
from arena_llm.cli.output import as_plain, format_credits, format_price
from arena_llm.command_line import PRICE_HEADER, add_target, add_timeout
from arena_llm.connection import find_connection
from arena_llm.prices import format_dollars

_CHECKS = (
    Column("MODEL", numeric=False),
    Column("BACKEND", numeric=False, extra=2),
    Column("STATUS", numeric=False),
    Column(PRICE_HEADER, numeric=False, extra=1),
    Column("DETAIL", numeric=False),
)
_COSTS = (
    Column("MODEL", numeric=False),
    Column("CALLS"),
    Column("PROMPT TOKENS"),
    Column("COMPLETION TOKENS"),
    Column("COST", numeric=False),
)


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """The result of a validation.

    places: where the file names each model. powers: what the episodes can show; needed: how many
    a question needs. Both belong to an estimate.
    """

    target: str
    checks: Sequence[ModelCheck]
    places: Mapping[str, tuple[str, ...]]
    estimate: Estimate | None = None
    powers: tuple[Power, ...] = ()
    needed: tuple[Needed, ...] = ()

    @property
    def models_can_run(self) -> bool:
        return all(check.status is not CheckStatus.FAIL for check in self.checks)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the models or the file that names them, and the options of the check."""
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument("--models", nargs="+", metavar="MODEL", help="full names of models")
    models.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="an experiment, or another file with the models in models: or agents:",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="also estimate tokens and dollars, and what the episodes can show; fail if the "
        "credits are not enough",
    )
    parser.add_argument("--quiet", action="store_true", help="show only warnings and failures")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_timeout(parser)
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `arena validate` and `arena run` share."""
    parser.add_argument(
        "--results",
        metavar="PATH",
        help="the results file, or a folder for it; takes precedence over results: in the file",
    )
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="assume that models of other backends than OpenRouter are valid, with a warning",
    )
    add_target(parser)


def run(args: argparse.Namespace) -> int:
    """Check and print; 0 if everything can run, 1 if not, 2 for a file that cannot be used."""
    if args.config is None and args.estimate:
        raise ExperimentError("--estimate needs --config with an experiment")
    try:
        report = _validate(args)
    except (ExperimentError, ResultsError) as error:
        if args.json:
            _print_json({"can_run": False, "problems": str(error).splitlines()})
        raise
    enough = not (report.estimate and report.estimate.failures)
    can_run = report.models_can_run and enough
    if args.json:
        document = {"can_run": can_run, "problems": [], **as_plain(report)}
        document["models"] = document.pop("checks")
        _print_json(document)
    else:
        console = output.make_console()
        print_report(report, console, quiet=args.quiet)
    return int(not can_run)


def _validate(args: argparse.Namespace) -> ValidationReport:
    file = None if args.config is None else load_file(args.config)
    if isinstance(file, ModelsFile) and args.estimate:
        raise ExperimentError(f"{file.path}: games: is missing, and --estimate needs it")
    with Client(**find_connection(args.target), timeout=args.timeout) as client:
        if isinstance(file, Experiment):
            experiment = use_results(file, args.results)
            report = check_experiment(
                client, experiment, lenient=args.lenient, estimate=args.estimate
            )
            if args.estimate:
                report = replace(report, powers=list_powers(experiment), needed=list_needed())
            return report
        places = file.places if file else dict.fromkeys(args.models, ())
        return ValidationReport(
            client.target, check_models(client, places, lenient=args.lenient), places
        )


def check_experiment(
    client: Client,
    experiment: Experiment,
    *,
    lenient: bool,
    estimate: bool = True,
    network_disk: bool = False,
) -> ValidationReport:
    """Check an experiment's results file and its models, and estimate its cost.

    Raises ResultsError: the results file cannot be used. ArenaError: the router does not
    answer.
    """
    if warning := check_results(experiment.results, network_disk=network_disk):
        output.say(f"warning: {warning}")
    uses = list_uses(experiment.participants.values())
    # An experiment without models needs no router.
    checks = (
        check_models(client, experiment.places, uses=uses, lenient=lenient)
        if experiment.places
        else []
    )
    checks = require_prices(checks, experiment.prices, experiment.budget)
    report = ValidationReport(client.target, checks, experiment.places)
    if estimate and report.models_can_run:
        costs = estimate_cost(make_plan(experiment), checks, experiment.budget)
        return replace(report, estimate=costs)
    return report


def use_results(experiment: Experiment, results: str | None) -> Experiment:
    """The experiment with the results file of the command line, if there is one."""
    if results is None:
        return experiment
    settings = experiment.settings.model_copy(update={"results": results})
    return replace(experiment, settings=settings)


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2, default=as_plain) + "\n")


def print_report(
    report: ValidationReport, console: Console, *, quiet: bool, brief: bool = False
) -> None:
    """Print the checks and the estimate.

    quiet: only warnings and failures. brief, as for `arena run`: besides these, only the
    credits, the number of models that can run, and the cost.
    """
    shown = [
        check
        for check in report.checks
        if check.status is not CheckStatus.OK or not (quiet or brief)
    ]
    shared = _find_shared_warnings(shown)
    if shown:
        output.show_table(
            console,
            _CHECKS,
            (_make_row(check, report.places.get(check.model, ()), shared) for check in shown),
            "arena validate --json shows all",
        )
    if not quiet:
        # The models of one backend share its credits.
        credits = {(check.backend, format_credits(check.credits)): None for check in report.checks}
        for backend, amount in credits:
            if amount != "-":
                output.show(console, f"{backend}: {amount} of credits left")
    for backend, warning in shared:
        output.show(console, f"warning: {backend}: {warning}")
    if report.estimate:
        _print_estimate(report.estimate, console, quiet=quiet, brief=brief)
    if not quiet:
        for line in _describe_powers(report):
            output.show(console, line)
    if not quiet:
        failed = sum(check.status is CheckStatus.FAIL for check in report.checks)
        total = len(report.checks)
        output.show(console, f"{total - failed} of {total} models can run")


def _find_shared_warnings(checks: Sequence[ModelCheck]) -> list[tuple[str, str]]:
    """(backend, warning) of warnings that several models of a backend have, such as low credits."""
    counts = Counter((check.backend, warning) for check in checks for warning in {*check.warnings})
    return [warning for warning, count in counts.items() if count > 1]


def _make_row(
    check: ModelCheck, places: tuple[str, ...], shared: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    details = [warning for warning in check.warnings if (check.backend, warning) not in shared]
    if check.status is CheckStatus.FAIL:
        where = f" (in {', '.join(places)})" if places else ""
        details.insert(0, f"{check.reason}: {check.detail}{where}")
    elif not details:
        details.append(check.detail or "-")
    price = format_price(check.price)
    return check.model, check.backend or "-", check.status, price, "; ".join(details)


def _print_estimate(costs: Estimate, console: Console, *, quiet: bool, brief: bool) -> None:
    if costs.models and not (quiet or brief):
        output.show(console, "")
        output.show_table(
            console,
            _COSTS,
            (
                (
                    model.model,
                    *(
                        f"{number:,.0f}"
                        for number in (model.calls, model.prompt_tokens, model.completion_tokens)
                    ),
                    _format_cost(model.picousd, at_least=model.at_least),
                )
                for model in costs.models
            ),
        )
    if not quiet and (costs.picousd or not brief):
        about = "at least" if costs.at_least else "about"
        output.show(console, f"{about} {_format_cost(costs.picousd)} in total")
    if not (quiet or brief):
        for note in costs.notes:
            output.show(console, f"note: {note}")
    label = "warning" if brief else "fail"
    for line in costs.warnings:
        output.show(console, f"warning: {line}")
    for line in costs.failures:
        output.show(console, f"{label}: {line}")


def _describe_powers(report: ValidationReport) -> Iterator[str]:
    """Yield what the episodes can show: how many tell which score from 50 %."""
    if not report.needed:
        return
    needed = ", ".join(
        f"{row.episodes:,} for {100 * row.score:.0f} % ({row.with_draws:,} with 30 % draws)"
        for row in report.needed
    )
    yield (
        "independent episodes needed to tell a score from 50 %, in 4 of 5 experiments: " + needed
    )
    for power in report.powers:
        if power.episodes:
            pairs = f"{power.game}: {power.episodes:,} episodes of each pair"
            if power.score:
                yield f"{pairs} tell {100 * power.score:.0f} % from 50 %"
            else:
                most = report.needed[-1].score
                yield f"{pairs} are too few to tell even {100 * most:.0f} % from 50 %"


def _format_cost(picousd: int | None, *, at_least: bool = False) -> str:
    if picousd is None:
        return "unknown"
    text = format_dollars(picousd)
    return f"at least {text}" if at_least else text
