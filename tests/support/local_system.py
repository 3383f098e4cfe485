"""A system with both services that run models on this machine: router, hf and vllm.

Every engine start of vLLM costs a minute of CPU, so all tests of a test process share one system.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from deploy.services import ROOT, VLLM
from tests.support.local_models import hf_models, make_tiny, require_vllm, vllm_models
from tests.support.system import System, free_ports

#: Seconds after which the vllm service takes an engine without a step for dead.
HANG_SECONDS = 10


def start_local_system(folder: Path, temporary: Path) -> System:
    """Start `make up VLLM=1` with tiny models; skip where there is no build of vLLM.

    temporary: for vLLM's sockets, whose paths must be short.
    """
    require_vllm()
    tiny = make_tiny(folder / "tiny")
    configs = Path(shutil.copytree(ROOT / "configs", folder / "configs"))
    for name, settings, models in (
        ("hf_models.yaml", {"device": "cpu", "max_batch": 16}, hf_models(folder, tiny)),
        (VLLM.config, {"hang_seconds": HANG_SECONDS}, vllm_models(folder, tiny)),
    ):
        written = yaml.safe_load((ROOT / "configs" / name).read_text())
        written |= {"max_waiting": 200, **settings, "models": models}
        (configs / name).write_text(yaml.safe_dump(written))
    port, metrics = free_ports(2)
    environ = {
        "VLLM": "1",
        "ARENA_CONFIG_DIR": str(configs),
        VLLM.variable: str(port),
        "ARENA_VLLM_METRICS_PORT": str(metrics),
        "TMPDIR": str(temporary),
    }
    system = System(folder / "run", environ)
    try:
        system.up()
    except BaseException:
        system.close()
        raise
    return system
