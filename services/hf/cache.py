"""A key-value cache that rows join and leave at any step.

All rows end at the same column and are padded on the left. transformers' `generate` uses
this layout for every decoder-only model, so positions, sliding windows and relative biases
are right for every architecture:

    column   start             end
    row 0    . . . k k k k k k |        A pass over n tokens writes n columns of every
    row 1    k k k k k k k k k |        row from `end` and moves `end`. The last row
    row 2    . . . . . . k k k |        overwrites a row that leaves.

transformers' DynamicCache reallocates at each step; this cache does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

#: Columns are allocated in multiples of this.
_STRIDE = 128
#: Free columns after the prompts in a new cache.
_HEADROOM = 32


#: A cache that lacks rows grows by this ratio, so that it is rarely reallocated.
_MORE_ROWS = 5, 4


def _most_rows(rows: int) -> int:
    """How many rows may be allocated for this many."""
    return -(-rows * _MORE_ROWS[0] // _MORE_ROWS[1])


class CacheSize:
    """What the caches of one model take. token_bytes: of one token; known after a first prompt.

    held: the caches of the running batch.
    """

    def __init__(self) -> None:
        self.token_bytes = 0
        self.held: list[WindowCache] = []

    def bound(self, widths: Sequence[int], step_tokens: int) -> int:
        """The most bytes of a batch whose rows grow to these widths.

        step_tokens: of the prompts that are read meanwhile to join it, padding included.
        """
        if not widths:
            return 0
        longest = max(widths)
        columns = _most_rows(len(widths)) * (longest + 2 * _STRIDE)
        return self.token_bytes * (columns + max(longest, 2 * step_tokens) + _HEADROOM)

    @property
    def held_bytes(self) -> int:
        """The bytes of the running batch."""
        return sum(cache.allocated_bytes for cache in self.held)


class Window:
    """The rows and columns of one cache, the same for all its layers.

    lengths: columns that each row uses. Where prompts of different lengths are read together,
    a row whose prompt has not begun has a negative length. end: the column after the last
    token. rows, columns: what is allocated.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.end = 0
        self.rows = self.columns = 0

    @property
    def width(self) -> int:
        return max(self.lengths, default=0)

    @property
    def start(self) -> int:
        return self.end - self.width


