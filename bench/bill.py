"""Whether the bill adds up: `python -m bench.bill [PROVIDER CALLS KILLS]`.

The arena's ledger calls a hosted service, whose provider writes an invoice. A tenth of the
provider's answers are faults, callers cancel calls, and the service is killed. Each line of the
invoice must be in the ledger: with its cost, or, if that is unknown, with the most that it can be.
With arguments it makes only these calls and writes nothing.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from bench import harness
from bench.goals import Goal

#: Calls and kills: of the openrouter service, and of three formats of the litellm service.
CALLS = {
    "openrouter": (10_000, 3),
    "openai": (10_000, 3),
    "anthropic": (1_000, 1),
    "gemini": (1_000, 1),
}

GOALS = tuple(
    goal
    for name, (calls, _) in CALLS.items()
    for goal in (
        Goal(f"{name}: bills that the ledger lacks, {calls:,} calls", (name, "missing"), "<=", 0),
        Goal(f"{name}: costs in the ledger that nobody billed", (name, "too_much"), "<=", 0),
        Goal(f"{name}: billed for requests whose cost the ledger does not know",
             (name, "unknown_usd"), "<=", 0.01, "$"),
    )
)  # fmt: skip


def run(name: str, calls: int, kills: int) -> dict[str, float]:
    """Make the calls of one provider, and compare the ledger with the invoice."""
    from tests.support.billing import run_bill  # the scripted providers are those of the tests

    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(run_bill(name, calls, kills, Path(folder)))
    return {
        "calls": calls,
        "requests": outcome.requests,
        "kills": outcome.kills,
        "billed_usd": outcome.billed / 1e12,
        "known_usd": outcome.known / 1e12,
        "unknown_requests": outcome.unknown,
        "unknown_usd": outcome.unknown_billed / 1e12,
        "unknown_at_most_usd": outcome.at_most / 1e12,
        "missing": len(outcome.missing),
        "too_much": len(outcome.too_much),
        "seconds": outcome.seconds,
    }


def main() -> None:
    """Print the table and write the JSON."""
    if sys.argv[1:]:
        name, calls, kills = sys.argv[1:]
        results = {name: run(name, int(calls), int(kills))}
        harness.print_ways("the ledger against the invoice", results)
        return
    results = {name: run(name, *counts) for name, counts in CALLS.items()}
    harness.print_ways("the ledger against the invoice", results)
    harness.write_results("bill", GOALS, results)


if __name__ == "__main__":
    main()
