"""Only the litellm service."""

from __future__ import annotations

import pytest

from services.litellm.setup import import_litellm
from tests.unit.hosted.conftest import PROVIDERS, Provider

# Before any test module imports litellm: it would fetch its price map from a web server.
import_litellm()


@pytest.fixture(params=["openai"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """OpenAI, unless the test names others: @pytest.mark.parametrize(..., indirect=True)."""
    return PROVIDERS[request.param]
