"""The kind `connections`: sockets that are slow, half open, broken, many, or speak nonsense."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable

from tests.torture.calls import PATIENCE, Caller, check_normal
from tests.torture.providers import expected_text, new_mark
from tests.torture.record import Record, bounded, repeat
from tests.torture.system import GATEWAY_SECONDS, TOKENS, System

WIDTH = 16
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Frames of HTTP/2: length, type, flags, stream.
_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def _address(system: System, name: str) -> tuple[str, int]:
    host, _, port = system.processes[name].address.rpartition(":")
    return host, int(port)


async def _open(system: System) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*_address(system, "gateway"))


def _request(dice: random.Random, model: str, *, streamed: bool) -> tuple[bytes, str]:
    """A whole HTTP request, and the honest answer to it."""
    mark = new_mark(dice)
    body = json.dumps(
        {"model": model, "stream": streamed, "max_tokens": 20,
         "messages": [{"role": "user", "content": f"Please repeat: {mark}"}]}
    ).encode()  # fmt: skip
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {TOKENS['door']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body, expected_text(mark)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def broken_off(system: System, dice: random.Random) -> str:
    """Send a part of a request, or all of it, and go: with a reset or without."""
    request, _ = _request(dice, dice.choice(system.models), streamed=dice.random() < 0.5)
    _, writer = await _open(system)
    writer.write(request[: dice.randrange(len(request) + 1)])
    await asyncio.sleep(dice.choice([0, 0.001, 0.02, 0.2]) * dice.random())
    if dice.random() < 0.5:
        _reset(writer)
    else:
        writer.close()
    return ""


async def slow(system: System, dice: random.Random) -> str:
    """Send a request so slowly that the gateway closes the connection, or answers."""
    request, text = _request(dice, dice.choice(system.models), streamed=False)
    reader, writer = await _open(system)
    try:
        half = dice.randrange(1, len(request))
        writer.write(request[:half])
        pause = dice.choice([0.1, 0.5, 4 * GATEWAY_SECONDS])
        await asyncio.sleep(pause)
        writer.write(request[half:])
        answer = await _read(reader)
        sent = json.dumps(text, ensure_ascii=False).encode()
        if pause < GATEWAY_SECONDS / 2 and sent not in answer:
            return f"after a pause of {pause} s: {answer[:300]!r}"
        if pause > GATEWAY_SECONDS and b"HTTP/1.1 200" in answer:
            return f"answered after a pause of {pause} s"
    finally:
        writer.close()
    return ""


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read one answer with a length, or until the connection ends."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        return head + await reader.readexactly(int(lengths[0].split(b":")[1]))
    except (asyncio.IncompleteReadError, ConnectionError, IndexError):
        return b""


async def pipelined(system: System, dice: random.Random) -> str:
    """Send several requests together on one connection: the answers come in their order."""
    pairs = [_request(dice, dice.choice(system.models), streamed=False) for _ in range(4)]
    reader, writer = await _open(system)
    try:
        writer.write(b"".join(request for request, _ in pairs))
        for _, text in pairs:
            answer = await _read(reader)
            body = json.loads(answer.partition(b"\r\n\r\n")[2])
            if body["choices"][0]["message"]["content"] != text:
                return f"{body}, and the provider meant {text!r}"
    finally:
        writer.close()
    return ""


async def unread(system: System, dice: random.Random) -> str:
    """Ask for streams, and read nothing of them."""
    request, _ = _request(dice, dice.choice(system.models), streamed=True)
    _, writer = await asyncio.open_connection(*_address(system, "gateway"), limit=64)
    writer.write(request)
    await asyncio.sleep(dice.random())
    _reset(writer)
    return ""


async def nonsense(system: System, dice: random.Random) -> str:
    """Send bytes of another protocol to a port."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(200)
    spoken = [
        dice.randbytes(3_000), hello, b"GET / HTTP/1.0\r\n\r\n", b"\r\n" * 1_000, b"\x00" * 10_000,
        b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n" + b"X: y\r\n" * 5_000, b"GET /" + b"a" * 200_000,
        _PREFACE + dice.randbytes(2_000), _PREFACE + _SETTINGS * 3_000,
        _PREFACE + _SETTINGS + _frame(1, 4, 1, dice.randbytes(500)),  # headers that are none
        _PREFACE + _SETTINGS + _frame(9, 0, 1, b"\x00" * 16_000) * 20,  # continuations of nothing
        _PREFACE + _SETTINGS + b"".join(_frame(3, 0, 2 * n + 1, b"\x00" * 4) for n in range(2_000)),
        _PREFACE + _SETTINGS + _frame(6, 0, 0, b"\x00" * 8) * 2_000,  # pings
        _PREFACE + _SETTINGS + _frame(8, 0, 0, b"\x7f\xff\xff\xff") * 10,  # windows that overflow
        _PREFACE + b"\xff\xff\xff\x04\x00\x00\x00\x00\x00" + b"\x00" * 60_000,
    ]  # fmt: skip
    name = dice.choice(["router", "gateway", "litellm", "openrouter-0"])
    _, writer = await asyncio.open_connection(*_address(system, name))
    try:
        writer.write(dice.choice(spoken))
        await asyncio.sleep(dice.choice([0, 0.01, 0.3]))
    finally:
        if dice.random() < 0.5:
            _reset(writer)
        else:
            writer.close()
    return ""


async def idle(system: System, dice: random.Random) -> str:
    """Open many connections, and say nothing on them."""
    name = dice.choice(["router", "gateway"])
    opened = []
    for _ in range(60):
        opened.append(await asyncio.open_connection(*_address(system, name)))
    await asyncio.sleep(dice.random())
    for _, writer in opened:
        _reset(writer)
    return ""


_ALL: tuple[Callable[[System, random.Random], Awaitable[str]], ...] = (
    *(broken_off, broken_off, slow, pipelined, unread, nonsense, nonsense, nonsense, idle),
)


async def torture(caller: Caller, record: Record, seconds: float) -> None:
    """Open hostile connections until the time is over, beside calls that must be right."""

    async def attempt(dice: random.Random) -> None:
        make = dice.choice(_ALL)
        name = make.__name__.replace("_", " ")
        try:
            problem = await bounded(record, name, PATIENCE, make(caller.system, dice))
        except (ConnectionError, OSError):
            problem = ""  # the other side has closed it
        if problem:
            record.fail(name, problem)
        elif problem is not None:
            record.answered(name)

    async def call() -> None:
        while True:
            await check_normal(caller, record, "beside hostile connections")
            await asyncio.sleep(0.5)

    calling = asyncio.create_task(call())
    await repeat(record, seconds, WIDTH, attempt)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
