from __future__ import annotations

from functools import partial

import pytest

from arena.report import count, ratings


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose rating intervals come from 20 resamples: the usual 400 take most of the time.

    test_ratings.py and the golden files test the usual number.
    """
    monkeypatch.setattr(count, "rate", partial(ratings.rate, resamples=20))
