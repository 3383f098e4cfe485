"""Callers who leave, who are slow, who send too much, and who must say who they are."""

from __future__ import annotations

import asyncio
import json
import ssl
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from arena_llm.types import Delta, Progress, ProgressState
from deploy.certificates import make_certificates
from gateway.config import GatewayConfig
from router.routing import MAX_HOPS
from services.common import errors
from services.common.hops import HOPS_HEADER
from tests.support.scripted import hang
from tests.support.waiting import eventually
from tests.unit.gateway.conftest import MESSAGES, OpenDoor, Opener

BODY = {"model": "hf_model", "messages": MESSAGES}


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"n": 2}])
async def test_a_caller_that_leaves_ends_the_work(door: OpenDoor, more: dict[str, object]) -> None:
    door.backend.default = hang
    call = asyncio.create_task(door.post(**more))
    await eventually(lambda: door.backend.running)
    call.cancel()
    await eventually(lambda: not door.backend.running)
    assert set(door.backend.ended) == {"CancelledError"}


async def test_an_error_before_the_first_piece_has_a_status_and_a_later_one_is_an_event(
    door: OpenDoor,
) -> None:
    door.backend.enqueue([Progress(ProgressState.QUEUED), errors.Overloaded("full")])
    status, _, answer = await door.post(stream=True)
    assert (status, answer["error"]["code"]) == (503, "overloaded")
    door.backend.enqueue([Delta(text="a"), errors.UpstreamUnavailable("broken")])
    async with door.session.post(
        f"{door.url}/v1/chat/completions", json={**BODY, "stream": True}
    ) as answer:
        events = (await answer.text()).strip().split("\n\n")
    assert answer.status == 200
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "upstream_unavailable"


async def test_a_slow_head_a_slow_body_and_an_endless_head_lose_their_connection(
    open_door: Opener,
) -> None:
    async with open_door(head_seconds=0.2, body_seconds=0.2) as door:
        begin = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        slow_body = begin + b"Content-Length: 100\r\n\r\n{"
        for start in (b"", begin, slow_body):
            reader, writer = await asyncio.open_connection(*split(door.server.address))
            writer.write(start)
            assert await _read_to_end(reader) == b""
            writer.close()
        reader, writer = await asyncio.open_connection(*split(door.server.address))
        writer.write(begin + b"x: " + b"y" * 200_000)
        await _read_to_end(reader)
        writer.close()
        assert not door.backend.history
        # A connection that has answered may be idle for longer.
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(f"{door.url}/v1/chat/completions", json=BODY) as answer:
                    assert answer.status == 200
                await asyncio.sleep(0.3)


async def test_a_body_that_comes_after_its_answer_does_not_cost_the_connection(
    open_door: Opener,
) -> None:
    """A caller keeps it, and its next request would fail."""
    async with open_door(head_seconds=0.2) as door:
        reader, writer = await asyncio.open_connection(*split(door.server.address))
        for path, status in (("unknown", b"404"), ("unknown", b"404"), ("models", b"405")):
            body = b"x" * 100_000
            head = f"POST /v1/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split()[1] == status
            length = answer.lower().partition(b"content-length: ")[2].split()[0]
            await reader.readexactly(int(length))
            writer.write(body)
            with pytest.raises(TimeoutError):  # nothing comes, and the connection stays open
                await asyncio.wait_for(reader.read(1), 0.5)
        writer.close()


async def test_empty_lines_without_end_lose_their_connection(open_door: Opener) -> None:
    async with open_door(head_seconds=0.2) as door:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*split(door.server.address))
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\r\n")
            await _read_to_end(reader)
            writer.close()


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""


