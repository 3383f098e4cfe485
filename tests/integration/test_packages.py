"""Wheels and sdists: the same bytes twice, their files, and a use of what they install.

`make packages` does the same with every Python of the machine and the newest dependencies.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.metadata import Metadata

from deploy.environment import UV, uv_environ
from release import build, contents, install
from release.build import ROOT, ReleaseError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The packages, built twice."""
    return build.build(tmp_path_factory.mktemp("dist"))


def test_the_packages_have_their_files_and_say_what_they_are(packages: list[Path]) -> None:
    assert len(packages) == 6
    contents.check(packages)


def test_the_packages_work_where_nothing_else_is_installed(
    packages: list[Path], tmp_path: Path
) -> None:
    export = [str(UV), "export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace"]
    options = [f"--extra={extra}" for extra in install.EXTRAS]
    locked = tmp_path / "locked.txt"
    subprocess.run([*export, *options, "-o", str(locked)], cwd=ROOT, env=uv_environ(), check=True)
    install.try_out(packages, tmp_path, sys.executable, sys.executable, locked)


def test_a_file_that_is_missing_or_too_much_is_named(packages: list[Path]) -> None:
    [wheel] = [
        path
        for path in packages
        if path.name.startswith("arena_llm_services-1") and path.suffix == ".whl"
    ]
    names = {*zipfile.ZipFile(wheel).namelist(), "tests/conftest.py"} - {"arena/entry_points.txt"}
    assert contents.check_wheel(names, "arena-llm-services") == [
        "lacks arena/entry_points.txt",
        "has tests/conftest.py, which is not a file of it",
    ]


def test_metadata_that_promises_too_much_is_named() -> None:
    text = "Metadata-Version: 2.4\nName: a\nVersion: 9\nDescription-Content-Type: text/markdown\n"
    problems = contents.check_metadata(Metadata.from_email(f"{text}\n[here](../docs/a.md)"))
    assert [re.search(r"version 9|licence|\.\./docs|Python", p)[0] for p in problems] == [  # type: ignore[index]
        "version 9", "licence", "../docs", "Python",
    ]  # fmt: skip


def test_a_build_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "list_files", lambda: ["README.md"])
    with pytest.raises(ReleaseError, match="the packages cannot be built"):
        build.build(tmp_path)


def test_the_version_is_the_same_everywhere() -> None:
    version = contents.find_version()
    for folder in (".", "client", "client-compat"):
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        assert project["version"] == version
        major, minor, _ = version.split(".")
        listed = [
            *project["dependencies"],
            *(
                word
                for words in project.get("optional-dependencies", {}).values()
                for word in words
            ),
        ]
        for requirement in listed:
            if requirement.startswith("arena-llm"):
                assert requirement.endswith(f">={major}.{minor},<{int(major) + 1}"), requirement
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        assert "editable" not in package["source"] or package["version"] == version
    for path in (ROOT / "deploy/kubernetes").rglob("kustomization.yaml"):
        for image in yaml.safe_load(path.read_text()).get("images", ()):
            assert image["newTag"] == version, path
    for name in ("README.md", "client/README.md", "client-compat/README.md", "services/README.md"):
        found = set(re.findall(r"arena_llm\w*-([\d.]+)-py3", (ROOT / name).read_text()))
        assert found == {version}, name
    assert f"arena-llm-$name:{version} " in (ROOT / "docs/kubernetes.md").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
