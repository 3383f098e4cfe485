"""How much of a provider's answer is read: an endless one must not fill the memory."""

from __future__ import annotations

from services.common.errors import UpstreamUnavailable

#: Bytes of a failure's body. The rest is not read: the status says enough.
MAX_ERROR_BYTES = 64 * 1024


def check_size(size: int, most: int, setting: str) -> None:
    """Raise UpstreamUnavailable where `size` bytes are over `most`, the value of `setting`."""
    if size > most:
        raise UpstreamUnavailable(
            f"the provider's answer is longer than {setting} allows ({most} bytes)"
        )
