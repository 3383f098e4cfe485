"""Builds wheels and sdists, so that two builds of the same files have the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.environment import UV, install_uv, uv_environ

ROOT = Path(__file__).resolve().parent.parent
#: The time of all files in a package: hatchling's own default, so that a build by hand has the same
#: bytes. It is set here because the environment may have another value.
EPOCH = "1580601600"


class ReleaseError(Exception):
    """A package is not what it should be, or cannot be built."""


def list_files(root: Path = ROOT) -> list[str]:
    """The files of the repository, as paths from its root. Raises ReleaseError."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise ReleaseError(f"packages are built from a git checkout: {listed.stderr.strip()}")
    return [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def build(out: Path) -> list[Path]:
    """Build all packages into a folder and return the files. Raises ReleaseError.

    A second build, with another Python if there is one, must have the same bytes. The first wheels
    are made from the sdists, the second ones from the repository.
    """
    install_uv()
    names = list_files()
    with tempfile.TemporaryDirectory() as folder:
        first = _build(Path(folder) / "first", names, sys.executable)
        second = _build(
            Path(folder) / "a second place",
            names,
            _find_other_python(),
            "--sdist",
            "--wheel",
            changed=True,
        )
        differing = [
            path.name for path in first if _digest(path) != _digest(second[0].parent / path.name)
        ]
        if differing:
            raise ReleaseError(f"two builds differ: {', '.join(differing)}")
        out.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, out)) for path in first]


def _build(
    folder: Path, names: list[str], python: str, *options: str, changed: bool = False
) -> list[Path]:
    """Build a copy of these files. changed: with other times and modes, like another checkout's."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
        if changed:
            os.utime(target, (1, 1))
            target.chmod(0o600)
    command = [str(UV), "build", "--quiet", "--all-packages", "--python", python, *options]
    environ = uv_environ(SOURCE_DATE_EPOCH=EPOCH, UV_PYTHON_DOWNLOADS="never")
    if changed:
        environ["TZ"] = "Asia/Tokyo"
    built = subprocess.run(
        [*command, "--out-dir", str(folder / "dist")],
        cwd=folder,
        env=environ,
        umask=0o077 if changed else -1,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise ReleaseError(f"the packages cannot be built: {built.stderr.strip()}")
    return sorted([*(folder / "dist").glob("*.whl"), *(folder / "dist").glob("*.tar.gz")])


def _find_other_python() -> str:
    """Return another Python for the second build, or this one if there is none."""
    from release.pythons import find_pythons

    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return next((path for name, path in find_pythons().items() if name != own), sys.executable)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_digests(files: list[Path]) -> Path:
    """Write SHA256SUMS beside the files, as `sha256sum --check` reads it."""
    target = files[0].parent / "SHA256SUMS"
    target.write_text("".join(f"{_digest(path)}  {path.name}\n" for path in files))
    return target
