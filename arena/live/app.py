"""The routes of the live page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from importlib.resources import files
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from arena.agents.settings import StrictModel
from arena.games.game import GameError
from arena.live.guard import Guard
from arena.live.play import OPPONENTS, OpenGames, PlayError, list_games
from arena.live.watch import Watcher
from arena_llm import ArenaError, AsyncClient

#: Streams that are open at the same time.
_MAX_STREAMS = 64
#: Bytes of a request's body.
_MAX_BODY = 4_096
#: Seconds to wait for the list of models.
_LIST_SECONDS = 10.0


class _Start(StrictModel):
    game: str
    seat: int
    opponent: str
    model: bool


class _Action(StrictModel):
    action: int
    request: int


def build_app(watcher: Watcher, games: OpenGames, client: AsyncClient, host: str) -> Starlette:
    """Return the application. host: the name or address that it listens on."""
    streams = 0

    def stream(events: AsyncGenerator[str, None]) -> Response:
        if streams >= _MAX_STREAMS:
            raise PlayError("too many pages are open", 503)

        async def counted() -> AsyncIterator[str]:
            nonlocal streams
            streams += 1
            try:
                async with aclosing(events):
                    async for event in events:
                        yield event
            finally:
                streams -= 1

        return StreamingResponse(counted(), media_type="text/event-stream")

    async def offer(_: Request) -> Response:
        known = [
            {"name": name, "title": game.title, "players": game.players}
            for name, game in list_games().items()
        ]
        return JSONResponse({"games": known, "opponents": list(OPPONENTS)})

    async def list_models(_: Request) -> Response:
        try:
            listed = await client.list_models(timeout=_LIST_SECONDS)
        except ArenaError as error:
            return PlainTextResponse(f"no models: {error}", 503)
        return JSONResponse([model.name for model in listed.models])

    async def watch(_: Request) -> Response:
        return stream(watcher.episodes.events())

    async def follow(request: Request) -> Response:
        return stream(watcher.follow(request.path_params["episode"]))

    async def start(request: Request) -> Response:
        wanted = _Start.model_validate_json(await _read_body(request))
        name = await games.start(wanted.game, wanted.seat, wanted.opponent, model=wanted.model)
        return JSONResponse({"id": name}, 201)

    async def see(request: Request) -> Response:
        return stream(games.find(request.path_params["id"]).feed.events())

    async def act(request: Request) -> Response:
        wanted = _Action.model_validate_json(await _read_body(request))
        games.find(request.path_params["id"]).act(wanted.action, wanted.request)
        return Response(status_code=204)

    routes = [
        Route("/", _serve("text/html", "live/assets/live.html")),
        Route("/live.css", _serve("text/css", "report/assets/report.css", "live/assets/live.css")),
        Route(
            "/live.js",
            _serve(
                "text/javascript",
                "report/assets/elements.js",
                "report/assets/boards.js",
                "live/assets/live.js",
            ),
        ),
        Route("/models", list_models),
        Route("/episodes", watch),
        Route("/episodes/{episode}", follow),
        Route("/games", offer, methods=["GET"]),
        Route("/games", start, methods=["POST"]),
        Route("/games/{id}", see),
        Route("/games/{id}/actions", act, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, host=host)],
        exception_handlers={
            PlayError: _refuse,
            GameError: _refuse,
            ValidationError: _refuse,
        },
    )


def _serve(kind: str, *names: str) -> Any:
    text = "\n".join(files("arena").joinpath(name).read_text(encoding="utf-8") for name in names)

    async def serve(_: Request) -> Response:
        return Response(text, media_type=kind)

    return serve


async def _read_body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise PlayError("the body is too long", 413)
    return body


def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, ValidationError):
        problems = (f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        return PlainTextResponse("; ".join(problems), 400)
    return PlainTextResponse(str(error), getattr(error, "status", 400))
