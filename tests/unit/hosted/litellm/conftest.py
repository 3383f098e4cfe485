"""Only the litellm service."""

from __future__ import annotations

import pytest

from services.litellm.setup import import_litellm
from tests.unit.hosted.conftest import PROVIDERS, Provider


@pytest.fixture(scope="session", autouse=True)
def litellm_is_imported() -> None:
    """Import litellm as the service does: a plain import would fetch its prices from a web server.

    The modules of these tests import it in their functions, so that only the worker that runs
    the tests takes the seconds of the import, not every worker that collects them.
    """
    import_litellm()


@pytest.fixture(params=["openai"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """OpenAI, unless the test names others: @pytest.mark.parametrize(..., indirect=True)."""
    return PROVIDERS[request.param]
