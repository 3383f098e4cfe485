"""A key-value cache that rows join and leave at any step.

All rows end at the same column and are padded on the left, which is the layout that
`generate` gives to every decoder-only model, so positions, sliding windows and
relative biases hold without knowing the architecture:

    column   start             end
    row 0    . . . k k k k k k |        a step writes column `end` of every row and
    row 1    k k k k k k k k k |        moves `end`; a row that leaves is overwritten
    row 2    . . . . . . k k k |        by the last one.

Unlike transformers' DynamicCache nothing is reallocated at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

#: Columns are allocated in multiples of this.
_STRIDE = 128


class Window:
    """The rows and columns in use, shared by all layers of one cache."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.end = 0

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
        raise AssertionError("rows are inserted before the first update")

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the step's column and give the window with it."""
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

    def arrange(self, rows: int, columns: int, live: slice, new_start: int) -> None:
        """Make room for rows x columns and move the live columns to `new_start`."""
        if not self._keys.numel():
            return
        count = len(self._window.lengths)
        self._keys = _moved(self._keys, rows, columns, count, live, new_start)
        self._values = _moved(self._values, rows, columns, count, live, new_start)

    def insert(
        self, keys: torch.Tensor, values: torch.Tensor, row: int, room: tuple[int, int], end: int
    ) -> None:
        """Copy one row's [heads, length, head size] so that it ends at column `end`."""
        if not self._keys.numel():
            self._keys = keys.new_zeros((room[0], keys.shape[0], room[1], keys.shape[2]))
            self._values = values.new_zeros((room[0], values.shape[0], room[1], values.shape[2]))
        self._keys[row, :, end - keys.shape[1] : end] = keys
        self._values[row, :, end - values.shape[1] : end] = values

    def copy_row(self, source: int, target: int, live: slice) -> None:
        """Overwrite one row by another."""
        self._keys[target, :, live] = self._keys[source, :, live]
        self._values[target, :, live] = self._values[source, :, live]

    def expose(self) -> None:
        """Set `keys` and `values`, which cross-attention reads, to the window."""
        rows, live = len(self._window.lengths), slice(self._window.start, self._window.end)
        self.keys, self.values = self._keys[:rows, :, live], self._values[:rows, :, live]


def _moved(
    old: torch.Tensor, rows: int, columns: int, count: int, live: slice, new_start: int
) -> torch.Tensor:
    new = old
    if rows > old.shape[0] or columns > old.shape[2]:
        new = old.new_zeros((max(rows, old.shape[0]), old.shape[1], columns, old.shape[3]))
    part = old[:count, :, live]
    # A copy first where both lie in one tensor and may overlap.
    part = part.clone() if new is old else part
    new[:count, :, new_start : new_start + part.shape[2]] = part
    return new


class WindowCache(Cache):
    """The cache of a running batch. Not safe for threads: one engine owns it."""

    def __init__(self) -> None:
        self.window = Window()
        self._rows = self._columns = 0
        self._layers: list[WindowLayer] = []
        super().__init__(layers=[])

    def insert(self, source: Cache, row: int, length: int) -> None:
        """Add a row: the last `length` columns of one row of another cache."""
        window = self.window
        self._reserve(len(window.lengths) + 1, length)
        if not self._layers:
            self._layers = [WindowLayer(window) for _ in source.layers]
            self.layers = list(self._layers)
        for layer, other in zip(self._layers, source.layers, strict=True):
            keys: Any = other.keys  # type: ignore[union-attr] # full attention, as prefilled
            values: Any = other.values  # type: ignore[union-attr]
            at = len(window.lengths)
            room = (self._rows, self._columns)
            layer.insert(keys[row, :, -length:], values[row, :, -length:], at, room, window.end)
        window.lengths.append(length)

    def remove(self, row: int) -> None:
        """Drop a row; the last one takes its place."""
        window, last = self.window, len(self.window.lengths) - 1
        if row != last:
            for layer in self._layers:
                layer.copy_row(last, row, slice(window.end - window.lengths[last], window.end))
            window.lengths[row] = window.lengths[last]
        window.lengths.pop()

    def advance(self) -> None:
        """Count the column that the last forward pass wrote, and make room for one more."""
        window = self.window
        window.lengths[:] = [length + 1 for length in window.lengths]
        window.end += 1
        self._reserve(len(window.lengths), 0)

    def expose(self) -> None:
        """Let cross-attention read the window as it is now."""
        for layer in self._layers:
            layer.expose()

    def mask(self, device: torch.device, extra: int = 0) -> torch.Tensor | None:
        """[rows, width + extra] of 1 where a row has a key; None where all have all."""
        lengths, width = self.window.lengths, self.window.width
        if all(length == width for length in lengths):
            return None
        return left_padded_mask([n + extra for n in lengths], width + extra, device)

    def _reserve(self, rows: int, new_length: int) -> None:
        """See that `rows` rows fit, and one of `new_length`, and one more column."""
        window = self.window
        end = max(window.width, new_length)
        if rows <= self._rows and end <= window.end < self._columns:
            return
        if rows > self._rows:
            self._rows = max(rows, self._rows * 2)
        # Half as much again, so that a window that grows by one column a step is
        # moved seldom.
        roomy = (end + 1) * 3 // 2
        if roomy > self._columns:
            self._columns = -(-roomy // _STRIDE) * _STRIDE
        live = slice(window.start, window.end)
        for layer in self._layers:
            layer.arrange(self._rows, self._columns, live, end - window.width)
        window.end = end


def left_padded_mask(lengths: Sequence[int], width: int, device: torch.device) -> torch.Tensor:
    """[rows, width] with 1 in the last `lengths[row]` columns of each row."""
    columns = torch.arange(width, device=device)
    starts = width - torch.tensor(lengths, device=device)
    return (columns[None, :] >= starts[:, None]).long()
