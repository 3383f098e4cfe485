"""`python -m tests.support.stand_in`: a service in place of hf, which starts in a second."""

from __future__ import annotations

import os
import sys
from typing import Any

from services.common.server import main
from services.hf.backend import HfBackend
from services.hf.config import HfConfig
from tests.support.scripted import PromptedBackend


class StandInBackend(PromptedBackend):
    """Reads the configuration of the hf service, loads no model, and answers "Paris".

    With the variable ARENA_PLANTED_CRASH it exits at its start with this text as the reason.
    """

    name = "hf"
    config_type: Any = HfConfig
    environment = HfBackend.environment

    def __init__(self, config: HfConfig) -> None:
        if reason := os.environ.get("ARENA_PLANTED_CRASH"):
            sys.exit(reason)
        super().__init__("hf", "Paris")


if __name__ == "__main__":
    main(StandInBackend)
