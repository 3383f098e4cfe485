"""Only the page's own requests are answered."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Message

from arena.live.guard import Guard
from arena_llm.connection import is_loopback

HOST = "127.0.0.1:50081"
OWN = {"origin": f"http://{HOST}", "content-type": "application/json"}


async def send(method: str, **headers: str) -> tuple[int, Headers]:
    """Return the status and the headers of the answer."""
    sent: list[Message] = []

    async def collect(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "headers": raw}
    await Guard(PlainTextResponse("fine"), "arena.example")(scope, receive, collect)
    return sent[0]["status"], Headers(raw=sent[0]["headers"])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (HOST, 200),
        ("localhost:8000", 200),  # through a tunnel
        ("[::1]:50081", 200),
        ("arena.example:50081", 200),
        ("rebound.example:50081", 403),
        ("", 403),
        ("[", 403),
    ],
)
async def test_the_host_is_an_address_or_our_name(host: str, status: int) -> None:
    assert (await send("GET", host=host))[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN, 200),
        ({**OWN, "origin": "http://127.0.0.1:8000"}, 403),
        ({**OWN, "origin": "null"}, 403),
        ({"content-type": "application/json"}, 403),
        ({**OWN, "content-type": "text/plain"}, 403),  # what a form of another site can send
    ],
)
async def test_a_change_needs_the_pages_own_origin(headers: dict[str, str], status: int) -> None:
    answered, own = await send("POST", host=HOST, **headers)
    assert answered == status
    assert "default-src 'none'" in own["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x", False)],  # noqa: S104 - not used
)
def test_loopback(host: str, own: bool) -> None:
    assert is_loopback(host) == own
