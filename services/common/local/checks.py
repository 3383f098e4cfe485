"""Checks that every local engine needs: model folders, constraints, and computed numbers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from arena_llm.types import Constraint, JsonSchema
from services.common.errors import InvalidRequest, ModelMisconfigured

#: The largest allowed least common multiple of a schema's `multipleOf` values. A grammar for
#: multiples of n has n states: 10,000 take 0.05 s to compile, 300,000 take 3 s.
MAX_MULTIPLE = 10_000

EMBEDDED_NAME = "smollm2-135m-instruct"


def embedded_folder() -> Path:
    """The folder of the embedded model: $ARENA_CACHE_DIR/models/..., default ./.cache/models/..."""
    return Path(os.environ.get("ARENA_CACHE_DIR") or ".cache") / "models" / EMBEDDED_NAME


def check_model_folder(name: str, folder: Path) -> None:
    """Raise ModelMisconfigured unless the folder has a config.json."""
    if (folder / "config.json").is_file():
        return
    fix = "correct its model_path"
    if folder.absolute() == embedded_folder().absolute():
        fix = "run `make up`, which prepares the embedded model"
    raise ModelMisconfigured(
        f"{name}: model_path {folder.absolute()} is not a model folder, because it has no "
        f"config.json: {fix}"
    )


#: torch's names of types -> the usual short ones.
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def describe_precision(dtype: object, quantization: str | None = None) -> str:
    """The precision of weights, such as "bf16". quantization: the method, if they have one."""
    name = str(dtype).removeprefix("torch.")
    return quantization or _PRECISIONS.get(name, name)


def read_revision(folder: Path) -> str:
    """The commit of a folder of the hub's cache; empty for another folder."""
    folder = folder.absolute()
    return folder.name if folder.parent.name == "snapshots" else ""


def constraint_field(constraint: Constraint | None) -> str:
    """The request field to name in an error: the constraint's, or "config" without one."""
    return "config" if constraint is None else f"constraint.{constraint.kind}"


def check_schema_cost(schema: str) -> None:
    """Raise InvalidRequest for a JSON schema that is not JSON or blocks the service for seconds."""
    field = constraint_field(JsonSchema(schema))
    multiples: list[int] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        multiples.extend(
            value for name, value in pairs if name == "multipleOf" and isinstance(value, int)
        )

    try:
        json.loads(schema, object_pairs_hook=collect)
    except RecursionError:
        pass  # the engine refuses it
    except ValueError as error:
        raise InvalidRequest(f"{field} is not JSON: {error}", field=field) from error
    if math.lcm(*(multiple for multiple in multiples if multiple > 0)) > MAX_MULTIPLE:
        raise InvalidRequest(
            f"{field} has multipleOf with a least common multiple over {MAX_MULTIPLE}: leave "
            "it out, and check the number in the reply",
            field=field,
        )


def make_not_finite_error(model: str) -> ModelMisconfigured:
    """The error of a call whose logits have NaN or infinity."""
    return ModelMisconfigured(
        f"{model} computes NaN or infinity in place of probabilities: its weights are damaged, or "
        "they overflow in float16; fetch them again, or set a dtype of bfloat16 or float32"
    )


def check_sums(model: str, sums: Sequence[float]) -> None:
    """Raise ModelMisconfigured for a log-probability of NaN or +inf.

    A model that excludes a token correctly gives it -inf.
    """
    if any(math.isnan(logprob) or logprob == math.inf for logprob in sums):
        raise make_not_finite_error(model)
