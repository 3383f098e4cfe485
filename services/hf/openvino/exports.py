"""The exports of this machine: one for each checkpoint and version, made when it is needed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.common.local.checks import cache_folder, is_embedded
from services.common.log import log

#: The files whose code decides what an export contains: one through torch, and one without it.
_SOURCES = ("compress.py", "export.py", "operator.py", "verify.py")
_PLAIN_SOURCES = ("../embedded.py", "compress.py", "llama.py", "operator.py")

_FACTS = "facts.json"
_LARGE = 64_000_000
#: Files beside weights and code. A tokenizer changes no export.
_SETTINGS = ("config.json", "generation_config.json", "model.safetensors.index.json")


class ExportRefused(Exception):
    """The model cannot run on OpenVINO. The message says why."""


@dataclass(frozen=True, slots=True)
class Export:
    """A verified export.

    file: the model. embedded: how many token ids it can read. tokens: how many it can read and
    write. end_tokens, suppressed: of the generation config. size: bytes of the weights. half:
    they are stored in 16 bits. difference: the largest one from transformers'
    log-probabilities; None for the embedded model, which our tests compare.
    """

    file: Path
    embedded: int
    tokens: int
    end_tokens: tuple[int, ...]
    suppressed: tuple[int, ...]
    size: int
    half: bool
    difference: float | None


def make_export(
    checkpoint: Path,
    *,
    half: bool,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
) -> Export:
    """The export of a checkpoint, made if it is missing, which takes seconds to minutes.

    half: store the weights in 16 bits even if that changes them. The others are those of
    HfModel. Processes may call it at the same time. Raises ExportRefused, and OSError if the cache
    cannot be written.
    """
    options = ["--half"] if half else []
    # The embedded model's export needs no torch, and our tests compare it with transformers.
    plain = not half and is_embedded(checkpoint)
    if not plain:
        options += ["--trust-remote-code"] if trust_remote_code else []
        options += ["--allow-pickle"] if allow_pickle else []
        options += [f"--ignore-weights={pattern}" for pattern in ignore_weights]
    parent = cache_folder() / "openvino"
    parent.mkdir(parents=True, exist_ok=True)
    name = _key(checkpoint, options, plain=plain)
    source = [str(checkpoint.resolve()), *options]
    folder = parent / name
    with open(parent / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _FACTS).exists():
            with tempfile.TemporaryDirectory(dir=parent) as scratch:
                target = Path(scratch) / "export"
                target.mkdir()
                facts = _run(checkpoint, target, options, plain=plain)
                if "refused" in facts:  # remembered, so that no later start tries again
                    for file in target.iterdir():
                        file.unlink()
                facts["source"] = source
                (target / _FACTS).write_text(json.dumps(facts))
                shutil.rmtree(folder, ignore_errors=True)
                target.rename(folder)
            _delete_replaced(folder, source)
    facts = json.loads((folder / _FACTS).read_text())
    del facts["source"]
    if "refused" in facts:
        raise ExportRefused(facts["refused"])
    for name in ("end_tokens", "suppressed"):
        facts[name] = tuple(facts[name])
    return Export(folder / "model.xml", **facts)


def _delete_replaced(new: Path, source: list[str]) -> None:
    """Delete older exports of this checkpoint, made before its files or our code changed."""
    deleted = size = 0
    for facts in new.parent.glob(f"*/{_FACTS}"):
        # Those of our first versions do not name their source.
        if facts.parent != new and json.loads(facts.read_text()).get("source", source) == source:
            size += sum(file.stat().st_size for file in facts.parent.iterdir())
            shutil.rmtree(facts.parent, ignore_errors=True)
            (new.parent / f".{facts.parent.name}.lock").unlink(missing_ok=True)
            deleted += 1
    if deleted:
        log.info("exports deleted", replaced_by=str(new), number=deleted, megabytes=size // 10**6)


def _run(checkpoint: Path, target: Path, options: list[str], *, plain: bool) -> dict[str, Any]:
    """Export in a separate process, so that its memory is freed at its end."""
    module = "llama" if plain else "export"
    command = [sys.executable, "-m", f"services.hf.openvino.{module}"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603 - our own module
        [*command, str(checkpoint.absolute()), str(target), *options],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2][:300]
        raise ExportRefused(f"its export ended with code {done.returncode}: {last}")
    facts: dict[str, Any] = json.loads(done.stdout.rpartition("\n")[2])
    return facts


def _key(checkpoint: Path, options: list[str], *, plain: bool = False) -> str:
    """What decides an export: versions, and the checkpoint's files.

    Large files count by size and time, because reading them takes longer than loading the export.
    """
    facts: list[Any] = [options, version("openvino")]
    facts += [] if plain else [version("transformers")]
    sources = _PLAIN_SOURCES if plain else _SOURCES
    facts += [_hash(Path(__file__).parent / name) for name in sources]
    # The embedded model's weights are those of its GGUF file, whose checksum is in the sources.
    kinds = () if plain else (".py", ".safetensors", ".bin")
    for file in sorted(checkpoint.iterdir()):
        if file.name not in _SETTINGS and file.suffix not in kinds:
            continue
        status = file.stat()
        if status.st_size > _LARGE:
            facts.append([file.name, status.st_size, status.st_mtime_ns])
        else:
            facts.append([file.name, _hash(file)])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
