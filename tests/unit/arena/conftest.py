from __future__ import annotations

import pytest

from arena_llm import _transport


@pytest.fixture
def quick_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that wait 0.1 s, not 2 s, for a server that does not run."""
    monkeypatch.setattr(_transport, "CONNECT_SECONDS", 0.1)
