"""The providers of the tortured system: they answer each request as its caller has planned."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from bench.provider import some_action
from tests.support.billing import Invoice
from tests.support.providers import PROVIDERS, Provider
from tests.support.upstreams.openrouter import list_everything
from tests.support.upstreams.server import Call, Fault, Reply, Step, UpstreamServer
from tests.torture.money import Bill

#: How a prompt names the answer that it wants, and how the answer begins.
_MARK = re.compile(r"torture [0-9a-f]{12}")
_LEGAL = "Legal actions, one per line"


def expected_text(mark: str) -> str:
    """The answer of an honest provider to a prompt with this mark. UTF-8 has 1 to 4 bytes."""
    return f"answer to {mark}: größer, 日本, 😀"


def new_mark(dice: random.Random) -> str:
    """Return a mark that no other prompt has."""
    return f"torture {dice.getrandbits(48):012x}"


@dataclass(frozen=True)
class Asked:
    """A request to a provider.

    number: of the earlier requests for the same call. reply, cost: an honest answer and its cost.
    """

    upstream: UpstreamServer
    call: Call
    streamed: bool
    number: int
    reply: Reply
    cost: int


#: Decides how a provider answers a request, and what it bills for that.
Plan = Callable[[Asked], tuple[Step, int]]


def be_honest(asked: Asked) -> tuple[Step, int]:
    """Answer what the prompt wants, and bill it."""
    return asked.reply, asked.cost


class PlannedProvider:
    """A provider with the plans of its callers, by request_id.

    for_games: the plan of all moves of a tournament. down: it answers 503 to everything. requests:
    how many each call has sent. answers: how many moves were answered.
    """

    def __init__(self, name: str, bill: Bill) -> None:
        self.name = name
        self.provider: Provider = PROVIDERS[name]
        self.plans: dict[str, Plan] = {}
        self.requests: Counter[str] = Counter()
        self.for_games: Plan = be_honest
        self.down = False
        self.answers = 0
        self._bill = bill
        self._invoice = Invoice(name, 1)

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve until the stack ends."""
        self.upstream = await stack.enter_async_context(self.provider.upstream())
        self.upstream.default = self._answer
        if self.name == "openrouter":  # all fields of a request reach it
            self.upstream.models.append(list_everything("a/all"))  # type: ignore[attr-defined]

    def _answer(self, call: Call) -> Step:
        self.upstream.history.clear()  # of a run of minutes, it would fill the memory
        self.upstream.transports.clear()
        if self.down:
            return Fault(503, "planned maintenance")
        headers = {name.lower(): value for name, value in call.headers.items()}
        request_id = headers.get("x-client-request-id", "").rpartition("-")[0]
        number = self.requests[request_id]
        self.requests[request_id] += 1
        reply, cost = self._invoice.generate()
        text = _find_text(call)
        pieces = [text[begin : begin + 7] for begin in range(0, len(text), 7)]
        reply = replace(reply, text=text, pieces=pieces, delay=reply.delay / 4)
        streamed = self.upstream.asks_for_stream(call)
        asked = Asked(self.upstream, call, streamed, number, reply, cost)
        if _LEGAL in json.dumps(call.body):
            step, billed = self.for_games(asked)
            self._bill.games[request_id] += billed
            self.answers += billed > 0
            return step
        step, billed = self.plans.get(request_id, be_honest)(asked)
        self._bill.billed[request_id] += billed
        return step


def _find_text(call: Call) -> str:
    body = json.dumps(call.body, ensure_ascii=False)
    if found := _MARK.findall(body):
        return expected_text(found[-1])
    if _LEGAL in body:
        return json.dumps({"reasoning": "", "action": some_action(call.body["messages"])})
    return "ok"
