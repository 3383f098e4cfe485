"""Calls a real service with the installed client: `python -I client.py TARGET FOLDER`.

Nothing may be imported from FOLDER, the repository.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.metadata import distributions, version
from importlib.resources import files
from pathlib import Path

import arena_llm
from arena_llm import AsyncClient, Client
from arena_llm.v1 import REVISION

#: What the client needs, and nothing else: its own dependencies, and those of grpcio.
ALLOWED = {
    *("arena-llm", "grpcio", "grpcio-health-checking", "protobuf", "googleapis-common-protos"),
    *("typing-extensions", "pip", "setuptools"),
}
MODEL = "openrouter_openai/gpt-4o-mini"


def main(target: str, repository: str) -> None:
    installed = {found.metadata["Name"].lower().replace("_", "-") for found in distributions()}
    assert installed <= ALLOWED, f"the client brings {installed - ALLOWED}"
    assert files("arena_llm").joinpath("py.typed").is_file()
    assert files("arena_llm").joinpath("v1/llm_service.proto").is_file()
    for name in arena_llm.__all__:
        getattr(arena_llm, name)
    with Client(target) as llm:
        assert llm.health()
        assert [model.name for model in llm.list_models()] == [MODEL]
        assert llm.generate(MODEL, "Your move?").text == "0"
        with llm.stream(MODEL, "Your move?") as stream:
            assert "".join(stream) == "0"
        about = llm.service_info()
        assert about.software_version == version("arena-llm"), about
    assert asyncio.run(ask(target)) == "0"
    command = Path(sys.executable).with_name("arena-llm")
    for arguments, shown in (
        (["--version"], f"arena-llm {version('arena-llm')} (contract revision {REVISION})"),
        (["--target", target, "generate", MODEL, "Your move?"], "0"),
    ):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == shown, done.stdout
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None) or ""
        assert name == "__main__" or not place.startswith(repository + "/"), place


async def ask(target: str) -> str:
    async with AsyncClient(target) as llm:
        return (await llm.generate(MODEL, "Your move?")).text


if __name__ == "__main__":
    main(*sys.argv[1:])
