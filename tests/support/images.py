"""Builds what a Dockerfile of deploy/images installs, without Docker: its files and its command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.environment import UV, uv_environ
from deploy.services import ROOT

IMAGES = ROOT / "deploy/images"
#: Where an image has its environment.
VENV = Path("/app/.venv")


def image_name(reference: str) -> str:
    """The name of an image's Dockerfile: `hf` for registry.example/arena-llm-hf:1.0.0."""
    return reference.rpartition("/")[2].partition(":")[0].removeprefix("arena-llm-")


def read_dockerfile(name: str) -> tuple[str, str]:
    """The stage that builds an image's environment, and the stage that is the image."""
    text = (IMAGES / f"{name}.Dockerfile").read_text()
    build, _, image = text.rpartition("\nFROM ")
    return build, image


def build_environment(name: str, folder: Path) -> Path:
    """Make an image's environment in a folder, from the files that the Dockerfile copies alone.

    Its packages come from uv's cache, or from where pip is configured to look.
    """
    build, _ = read_dockerfile(name)
    context = folder / f"{name}-context"
    sent = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for line in re.findall(r"^COPY (.*)$", build, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert source in sent, f"{name}.Dockerfile: .dockerignore leaves out {source}"
            _copy(ROOT / source, context / source)
    (sync,) = re.findall(r"^RUN uv (sync .*)$", build, re.MULTILINE)
    venv = folder / f"{name}-venv"
    command = [str(UV), *shlex.split(sync), "--quiet", "--python", sys.executable]
    settings = {"UV_PROJECT_ENVIRONMENT": str(venv), "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(
        command,
        cwd=context,
        env=uv_environ(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{name}.Dockerfile: {done.stderr}"
    return venv


def _copy(source: Path, place: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
