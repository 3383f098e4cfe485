"""How many tokens a model can read, from its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.local.checks import CONTEXT_LENGTH_KEYS
from services.hf.config import HfModel

#: Rotary embeddings that change for all tokens once a text is longer than the original length. A
#: key then depends on tokens after it: a cached key, or one of a shorter text in the same pass,
#: would be wrong. So these models read texts up to the original length.
_LENGTH_DEPENDENT = frozenset({"longrope", "su", "dynamic"})
#: Those whose `factor` multiplies the context length. For others, the length includes it.
_SCALED = frozenset({"linear", "yarn"})


def read_context_length(entry: HfModel, config: Any) -> int | None:
    """The model's context length in tokens, or the entry's if that is smaller."""
    text_config = config.get_text_config(decoder=True)
    configured = [getattr(text_config, key, None) for key in CONTEXT_LENGTH_KEYS]
    lengths = [length for length in configured if isinstance(length, int) and length > 0]
    length = min(lengths, default=None)
    if length is not None:
        length = _scale(length, text_config)
    known = (known for known in (length, entry.context_length) if known is not None)
    return min(known, default=None)


def _scale(length: int, config: Any) -> int:
    """The context length with the scaling of the rotary embeddings (rope_scaling)."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(rope, Mapping):
        return length
    if any(isinstance(part, Mapping) for part in rope.values()):
        # Each type of layer has its own scaling. The length in config.json applies to all of them.
        layers = [part for part in rope.values() if isinstance(part, Mapping)]
        return min(_limit(length, part, config) for part in layers)
    kind = _kind(rope)
    if kind not in _SCALED:
        return _limit(length, rope, config)
    original = rope.get("original_max_position_embeddings") if kind == "yarn" else None
    return int((original or length) * rope.get("factor", 1.0))


def _limit(length: int, rope: Mapping[str, Any], config: Any) -> int:
    """The length up to which the embeddings of a token depend on its position alone."""
    if _kind(rope) not in _LENGTH_DEPENDENT:
        return length
    key = "original_max_position_embeddings"
    return min(length, rope.get(key) or getattr(config, key, None) or length)


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")
