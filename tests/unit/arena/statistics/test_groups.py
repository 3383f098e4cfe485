"""Numbers of groups, counted where they have few gaps and sorted elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from arena.statistics.groups import mean_by_group, renumber

SPARSE = np.array([10**12, -5, 10**12, 7])
DENSE = np.array([4, 0, 4, 2])


@pytest.mark.parametrize("numbers", [SPARSE, DENSE])
def test_numbers_without_gaps_keep_their_order(numbers: np.ndarray) -> None:
    assert renumber(numbers).tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize("numbers", [SPARSE, DENSE])
def test_a_group_without_values_has_no_mean(numbers: np.ndarray) -> None:
    assert mean_by_group(numbers, np.array([1.0, 5.0, 2.0, 7.0])).tolist() == [5.0, 7.0, 1.5]


def test_nothing_has_no_groups() -> None:
    assert renumber(np.array([], np.int64)).tolist() == []
