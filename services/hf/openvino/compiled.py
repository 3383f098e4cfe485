"""A compiled model: one pass over a flat list of tokens of any rows. Imports no torch."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov

from services.hf.forward import Floats
from services.hf.openvino.operator import BLOCK, KEYS, MAX_LENGTH, VALUES, install

#: exact: the arithmetic of float32. fast: bfloat16 and a cache of 8 bits, where the CPU has them.
Precision = Literal["exact", "fast"]

_SETTINGS: dict[str, dict[str, Any]] = {
    "exact": {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        "KV_CACHE_PRECISION": "f32",
    },
    # By default, keys are quantized channel by channel over a block, again at each new token: a
    # prompt that is read in other pieces would get other keys.
    "fast": {"KEY_CACHE_QUANT_MODE": "BY_TOKEN"},
}
#: Other processes use the same cores, so no thread is bound to one.
_ALWAYS: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}

#: The cache may be larger than what is free now (mmap(2), Linux).
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0

#: The block that a dummy row uses.
DUMMY_BLOCK = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one row in one pass.

    past: the row's tokens before. blocks: those of the row. wanted: how many of the last tokens
    need logits.
    """

    tokens: Sequence[int]
    past: int
    blocks: Sequence[int]
    wanted: int = 1


class CompiledModel:
    """A model that can run after `allocate`. Not thread-safe: one engine owns it.

    tokens: how many of the logits to return. threads: default: all cores. blocks: the size of the
    cache. block_bytes: of one block, in all layers.
    """

    def __init__(
        self, file: Path, tokens: int, precision: Precision, threads: int | None = None
    ) -> None:
        self.tokens = tokens
        core = ov.Core()
        model = core.read_model(file)
        install(model)
        settings = {**_ALWAYS, **_SETTINGS[precision]}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(model, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._shapes = {
            name: (port.get_element_type(), [int(str(size)) for size in shape[1:]])
            for port in compiled.inputs
            if (name := port.get_any_name()).startswith((KEYS, VALUES))
            and (shape := list(port.get_partial_shape()))
        }
        self.block_bytes: int = sum(
            int(np.prod(shape)) * int(kind.size) for kind, shape in self._shapes.values()
        )
        self.blocks = 0
        self._caches: list[Any] = []
        self._maps: list[mmap.mmap] = []

    def allocate(self, blocks: int) -> None:
        """Make the cache. A block takes memory when it is first written."""
        self.blocks = blocks
        self._caches = [self._allocate(name, *shape) for name, shape in self._shapes.items()]

    def _allocate(self, name: str, kind: ov.Type, shape: list[int]) -> Any:
        whole = [self.blocks, *shape]
        size = int(np.prod(whole)) * kind.size
        # Anonymous memory is zero, and takes no place before it is written.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._maps.append(mmap.mmap(-1, size, flags=flags))
        memory = np.frombuffer(self._maps[-1], kind.to_dtype()).reshape(whole)
        self._request.set_tensor(name, ov.Tensor(memory, shared_memory=True))
        return memory

    def run(self, chunks: Sequence[Chunk]) -> Floats:
        """One pass. Returns the logits [wanted places of all chunks, tokens].

        They are valid until the next pass. Those of a row are the same bits beside any other rows:
        kernels for one token or one place differ, so a pass always has at least two of each.
        """
        chunks = list(chunks)
        if sum(len(chunk.tokens) for chunk in chunks) == 1:
            chunks.append(Chunk([0], 0, [DUMMY_BLOCK], 0))
        ids: list[int] = []
        positions: list[int] = []
        begins, block_begins = [0], [0]
        past: list[int] = []
        blocks: list[int] = []
        places: list[int] = []
        longest = 0
        for chunk in chunks:
            until = chunk.past + len(chunk.tokens)
            ids += chunk.tokens
            positions += range(chunk.past, until)
            past.append(chunk.past)
            begins.append(len(ids))
            blocks += chunk.blocks[: count_blocks(until)]
            block_begins.append(len(blocks))
            places += range(len(ids) - chunk.wanted, len(ids))
            longest = max(longest, until)
        wanted = len(places)
        places += [len(ids) - 1] * (2 - wanted)
        self._set(np.int64, input_ids=ids, position_ids=positions, sampled=places)
        self._set(np.int32, past_lens=past, subsequence_begins=begins, block_indices=blocks)
        self._set(np.int32, block_indices_begins=block_begins, **{MAX_LENGTH: longest})
        self._request.infer()
        logits: Floats = self._request.get_output_tensor(0).data
        return logits[:wanted, : self.tokens]

    def _set(self, dtype: Any, **inputs: Any) -> None:
        for name, value in inputs.items():
            self._request.set_tensor(name, ov.Tensor(np.array(value, dtype)))

    def copy_block(self, source: int, target: int) -> None:
        """Overwrite a block with another one."""
        for cache in self._caches:
            cache[target] = cache[source]

    def return_blocks(self, blocks: Sequence[int]) -> None:
        """Give the memory of unused blocks back to the system. They are zero then."""
        for memory in self._maps:
            size = len(memory) // self.blocks
            for first, last in _runs(blocks):
                # Only whole pages can be returned.
                begin = -(-first * size // mmap.PAGESIZE) * mmap.PAGESIZE
                end = (last + 1) * size // mmap.PAGESIZE * mmap.PAGESIZE
                if end > begin:
                    memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)

    def wipe_block(self, block: int) -> None:
        """Zero a block: attention multiplies masked values by 0, and NaN times 0 is NaN."""
        for cache in self._caches:
            cache[block] = 0


def _runs(blocks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first and the last block of each run of neighbours."""
    ordered = sorted(blocks)
    first = 0
    for place, block in enumerate(ordered):
        if place + 1 == len(ordered) or ordered[place + 1] != block + 1:
            yield ordered[first], block
            first = place + 1


def count_blocks(tokens: int) -> int:
    """How many blocks this many tokens take."""
    return -(-tokens // BLOCK)
