from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arena.experiment.file import Experiment
from arena.experiment.load import load_experiment

#: ModelCaller that answer by choices.
SMALL = """
name: small
games: [tic_tac_toe, kuhn_poker, matrix_rps]
models: [hf_a, hf_b, hf_c]
episodes: 2
reply: choices
episodes_in_flight: 8
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Experiment]:
    """Returns a function that loads an experiment from its text."""

    def loaded(text: str = SMALL) -> Experiment:
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return load_experiment(path)

    return loaded
