"""One call to the tortured system, by gRPC or HTTP, and what may come back."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from typing import Any

import aiohttp

from arena_llm import ArenaError
from arena_llm.types import Completion
from tests.torture.providers import Plan, be_honest, expected_text, new_mark
from tests.torture.record import Record, bounded
from tests.torture.system import TOKENS, System

#: Seconds in which each call must have an outcome. Its deadline is 60 seconds.
PATIENCE = 75.0
MAX_TOKENS = 900


class Answer:
    """The outcome of a call: a text, or the reason of an error. error: only of a call by gRPC."""

    def __init__(
        self, text: str | None = None, reason: str = "", error: ArenaError | None = None
    ) -> None:
        self.text = text
        self.reason = reason
        self.error = error

    def __repr__(self) -> str:
        if self.error is not None:
            return f"{self.error.code} {self.error}"[:400]
        return self.reason or f"the text {self.text!r}"[:200]


@dataclass(frozen=True)
class Asking:
    """A call to a hosted model. mark: tells the provider what to answer."""

    model: str
    request_id: str
    prompt: str
    mark: str

    @property
    def text(self) -> str:
        """A correct answer."""
        return expected_text(self.mark)


class Caller:
    """Makes calls with plans, and keeps the bill."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.bill = system.bill
        #: Ids of calls by HTTP, whose replies do not tell their cost.
        self.by_http: set[str] = set()

    def prepare(self, model: str, dice: random.Random, plan: Plan) -> Asking:
        """Return a call that nobody has made before, and tell its provider the plan."""
        mark = new_mark(dice)
        asking = Asking(model, f"t{dice.getrandbits(64):016x}", f"Please repeat: {mark}", mark)
        self.system.provider_of(model).plans[asking.request_id] = plan
        return asking

    def forget(self, asking: Asking) -> int:
        """Forget its plan; return how many requests its provider has got."""
        planned = self.system.provider_of(asking.model)
        planned.plans.pop(asking.request_id, None)
        return planned.requests.pop(asking.request_id, 0)

    async def ask(self, asking: Asking, *, streamed: bool, http: bool = False) -> Answer:
        """Make a call."""
        words = asking.model, asking.prompt, asking.request_id
        if http:
            return await self.ask_http(*words, streamed)
        return await self.ask_grpc(*words, streamed)

    async def ask_grpc(
        self, model: str, prompt: str, request_id: str, streamed: bool, **options: Any
    ) -> Answer:
        """Make a call. Repeat it without faults until its cost is known."""
        options = {"max_tokens": MAX_TOKENS, **options}
        try:
            return await self._send(model, prompt, request_id, streamed, options)
        except ArenaError as error:
            if not self.bill.add_error(request_id, error):
                await self.settle(model, prompt, request_id, **options)
            return Answer(reason=error.reason or error.code, error=error)

    async def settle(self, model: str, prompt: str, request_id: str, **options: Any) -> Answer:
        """Repeat a call whose cost is not known, now with an honest provider."""
        self.system.provider_of(model).plans[request_id] = be_honest
        options = {"max_tokens": MAX_TOKENS, **options, "timeout": 20}
        while True:
            try:
                return await self._send(model, prompt, request_id, False, options)
            except ArenaError as error:
                if self.bill.add_error(request_id, error):
                    return Answer(reason=error.reason, error=error)
            await asyncio.sleep(0.2)

    async def _send(
        self, model: str, prompt: str, request_id: str, streamed: bool, options: Any
    ) -> Answer:
        client = self.system.client
        reply: Completion
        if streamed:
            stream = client.stream(model, prompt, request_id=request_id, **options)
            text = "".join([piece async for piece in stream])
            reply = stream.completion
        else:
            reply = await client.generate(model, prompt, request_id=request_id, **options)
            text = reply.text
        self.bill.add_reply(request_id, reply)
        if text != reply.text:
            return Answer(f"{text} in pieces, and {reply.text} as a whole")
        return Answer(text)

    async def ask_http(self, model: str, prompt: str, request_id: str, streamed: bool) -> Answer:
        """Make a call through the gateway."""
        self.by_http.add(request_id)
        body = {
            "model": model, "messages": [{"role": "user", "content": prompt}],
            "max_tokens": MAX_TOKENS, "stream": streamed,
        }  # fmt: skip
        headers = {
            "Authorization": f"Bearer {TOKENS['door']}",
            "Idempotency-Key": request_id,
        }
        url = f"{self.system.url}/chat/completions"
        async with self.system.http.post(url, json=body, headers=headers) as answer:
            return read_http(answer.status, await answer.read(), streamed)


def read_http(status: int, body: bytes, streamed: bool) -> Answer:
    """Read an answer of the gateway. One that breaks OpenAI's format counts as a wrong text."""
    try:
        if status != 200:
            return _read_error(status, json.loads(body))
        if not streamed:
            return Answer(json.loads(body)["choices"][0]["message"]["content"])
        text = ""
        events = [event.removeprefix("data: ") for event in body.decode().strip().split("\n\n")]
        if events[-1] != "[DONE]":
            return _read_error(status, json.loads(events[-1]))
        for event in events[:-1]:
            if not event.startswith(":"):
                for choice in json.loads(event)["choices"]:
                    text += choice["delta"].get("content") or ""
        return Answer(text)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return Answer(f"unreadable ({error!r}): HTTP {status} {body[:200]!r}")


def _read_error(status: int, body: Any) -> Answer:
    error = body["error"]
    if not error["message"] or "Traceback" in error["message"]:
        raise ValueError("an error without a message for its reader")
    return Answer(reason=f"{error['code']}")


async def check_normal(caller: Caller, record: Record, when: str) -> None:
    """Make a normal call to each hosted model by both doors; each must be right."""
    dice = record.dice(f"normal {when}")
    name = f"a normal call {when}"
    for model in caller.system.models:
        for http in (False, True):
            for streamed in (False, True):
                asking = caller.prepare(model, dice, be_honest)
                call = caller.ask(asking, streamed=streamed, http=http)
                answer = await bounded(record, name, PATIENCE, call)
                caller.forget(asking)
                if answer is not None and answer.text == asking.text:
                    record.answered(name)
                elif answer is not None:
                    record.fail(name, f"{model}, http {http}, streamed {streamed}: {answer}")


#: What a broken connection raises in a caller by HTTP.
HTTP_ERRORS = (aiohttp.ClientError, ConnectionError, TimeoutError, OSError)
