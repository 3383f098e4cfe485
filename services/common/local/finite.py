"""Refuse NaN and infinity in the results of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.common.errors import InvalidRequest, ModelMisconfigured


def not_finite(model: str) -> ModelMisconfigured:
    """The error of a call whose logits have NaN or infinity."""
    return ModelMisconfigured(
        f"{model} computes NaN or infinity in place of probabilities: its weights are damaged, or "
        "they overflow in float16; fetch them again, or set a dtype of bfloat16 or float32"
    )


def check_sums(model: str, sums: Sequence[float]) -> None:
    """Raise for the first log-probability that is not finite.

    -inf is correct where the model itself excludes a token, but callers compute with scores, so
    it is refused too.
    """
    for index, logprob in enumerate(sums):
        if logprob == -math.inf:
            field = f"continuations[{index}]"
            raise InvalidRequest(
                f"{field} has a token to which {model} gives the probability 0", field=field
            )
        if not math.isfinite(logprob):
            raise not_finite(model)
