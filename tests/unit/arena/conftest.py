from __future__ import annotations

from functools import partial

import pytest

from arena.report import count, ratings
from arena_llm import _transport


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose rating intervals come from 20 resamples: the usual 400 take most of the time.

    test_ratings.py and the golden files test the usual number.
    """
    monkeypatch.setattr(count, "rate", partial(ratings.rate, resamples=20))


@pytest.fixture
def quick_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that wait 0.1 s, not 2 s, for a server that does not run."""
    monkeypatch.setattr(_transport, "CONNECT_SECONDS", 0.1)
