"""Numbers that are no answer: NaN and infinities among what a model computes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.common.errors import InvalidRequest, ModelMisconfigured


def not_finite(model: str) -> ModelMisconfigured:
    """The error of a call whose logits are not numbers."""
    return ModelMisconfigured(
        f"{model} computes NaN or infinity in place of probabilities: its weights are damaged, or "
        "they overflow in float16; fetch them again, or set a dtype of bfloat16 or float32"
    )


def check_sums(model: str, sums: Sequence[float]) -> None:
    """Raise where a continuation's log-probability cannot be reported.

    -inf is a correct sum, of a token that the model itself excludes. It is refused too, because
    callers compute with scores.
    """
    for index, logprob in enumerate(sums):
        if logprob == -math.inf:
            field = f"continuations[{index}]"
            raise InvalidRequest(
                f"{field} has a token to which {model} gives the probability 0", field=field
            )
        if not math.isfinite(logprob):
            raise not_finite(model)
