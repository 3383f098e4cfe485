"""Where a model's files are: in its folder, or downloaded from the hub. Does not import torch."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from services.common.errors import ModelMisconfigured, ModelNotFound, UpstreamUnavailable
from services.common.local.checks import check_model_folder
from services.hf.config import HfModel
from services.hf.weights import PICKLED, SAFE, find_weights

_SETTINGS = ["*.json", "*.txt", "*.model", "*.jinja"]
_CODE = ["*.py"]


def locate(entry: HfModel) -> Path:
    """The model's folder, downloaded from the hub if necessary.

    Raises ModelMisconfigured (no such folder, gated repository), ModelNotFound (no such
    repository), UpstreamUnavailable (the hub cannot be reached).
    """
    if entry.model_path is not None:
        check_model_folder(entry.name, entry.model_path)
        return entry.model_path
    return _download(entry)


def is_downloaded(entry: HfModel) -> bool:
    """True if the files of a hub model are on this machine. Does not use the network."""
    try:
        folder = _fetch(entry, _settings(entry), local_files_only=True)
    except (LocalEntryNotFoundError, ValueError):
        return False
    files = find_weights(folder, allow_pickle=entry.allow_pickle)
    return bool(files) and all((folder / name).exists() for name in files)


def _settings(entry: HfModel) -> list[str]:
    return _SETTINGS + (_CODE if entry.trust_remote_code else [])


def _download(entry: HfModel) -> Path:
    repo = entry.hub_repo
    try:
        folder = _fetch(entry, _settings(entry))
        # Its index says which files have the weights. A repository may have them more than once.
        files = find_weights(folder, allow_pickle=entry.allow_pickle)
        _fetch(entry, files or [SAFE[0]])
        if not files and entry.allow_pickle and not (folder / SAFE[0]).exists():
            _fetch(entry, [PICKLED[0]])
    except GatedRepoError as error:
        raise ModelMisconfigured(
            f"{entry.name}: {repo} is gated on the model hub: accept its terms there and set "
            "HF_TOKEN, or set model_path to its folder"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFound(f"{entry.name}: the model hub has no {repo}", field="model") from error
    except HFValidationError as error:  # a name that no repository can have
        raise ModelMisconfigured(f"{entry.name}: {error}") from error
    except Exception as error:  # any error of the network, a proxy or the disk
        raise UpstreamUnavailable(
            f"{entry.name}: {repo} is not on this machine and the model hub cannot be reached "
            f"({type(error).__name__}): connect this machine to the hub, or set model_path to the "
            "model's folder"
        ) from error
    return folder


def _fetch(entry: HfModel, patterns: list[str], *, local_files_only: bool = False) -> Path:
    """Download the files of these names from the hub. Returns the folder of the snapshot."""
    folder = snapshot_download(
        entry.hub_repo,
        revision=entry.revision,
        allow_patterns=patterns,
        local_files_only=local_files_only,
    )
    return Path(folder)


def weight_bytes(folder: Path) -> int:
    """The size of the weight files, without reading them."""
    files = (folder / name for name in find_weights(folder, allow_pickle=True))
    return sum(file.stat().st_size for file in files if file.exists())
