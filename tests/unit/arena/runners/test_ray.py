"""The folder for Ray's files, whose path must be short enough for sockets."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from arena.runners.crew import RayError
from arena.runners.ray import _folder, _ray


@pytest.mark.parametrize("length", [20, 21, 200])
def test_the_path_of_a_socket_fits_on_every_system(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """macOS allows 103 bytes, of which Ray needs 64. A longer TMPDIR is not used."""
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        folder = Path(base, "x" * max(1, length - len(base) - 1))
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with _folder() as path:
            assert len(path) <= 103 - 64
            assert Path(path).is_relative_to(folder) == (length == 20)
            Path(path, "file").touch()
        assert not Path(path).exists()


def test_a_start_that_fails_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a plain Exception if it starts too slowly."""

    def fails(**_: object) -> None:
        raise Exception("The current node\n timed out")

    monkeypatch.setattr("ray.init", fails)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # it gets Ray's settings
    with pytest.raises(RayError, match=r"^The current node timed out$"), _ray(None):
        pass


def test_a_folder_that_cannot_be_made_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with pytest.raises(RayError, match="folder for its sockets in /proc/none"):
        _folder().__enter__()
