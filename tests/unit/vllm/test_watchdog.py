"""When an engine counts as hanging: five looks with requests and without a step."""

from __future__ import annotations

import pytest

from services.vllm.watchdog import Watchdog

#: Requests and steps at each look, and at which look it hangs.
LOOKS = {
    "idle": ([(0, 7)] * 99, None),
    "each look sees a step": ([(1, step) for step in range(99)], None),
    "a step now and then": ([(1, step // 4) for step in range(99)], None),
    "it never begins": ([(1, 0)] * 99, 4),
    "it stops at work": ([(2, 1), (2, 2), (2, 3)] + [(2, 3)] * 9, 7),
    "idle, then stopped": ([(0, 3)] * 50 + [(1, 3)] * 9, 54),
    "callers who give up, and others": ([(1, 3), (1, 3), (0, 3)] * 9, 7),
    "short of it": ([(1, 3)] * 5 + [(1, 4)] + [(1, 4)] * 4, None),
}


@pytest.mark.parametrize("case", LOOKS)
def test_it_hangs_where_requests_wait_and_no_step_is_made(case: str) -> None:
    looks, expected = LOOKS[case]
    watchdog = Watchdog(0.5, 0.1)
    found = [at for at, look in enumerate(looks) if watchdog.hangs(*look)]
    assert (found[0] if found else None) == expected
