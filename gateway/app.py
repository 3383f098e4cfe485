"""The routes of the gateway."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.endpoint import ChatEndpoint, CompletionEndpoint, EmbeddingsEndpoint, Upstream
from gateway.errors import ApiError
from gateway.models import ModelEndpoint, ModelsEndpoint, find_problem
from gateway.openapi import build_document


def build_app(upstream: Upstream) -> ASGIApp:
    """Return the application."""

    async def health(_: Request) -> Response:
        return _answer(200, {"status": "ok"})

    async def ready(_: Request) -> Response:
        problem = await find_problem(upstream)
        return _answer(503 if problem else 200, {"status": problem or "ok"})

    async def document(_: Request) -> Response:
        return _answer(200, build_document())

    chat, completion = ChatEndpoint(upstream), CompletionEndpoint(upstream)
    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completion, methods=["POST"]),
        Route("/v1/embeddings", EmbeddingsEndpoint(upstream), methods=["POST"]),
        Route("/v1/models", ModelsEndpoint(upstream), methods=["GET"]),
        Route("/v1/models/{model:path}", ModelEndpoint(upstream), methods=["GET"]),
        Route("/health", health),
        Route("/ready", ready),
        Route("/openapi.json", document),
    ]
    routed = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    # A redirection from /v1/models/ to /v1/models would have no error object.
    routed.router.redirect_slashes = False
    # Starlette takes 50 us to find a route, a tenth of a call.
    direct = {"/v1/chat/completions": chat, "/v1/completions": completion}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = direct.get(scope["path"]) if scope["method"] == "POST" else None
        await (endpoint or routed)(scope, receive, send)

    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a path or a method that the gateway does not have."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as registered
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    text = "this gateway does not have this method or path: see /openapi.json"
    body = ApiError(error.status_code, text, code=code).body
    return _answer(error.status_code, body, error.headers)


def _answer(status: int, body: Any, headers: Any = None) -> Response:
    return Response(to_json(body), status, headers, "application/json")
