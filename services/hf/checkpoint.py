"""Where a model's files are: its folder, or the hub's cache, filled on first use."""

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
from services.hf.config import HfModel

_SETTINGS = ["*.json", "*.txt", "*.model", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
_PICKLES = ["*.bin"]


def locate(entry: HfModel) -> Path:
    """The model's folder, fetched from the hub if need be.

    Raises ModelMisconfigured (no such folder, gated), ModelNotFound (no such
    repository), UpstreamUnavailable (no hub to be reached).
    """
    if entry.model_path is not None:
        if not (entry.model_path / "config.json").is_file():
            raise ModelMisconfigured(
                f"{entry.name}: model_path {entry.model_path} holds no model (no config.json): "
                "run `make up`, which prepares the embedded model, or correct "
                "configs/hf_models.yaml"
            )
        return entry.model_path
    return _fetch(entry)


def in_hub_cache(entry: HfModel) -> bool:
    """Whether the files of a hub model are here already; asks no network."""
    try:
        snapshot_download(entry.hub_repo, revision=entry.revision, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError):
        return False
    return True


def _fetch(entry: HfModel) -> Path:
    repo = entry.hub_repo
    patterns = _SETTINGS + _WEIGHTS + (_PICKLES if entry.allow_pickle else [])
    try:
        return Path(
            snapshot_download(
                repo,
                revision=entry.revision,
                allow_patterns=patterns,
            )
        )
    except GatedRepoError as error:
        raise ModelMisconfigured(
            f"{entry.name}: {repo} is gated on the model hub: accept its terms there and set "
            "HF_TOKEN, or give its folder as model_path"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFound(f"{entry.name}: the model hub has no {repo}", field="model") from error
    except HFValidationError as error:  # a name that no repository can have
        raise ModelMisconfigured(f"{entry.name}: {error}") from error
    except Exception as error:  # whatever a network, a proxy or a full disk comes up with
        raise UpstreamUnavailable(
            f"{entry.name}: {repo} is not on this machine and the model hub cannot be reached "
            f"({type(error).__name__}): connect this machine, or give the model's folder as "
            "model_path in configs/hf_models.yaml"
        ) from error


def weight_bytes(folder: Path) -> int:
    """Size of the weight files, before any is read."""
    files = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    return sum(file.stat().st_size for file in files)
