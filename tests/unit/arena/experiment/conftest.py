from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arena.experiment.config import Experiment, load_experiment

#: Models that answer by choices.
SMALL = """
name: small
games: [tic_tac_toe, kuhn_poker, matrix_rps]
models: [hf_a, hf_b, hf_c]
episodes: 2
reply: choices
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Experiment]:
    """An experiment from its file's text."""

    def loaded(text: str = SMALL) -> Experiment:
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return load_experiment(path)

    return loaded
