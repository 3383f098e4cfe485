"""Text that can be sent: gRPC's strings are UTF-8."""

from __future__ import annotations


def utf8(text: str) -> str:
    """The text; a surrogate pair becomes its character, a lone surrogate U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
