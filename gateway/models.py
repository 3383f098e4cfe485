"""/v1/models, and whether the router can be reached."""

from __future__ import annotations

from typing import Any

from arena_llm import ArenaError, UnauthenticatedError
from arena_llm.types import Model
from gateway.endpoint import Endpoint, Upstream
from gateway.errors import ApiError
from gateway.exchange import HttpExchange
from services.common.addresses import is_loopback
from services.common.call import CallRecord

#: Seconds to wait for the router.
_SECONDS = 5.0


class ModelsEndpoint(Endpoint):
    """/v1/models."""

    rpc = "models"

    async def handle(self, exchange: HttpExchange, record: CallRecord) -> None:
        client = self.upstream.find_client(exchange)
        found = await exchange.run(client.list_models())
        if found.unreachable:
            names = ", ".join(each.backend for each in found.unreachable)
            exchange.add_header("arena-unreachable", names)
        await exchange.answer(200, {"object": "list", "data": list(map(to_model, found.models))})


class ModelEndpoint(Endpoint):
    """/v1/models/NAME."""

    rpc = "models"

    async def handle(self, exchange: HttpExchange, record: CallRecord) -> None:
        client = self.upstream.find_client(exchange)
        name = exchange.path_params["model"]
        found = await exchange.run(client.is_available(name))
        if not found.available:
            raise ApiError(
                404, f"this model cannot be used now: {found.detail}",
                code="model_not_found", param="model", reason=found.reason or "MODEL_NOT_FOUND",
            )  # fmt: skip
        await exchange.answer(200, to_model(found.model or Model(name)))


def to_model(model: Model) -> dict[str, Any]:
    """Return a model in OpenAI's form. Its creation time is not known."""
    written = {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": model.backend or "arena-llm",
    }
    if model.context_length:
        written["max_model_len"] = model.context_length
    return written


async def find_problem(upstream: Upstream) -> str:
    """Return why calls cannot be answered now; "" if they can."""
    config = upstream.config
    try:
        status = await upstream.client.health(timeout=_SECONDS)
    except UnauthenticatedError:  # the router shows its health only to callers with a token
        status = "SERVING"
    except ArenaError as error:
        return error.message
    if status != "SERVING":
        return f"the router at {config.router} is {status}"
    if config.require_token and not config.insecure and not is_loopback(config.listen):
        try:
            await upstream.client.service_info(timeout=_SECONDS)
        except UnauthenticatedError:
            return ""
        except ArenaError as error:
            return error.message
        return f"require_token: the router at {config.router} has no tokens, and checks none"
    return ""
