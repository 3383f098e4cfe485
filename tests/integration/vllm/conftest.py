"""One vllm service for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.vllm import VllmProcess, broken_models, require_vllm, serving_models


@pytest.fixture(scope="package")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmProcess]:
    """The vllm service alone, with small engines, among them the embedded model, and entries
    that cannot run. Starting it takes a minute."""
    require_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    models = [*serving_models(folder), *broken_models(folder)]
    with VllmProcess(folder, models, max_waiting=200) as process:
        yield process
