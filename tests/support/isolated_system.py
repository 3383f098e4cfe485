"""`make up`, an experiment with the embedded model, and one with a provider on this machine.

python -m tests.support.isolated_system FOLDER
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.providers import PROVIDERS
from tests.support.system import System
from tests.support.upstreams.server import Reply

_LOCAL = "hf_smollm2-135m-instruct"


async def main(folder: Path) -> None:
    provider = PROVIDERS["openrouter"]
    async with provider.upstream() as upstream:
        upstream.default = Reply(text="0")
        environ = {
            provider.variable: provider.key,
            "OPENROUTER_BASE_URL": upstream.url,
        }
        system = System(folder / "run", environ)
        try:
            await asyncio.to_thread(system.up)
            for model in (_LOCAL, provider.model):
                await asyncio.to_thread(_play, system, folder, model)
        finally:
            await asyncio.to_thread(system.close)


def _play(system: System, folder: Path, model: str) -> None:
    name = model.partition("_")[0]
    experiment = folder / f"{name}.yaml"
    settings = {
        "games": ["kuhn_poker"],
        "models": [model],
        "opponents": {"random": {"type": "random"}},
        "on_illegal": "random",
        "max_tokens": 8,
    }
    experiment.write_text(json.dumps(settings))
    results = folder / name
    command = [sys.executable, "-m", "arena.cli", "run", "--config", str(experiment)]
    done = system.run([*command, "--results", str(results)])
    assert done.returncode == 0, done.stdout + done.stderr + system.logs()
    page = [sys.executable, "-m", "arena.cli", "report", str(results / "arena.sqlite")]
    done = system.run(page)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
