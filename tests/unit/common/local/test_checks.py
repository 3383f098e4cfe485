"""The hint for a wrong model folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import ModelMisconfigured
from services.common.local.checks import check_model_folder, embedded_folder


def test_a_wrong_folder_is_reported_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelMisconfigured, match="correct its model_path") as caught:
        check_model_folder("hf_a", Path("models/a"))
    assert str(tmp_path / "models/a") in caught.value.message
    assert "make up" not in caught.value.message


@pytest.mark.parametrize("absolute", [False, True])
def test_only_the_embedded_model_is_prepared_by_make_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARENA_CACHE_DIR", raising=False)
    folder = embedded_folder().absolute() if absolute else embedded_folder()
    with pytest.raises(ModelMisconfigured, match="run `make up`"):
        check_model_folder("hf_a", folder)


def test_a_model_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    check_model_folder("hf_a", tmp_path)
