"""Models and their availability to and from the wire."""

from __future__ import annotations

from collections.abc import Iterable

from arena_llm.types import (
    Availability,
    Capability,
    Credits,
    EngineLoad,
    Model,
    ModelList,
    ModelState,
    Price,
    UnreachableBackend,
)
from arena_llm.v1 import models_pb2

_STATES = {
    ModelState.READY: models_pb2.MODEL_STATE_READY,
    ModelState.LOADING: models_pb2.MODEL_STATE_LOADING,
    ModelState.NOT_LOADED: models_pb2.MODEL_STATE_NOT_LOADED,
    ModelState.MISCONFIGURED: models_pb2.MODEL_STATE_MISCONFIGURED,
    ModelState.UNKNOWN: models_pb2.MODEL_STATE_UNKNOWN,
}
_STATE_NAMES = {number: state for state, number in _STATES.items()}

_CAPABILITY_NAMES = {
    models_pb2.Capability.Value(f"CAPABILITY_{capability.name}"): capability
    for capability in Capability
}


def _unreachable_to_proto(
    unreachable: Iterable[UnreachableBackend],
) -> list[models_pb2.UnreachableBackend]:
    return [
        models_pb2.UnreachableBackend(backend=u.backend, address=u.address, detail=u.detail)
        for u in unreachable
    ]


def _unreachable_from_proto(
    protos: Iterable[models_pb2.UnreachableBackend],
) -> tuple[UnreachableBackend, ...]:
    return tuple(UnreachableBackend(u.backend, u.address, u.detail) for u in protos)


def _price_to_proto(price: Price | None) -> models_pb2.Price | None:
    if price is None:
        return None
    return models_pb2.Price(prompt_usd=price.prompt_usd, completion_usd=price.completion_usd)


def _price_from_proto(
    proto: models_pb2.ModelInfo | models_pb2.IsAvailableResponse,
) -> Price | None:
    if not proto.HasField("price"):
        return None
    return Price(proto.price.prompt_usd, proto.price.completion_usd)


def availability_to_proto(availability: Availability) -> models_pb2.IsAvailableResponse:
    """A model's availability to the wire."""
    proto = models_pb2.IsAvailableResponse(
        available=availability.available,
        state=_STATES[availability.state],
        detail=availability.detail,
        warnings=availability.warnings,
        reason=availability.reason,
        unreachable=_unreachable_to_proto(availability.unreachable),
        price=_price_to_proto(availability.price),
    )
    if (credit := availability.credits) is not None:
        proto.credits.CopyFrom(
            models_pb2.Credits(
                balance_usd=credit.balance_usd, limit_remaining_usd=credit.limit_remaining_usd
            )
        )
    if (load := availability.load) is not None:
        proto.load.CopyFrom(
            models_pb2.EngineLoad(
                running=load.running, waiting=load.waiting, generated_tokens=load.generated_tokens
            )
        )
    return proto


def availability_from_proto(proto: models_pb2.IsAvailableResponse) -> Availability:
    """A model's availability from the wire."""
    credit, load = proto.credits, proto.load
    return Availability(
        available=proto.available,
        state=_STATE_NAMES.get(proto.state, ModelState.UNKNOWN),
        detail=proto.detail,
        warnings=tuple(proto.warnings),
        credits=Credits(
            credit.balance_usd if credit.HasField("balance_usd") else None,
            credit.limit_remaining_usd if credit.HasField("limit_remaining_usd") else None,
        )
        if proto.HasField("credits")
        else None,
        load=EngineLoad(load.running, load.waiting, load.generated_tokens)
        if proto.HasField("load")
        else None,
        reason=proto.reason,
        unreachable=_unreachable_from_proto(proto.unreachable),
        price=_price_from_proto(proto),
    )


def models_to_proto(models: ModelList) -> models_pb2.ListModelsResponse:
    """A list of models to the wire."""
    return models_pb2.ListModelsResponse(
        models=[
            models_pb2.ModelInfo(
                name=m.name,
                backend=m.backend,
                description=m.description,
                context_length=m.context_length,
                capabilities=[f"CAPABILITY_{c.name}" for c in m.capabilities],
                price=_price_to_proto(m.price),
            )
            for m in models.models
        ],
        unreachable=_unreachable_to_proto(models.unreachable),
    )


def models_from_proto(proto: models_pb2.ListModelsResponse) -> ModelList:
    """A list of models from the wire."""
    return ModelList(
        models=tuple(
            Model(
                name=m.name,
                backend=m.backend,
                description=m.description,
                context_length=m.context_length if m.HasField("context_length") else None,
                capabilities=tuple(
                    _CAPABILITY_NAMES[c] for c in m.capabilities if c in _CAPABILITY_NAMES
                ),
                price=_price_from_proto(m),
            )
            for m in proto.models
        ),
        unreachable=_unreachable_from_proto(proto.unreachable),
    )
