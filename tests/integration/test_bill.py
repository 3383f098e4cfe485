"""The bill adds up: what a provider bills is what the arena's ledger has.

`python -m tests.support.billing NAME 10000` makes more calls, for each provider of PROVIDERS.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.billing import describe, run_bill
from tests.support.providers import LITELLM_WARNINGS


@pytest.mark.parametrize(
    ("provider", "calls", "kills"), [("openrouter", 500, 3), ("openai", 150, 1)]
)
async def test_each_billed_request_is_in_the_ledger(
    provider: str, calls: int, kills: int, tmp_path: Path
) -> None:
    """With faults, cancelled calls, and kills of the service.

    What the ledger does not know is a request of the same call that it lists as unknown.
    """
    outcome = await run_bill(provider, calls, kills, tmp_path)
    assert outcome.adds_up, describe(outcome)
    assert outcome.kills == kills
    assert outcome.billed > outcome.known > 0.8 * outcome.billed, describe(outcome)
    assert outcome.unknown < calls, describe(outcome)
    assert outcome.unknown_billed <= outcome.at_most < outcome.billed, describe(outcome)


pytestmark = [pytest.mark.filterwarnings(warning) for warning in LITELLM_WARNINGS]
