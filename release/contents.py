"""Checks the files of a package, and what it says about itself."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

from packaging.metadata import Metadata

from release.build import ROOT, ReleaseError, list_files

#: The folders of each package: where they are in the repository, and in a wheel.
FOLDERS = {
    "arena-llm": {"client/src/arena_llm/": "arena_llm/"},
    "arena-llm-compat": {"client-compat/src/arena_llm_compat/": "arena_llm_compat/"},
    "arena-llm-services": {
        f"{name}/": f"{name}/" for name in ("services", "router", "gateway", "arena")
    },
}
#: Files outside of these folders, and where a wheel has them.
FILES = {"arena-llm-compat": {"client-compat/arena_llm_compat.pth": "arena_llm_compat.pth"}}
#: A wheel has no README, because its text is the wheel's description.
README = "services/README.md"


def check(files: Collection[Path]) -> None:
    """Check wheels and sdists. Raises ReleaseError with everything that is wrong."""
    problems = []
    for path in files:
        metadata = read_metadata(path)
        found = check_metadata(metadata)
        if path.suffix == ".whl":
            found += check_wheel(zipfile.ZipFile(path).namelist(), metadata.name)
        problems += [f"{path.name}: {problem}" for problem in found]
    if problems:
        raise ReleaseError("\n".join(problems))


def read_metadata(path: Path) -> Metadata:
    """Return what a wheel or an sdist says about itself. Raises ReleaseError."""
    if path.suffix == ".whl":
        wheel = zipfile.ZipFile(path)
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        text = wheel.read(name)
    else:
        with tarfile.open(path) as sdist:
            file = sdist.extractfile(f"{path.name.removesuffix('.tar.gz')}/PKG-INFO")
            assert file is not None
            text = file.read()
    try:
        return Metadata.from_email(text)
    except ExceptionGroup as error:
        reasons = "; ".join(map(str, error.exceptions))
        raise ReleaseError(f"{path.name}: its metadata is invalid: {reasons}") from error


def check_wheel(names: Iterable[str], package: str) -> list[str]:
    """What a wheel has or lacks, compared with the repository."""
    expected = {
        target + name.removeprefix(source)
        for name in list_files()
        for source, target in {**FOLDERS[package], **FILES.get(package, {})}.items()
        if name.startswith(source) and name != README
    }
    found = {name for name in names if ".dist-info/" not in name}
    markers = {f"{target}py.typed" for target in FOLDERS[package].values()}
    return [
        *(f"lacks {name}" for name in sorted((expected | markers) - found)),
        *(f"has {name}, which is not a file of it" for name in sorted(found - expected)),
    ]


def check_metadata(metadata: Metadata) -> list[str]:
    """What is wrong in a package's metadata, whose form and values its parser has checked."""
    problems = []
    if str(metadata.version) != (version := find_version()):
        problems.append(f"is of version {metadata.version}, not {version}")
    private = any(name.startswith("Private ::") for name in metadata.classifiers or ())
    if not private and not metadata.license_expression:
        problems.append("has neither a licence nor the classifier that keeps it off the indexes")
    if metadata.description_content_type != "text/markdown":
        problems.append("has no description in Markdown")
    if links := re.findall(r"\]\((?!https?://|#)[^)]*\)", metadata.description or ""):
        problems.append(f"its description has links into the repository: {', '.join(links)}")
    if not metadata.requires_python or "3.11" not in metadata.requires_python:
        problems.append("does not say which Python it needs")
    return problems


def is_for(path: Path, release: str) -> bool:
    """Whether a package is for a release of Python, such as 3.11."""
    needed = read_metadata(path).requires_python
    return needed is None or f"{release}.0" in needed


def find_version() -> str:
    """The version of the release. The packages and the changelog must agree with it."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "client/pyproject.toml").read_text(), re.M)
    if found is None:
        raise ReleaseError("client/pyproject.toml has no line `version = ...`")
    return found[1]