async def test_a_caller_that_does_not_read_loses_its_connection(open_door: Opener) -> None:
    async with open_door(write_seconds=0.2) as door:
        piece = Delta(text="x" * 1_000_000)
        door.backend.enqueue([piece] * 30)
        reader, writer = await asyncio.open_connection(*split(door.server.address), limit=1024)
        body = json.dumps({**BODY, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await eventually(lambda: door.backend.ended)
        assert door.backend.ended != ["done"]
        writer.close()
        assert not reader.at_eof()


@pytest.mark.parametrize("hops", ["\u00b2", "9" * 5_000, "-1"])
async def test_hops_that_are_no_number_count_for_none(door: OpenDoor, hops: str) -> None:
    reader, writer = await asyncio.open_connection(*split(door.server.address))
    body = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\narena-hops: {hops}\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode("latin-1") + body)
    assert b"HTTP/1.1 200" in await _read_to_end(reader)
    writer.close()


async def test_a_body_that_is_too_large_is_refused(open_door: Opener) -> None:
    async with open_door(max_body_bytes=2000) as door:
        for chunked in (False, True):
            data = json.dumps({**BODY, "user": "x" * 3000}).encode()

            async def pieces(data: bytes = data) -> object:
                yield data

            async with door.session.post(
                f"{door.url}/v1/chat/completions", data=pieces() if chunked else data
            ) as answer:
                assert answer.status == 413
                assert (await answer.json())["error"]["code"] == "request_too_large"


async def test_calls_and_connections_are_bounded(open_door: Opener) -> None:
    async with open_door(max_calls_in_flight=1, max_connections=2) as door:
        door.backend.enqueue(hang)
        waiting = asyncio.create_task(door.post())
        await eventually(lambda: door.backend.running)
        status, headers, _ = await door.post()
        assert (status, headers["retry-after"]) == (503, "1")
        reader, writer = await asyncio.open_connection(*split(door.server.address))
        assert await _read_to_end(reader) == b""
        writer.close()
        waiting.cancel()
        await eventually(lambda: not door.backend.running)


async def test_the_routers_token_is_the_bearer(open_door: Opener, tmp_path: Path) -> None:
    token = "a-token-of-a-caller"  # noqa: S105 - of this test only
    entry = {"sha256": sha256(token.encode()).hexdigest()}
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(json.dumps({"tokens": {"ann": entry}}))
    usage = tmp_path / "usage.sqlite"
    async with open_door(tokens=tokens, usage=usage, require_token=True) as door:
        assert (await door.post(headers={"Authorization": f"Bearer {token}"}))[0] == 200
        for wrong in (None, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {token}"}):
            status, _, answer = await door.post(headers=wrong)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


async def test_a_call_that_goes_in_a_circle_is_refused(door: OpenDoor) -> None:
    assert (await door.post(headers={HOPS_HEADER: str(MAX_HOPS - 1)}))[0] == 200
    status, _, answer = await door.post(headers={HOPS_HEADER: str(MAX_HOPS)})
    assert (status, answer["error"]["code"]) == (400, "route_loop")


async def test_it_is_ready_when_its_router_is(open_door: Opener) -> None:
    async with open_door() as door:
        for path in ("/health", "/ready"):
            async with door.session.get(door.url + path) as answer:
                assert answer.status == 200
    async with open_door(router="127.0.0.1:1") as door:
        async with door.session.get(f"{door.url}/health") as answer:
            assert answer.status == 200
        async with door.session.get(f"{door.url}/ready") as answer:
            assert answer.status == 503
        status, _, answer = await door.post()
        assert (status, answer["error"]["code"]) == (503, "unreachable")


async def test_certificates_and_limits_change_while_it_runs(
    open_door: Opener, tmp_path: Path
) -> None:
    make_certificates(tmp_path, [])
    tls = {"certificate": tmp_path / "server.crt", "key": tmp_path / "server.key"}
    trusted = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    async with open_door(tls=tls) as door:
        url = f"https://localhost:{split(door.server.address)[1]}"

        async def serial() -> object:
            _, writer = await asyncio.open_connection(
                *split(door.server.address), ssl=trusted, server_hostname="localhost"
            )
            try:
                return writer.get_extra_info("peercert")["serialNumber"]
            finally:
                writer.close()

        async with door.session.post(
            f"{url}/v1/chat/completions", json=BODY, ssl=trusted
        ) as answer:
            assert answer.status == 200
        before = await serial()
        make_certificates(tmp_path, [])  # the same authority
        new = GatewayConfig.model_validate(
            {"listen": "127.0.0.1:0", "tls": tls, "max_body_bytes": 1024, "router": "127.0.0.1:1"}
        )
        await door.server.reconfigure(new)
        assert await serial() != before
        big = {**BODY, "user": "x" * 1024}
        async with door.session.post(f"{url}/v1/chat/completions", json=big, ssl=trusted) as answer:
            assert answer.status == 413
