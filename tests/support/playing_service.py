"""A service whose models play games. The name of a model says what it does:

hf_illegal...  never a legal action
hf_down...     every call fails
hf_nokey...    lacks its key: every call fails, and IsAvailable says why
hf_held...     waits while the file `hold` exists, then plays
all others     play a legal action; the same request always gets the same one

As a process: `python -m tests.support.playing_service LISTEN FOLDER`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from hashlib import blake2b
from pathlib import Path

from arena_llm.types import (
    Availability,
    Capability,
    Choices,
    Completion,
    CostBasis,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    Usage,
    to_picousd,
)
from services.common.errors import UpstreamUnavailable
from services.common.log import configure_logging
from services.common.server import run
from services.common.servicer import LlmServicer
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess
from tests.support.scripted import ScriptedBackend

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


class PlayingBackend(ScriptedBackend):
    fields = frozenset(f for f in ScriptedBackend.fields if not f.startswith("routing."))

    def __init__(self, folder: Path) -> None:
        super().__init__("hf")
        self._hold = folder / "hold"
        self._calls = (folder / "calls").open("a")
        self.models = [Model("hf_any", capabilities=(Capability.CHAT, Capability.CHOICES))]

    async def generate_response(self, request: GenerationRequest) -> Completion:
        async with self._tracked(request):
            asked = repr((request.model, request.session, request.input, request.constraint))
            number = int.from_bytes(blake2b(asked.encode(), digest_size=8).digest())
            print(request.model, number, file=self._calls, flush=True)
            if request.model.startswith(("hf_down", "hf_nokey")):
                raise UpstreamUnavailable("the provider is down")
            if request.model.startswith("hf_held"):
                await self._wait_for_release()
            usage = Usage(10, 2, cost_picousd=to_picousd("0.01"), cost_basis=CostBasis.BILLED)
            move = Message("assistant", _move(request, number))
            return Completion(move, FinishReason.STOP, usage)

    async def _wait_for_release(self) -> None:
        try:
            while self._hold.exists():  # noqa: ASYNC110 - another process removes it
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            print("cancelled", file=self._calls, flush=True)
            raise

    async def is_model_available(self, model: str) -> Availability:
        if model.startswith("hf_nokey"):
            return Availability(
                False, ModelState.MISCONFIGURED, "set THE_KEY", reason="API_KEY_MISSING"
            )
        return Availability(True, ModelState.READY)


def _move(request: GenerationRequest, number: int) -> str:
    if isinstance(request.constraint, Choices):
        return request.constraint.values[number % len(request.constraint.values)]
    legal = []
    if not request.model.startswith("hf_illegal"):
        prompt = "".join(message.text for message in request.messages)
        legal = [
            json.loads(text)
            for text in _STRING.findall(prompt.partition("Legal actions, one per line")[2])
        ]
    return json.dumps(
        {"reasoning": "it wins", "action": legal[number % len(legal)] if legal else "all of it"}
    )


class Player(ServiceProcess):
    """The service as a process, and the calls that it got."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        address = f"127.0.0.1:{free_ports(1)[0]}"
        super().__init__(address, "-m", "tests.support.playing_service", address, str(folder))

    def hold(self) -> None:
        """Make the held models wait."""
        (self._folder / "hold").touch()

    def release(self) -> None:
        (self._folder / "hold").unlink()

    def asked(self) -> Counter[str]:
        """The number of times that each call came; a key is the model and a hash of the call."""
        return Counter(line for line in self._lines() if line != "cancelled")

    def cancelled(self) -> int:
        """The number of calls of held models that ended because their caller left."""
        return self._lines().count("cancelled")

    def _lines(self) -> list[str]:
        return (self._folder / "calls").read_text().splitlines()


if __name__ == "__main__":
    configure_logging()
    listen, folder = sys.argv[1:]
    run(LlmServicer(PlayingBackend(Path(folder))), listen)