class WindowLayer(CacheLayerMixin):
    """One layer's keys and values: [rows, heads, columns, head size] each."""

    is_sliding = False

    def __init__(self, window: Window) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._window = window
        self._keys = self._values = torch.empty(0)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate, for states of [rows, heads, tokens, head size]."""
        window = self._window
        self._keys, self._values = (
            states.new_empty((window.rows, states.shape[1], window.columns, states.shape[3]))
            for states in (key_states, value_states)
        )
        # Attention multiplies masked columns by zero, so none may hold infinity. A prompt's
        # columns are written before they are read; the free columns after it may not be.
        self._keys[:, :, -_HEADROOM:] = 0
        self._values[:, :, -_HEADROOM:] = 0
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the columns of a pass. Returns the window that includes them."""
        if not self.is_initialized:  # this is the first pass
            self.lazy_initialization(key_states, value_states)
        window, until = self._window, self._window.end + key_states.shape[-2]
        rows = len(window.lengths)
        self._keys[:rows, :, window.end : until] = key_states
        self._values[:rows, :, window.end : until] = value_states
        columns = slice(window.start, until)
        return self._keys[:rows, :, columns], self._values[:rows, :, columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._window.width + query_length, 0

    def get_seq_length(self) -> int:
        return self._window.width

    def get_max_length(self) -> int:
        return -1

    def arrange(self, live: slice, new_start: int) -> None:
        """Reallocate to the window's size if necessary, and move the live columns."""
        if self.is_initialized:
            self._keys = _moved(self._keys, self._window, live, new_start)
            self._values = _moved(self._values, self._window, live, new_start)

    def insert(self, keys: torch.Tensor, values: torch.Tensor, row: int) -> None:
        """Write [heads, length, head size] to a row, so that it ends at the window's end."""
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
            self._keys.zero_()
            self._values.zero_()
        end = self._window.end
        self._keys[row, :, end - keys.shape[1] : end] = keys
        self._values[row, :, end - values.shape[1] : end] = values

    def fill(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Start with [rows, heads, columns, head size], which end at the window's end."""
        self.lazy_initialization(keys, values)
        self._keys[:, :, : keys.shape[2]] = keys
        self._values[:, :, : values.shape[2]] = values

    def copy_row(self, source: int, target: int, live: slice) -> None:
        """Overwrite the row `target` with `source`."""
        self._keys[target, :, live] = self._keys[source, :, live]
        self._values[target, :, live] = self._values[source, :, live]

    def wipe(self, row: int) -> None:
        """Zero a row: attention multiplies masked values by 0, and NaN times 0 is NaN."""
        self._keys[row] = 0
        self._values[row] = 0

    @property
    def allocated_bytes(self) -> int:
        """The bytes of its keys and values."""
        return self._keys.nbytes + self._values.nbytes

    def live(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The window's keys and values: [rows, heads, width, head size] each."""
        rows, live = len(self._window.lengths), slice(self._window.start, self._window.end)
        return self._keys[:rows, :, live], self._values[:rows, :, live]

    def expose(self) -> None:
        """Set the attributes `keys` and `values`, which transformers reads, to the window."""
        self.keys, self.values = self.live()


def _moved(old: torch.Tensor, window: Window, live: slice, new_start: int) -> torch.Tensor:
    new, count = old, len(window.lengths)
    if (window.rows, window.columns) != (old.shape[0], old.shape[2]):
        new = old.new_zeros((window.rows, old.shape[1], window.columns, old.shape[3]))
    part = old[:count, :, live]
    # Copy first if both lie in the same tensor, where they may overlap.
    part = part.clone() if new is old else part
    new[:count, :, new_start : new_start + part.shape[2]] = part
    return new


class WindowCache(Cache):
    """The cache of a running batch, or of prompts that are read together.

    Not thread-safe: one engine owns it.
    """

    layers: list[WindowLayer]  # type: ignore[assignment]

    def __init__(self) -> None:
        self.window = Window()
        super().__init__(layer_class_to_replicate=partial(WindowLayer, self.window))  # type: ignore[arg-type]

    def begin(self, lengths: Sequence[int], columns: int) -> None:
        """Prepare empty rows of these lengths. Their prompts will end at column `columns`."""
        window = self.window
        window.lengths[:] = lengths
        window.end, window.rows = window.width, len(lengths)
        window.columns = columns + _HEADROOM

    def fill(self, layers: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Set the keys and values of the rows of `begin`, layer by layer."""
        for keys, values in layers:
            layer = WindowLayer(self.window)
            layer.fill(keys, values)
            self.layers.append(layer)

    @property
    def allocated_bytes(self) -> int:
        """The bytes of all rows and columns, used or not."""
        return sum(layer.allocated_bytes for layer in self.layers)

    @property
    def token_bytes(self) -> int:
        """The bytes of one column of one row. There must be a layer."""
        return self.allocated_bytes // (self.window.rows * self.window.columns)

    def make_room(self, lengths: Sequence[int]) -> None:
        """Make room for additional rows of these lengths."""
        self._reserve(len(self.window.lengths) + len(lengths), max(lengths), 0)

    def insert(self, source: Cache, row: int, length: int) -> None:
        """Copy the last `length` columns of a row of another cache to a new row.

        Call `make_room` before.
        """
        window = self.window
        if not self.layers:
            self.layers.extend(WindowLayer(window) for _ in source.layers)
        for layer, other in zip(self.layers, source.layers, strict=True):
            keys: Any = other.keys  # type: ignore[union-attr] # full attention, as prefilled
            values: Any = other.values  # type: ignore[union-attr]
            layer.insert(keys[row, :, -length:], values[row, :, -length:], len(window.lengths))
        window.lengths.append(length)

    def remove(self, row: int, *, wipe: bool = False) -> None:
        """Drop a row; the last row takes its place.

        wipe: zero it first, because it may contain NaN.
        """
        window, last = self.window, len(self.window.lengths) - 1
        if wipe:
            for layer in self.layers:
                layer.wipe(row)
        if row != last:
            for layer in self.layers:
                layer.copy_row(last, row, slice(window.end - window.lengths[last], window.end))
            window.lengths[row] = window.lengths[last]
        window.lengths.pop()

    def reserve(self, columns: int) -> None:
        """Make room for a pass over `columns` tokens."""
        self._reserve(len(self.window.lengths), 0, columns)

    def advance(self, columns: int) -> None:
        """Add the columns that the last pass wrote to every row."""
        window = self.window
        window.lengths[:] = [length + columns for length in window.lengths]
        window.end += columns

    def expose(self) -> None:
        """Let cross-attention, or a copy of a row, read the current window."""
        for layer in self.layers:
            layer.expose()

    def mask(self, device: torch.device, extra: int = 0) -> torch.Tensor | None:
        """[rows, width + extra] of 1 where a row has a key; None if no row is padded."""
        lengths, width = self.window.lengths, self.window.width
        if all(length == width for length in lengths):
            return None
        return left_padded_mask([n + extra for n in lengths], width + extra, device)

    def _reserve(self, rows: int, new_length: int, ahead: int) -> None:
        """Make `rows` rows fit, one of them of `new_length`, and `ahead` more columns."""
        window = self.window
        end = max(window.width, new_length)
        fits = end <= window.end and window.end + ahead <= window.columns
        if rows <= window.rows and fits:
            return
        if rows > window.rows:
            window.rows = max(rows, window.rows * _MORE_ROWS[0] // _MORE_ROWS[1])
        # More than needed, so that a window that grows by a few columns a step is rarely moved.
        roomy = end + max(ahead, _STRIDE)
        if roomy > window.columns:
            window.columns = -(-roomy // _STRIDE) * _STRIDE
            window.rows = min(window.rows, _most_rows(rows))  # many may have left
        live = slice(window.start, window.end)
        for layer in self.layers:
            layer.arrange(live, end - window.width)
        window.end = end


def left_padded_mask(lengths: Sequence[int], width: int, device: torch.device) -> torch.Tensor:
    """[rows, width] with 1 in the last `lengths[row]` columns of each row."""
    columns = torch.arange(width, device=device)
    starts = width - torch.tensor(lengths, device=device)
    return (columns[None, :] >= starts[:, None]).long()
