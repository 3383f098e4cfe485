"""A provider that writes an invoice, and a run of the arena's ledger against it.

    python -m tests.support.billing openrouter 10000

The calls go from the arena's ledger through the client to a real service process, which is killed
several times. A tenth of the provider's answers are faults, and callers cancel some calls. In the
end each billed generation is in the ledger: with its cost, or as a request of the same call whose
cost is not known. No bill of such a request exceeds the bound that the ledger gives.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelCall
from arena.experiment.ledger import Ledger, ask_through_ledger
from arena.experiment.model_calls import ModelCaller
from arena.results.database import connect
from arena.results.rows import CallKey, ExperimentRow, reply_from_json
from arena.results.store import Store
from arena_llm import ArenaError, AsyncClient
from arena_llm.types import PriceTable, PriceUnit, Rate
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess
from tests.support.providers import PROVIDERS, Provider
from tests.support.upstreams.server import Call, Fault, Reply, Step, UpstreamServer

#: The share of each kind of fault among the provider's answers. A fault is billed if the provider
#: has generated an answer before it.
FAULTS: dict[str, float] = {
    "429": 0.01,
    "500": 0.02,
    "error in a 200": 0.01,
    "reset before the answer": 0.02,
    "reset after the generation": 0.01,
    "reset in the answer": 0.01,
    "truncated": 0.01,
    "gateway timeout after the generation": 0.01,
}
STEPS: dict[str, tuple[Fault, bool]] = {
    "429": (Fault(status=429, headers={"Retry-After": "0"}), False),
    "500": (Fault(status=500), False),
    "error in a 200": (Fault(status=200), False),
    "reset before the answer": (Fault(reset=True), False),
    "reset after the generation": (Fault(reset=True), True),
    "reset in the answer": (Fault(reset=True, truncate=True), True),
    "truncated": (Fault(truncate=True), True),
    "gateway timeout after the generation": (Fault(status=504), True),
}

#: Tokens of a prompt and of a reply, at most. A short prompt has a bound of 1,000 and its bytes.
MAX_PROMPT, MAX_TOKENS = 1000, 900

#: The share of calls that their caller cancels, and seconds of a generation.
CANCELLED, DELAY = 0.05, 0.02

#: 10^-12 dollars for a prompt token and a completion token of the models in PROVIDERS, by
#: the catalogue of the fake OpenRouter and by litellm's price list.
PRICES = {
    "openrouter": (150_000, 600_000),
    "openai": (150_000, 600_000),
    "anthropic": (3_000_000, 15_000_000),
    "gemini": (300_000, 2_500_000),
}


class Invoice:
    """What a provider bills, by the request_id of the call."""

    def __init__(self, name: str, seed: int) -> None:
        self.lines: dict[str, list[int]] = defaultdict(list)
        self.faults: Counter[str] = Counter()
        self._name = name
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._count = 0

    @property
    def total(self) -> int:
        return sum(map(sum, self.lines.values()))

    def answer(self, call: Call) -> Step:
        """Decide how a call ends, and bill it if there is a generation."""
        fault = self._random.choices([*FAULTS, ""], [*FAULTS.values(), 1 - sum(FAULTS.values())])[0]
        step, is_billed = STEPS.get(fault, (None, True))
        self.faults[fault or "none"] += 1
        reply, cost = self.generate()
        if is_billed:
            headers = {name.lower(): value for name, value in call.headers.items()}
            request_id = headers["x-client-request-id"].rpartition("-")[0]
            self.lines[request_id].append(cost)
        return step or reply

    def generate(self) -> tuple[Reply, int]:
        """An answer with its usage, and its cost in 10^-12 dollars."""
        self._count += 1
        prompt = self._random.randint(1, MAX_PROMPT)
        # With one token alone, an answer without a text is right: it is the end token.
        completion = self._random.randint(2, MAX_TOKENS)
        fields: dict[str, Any] = {"id": f"gen-{self._count}"}
        counts = {"prompt_tokens": prompt, "completion_tokens": completion}
        rates = PRICES[self._name]
        cost = prompt * rates[0] + completion * rates[1]
        match self._name:
            case "openrouter":
                cost -= self._random.randint(0, cost // 2)  # a provider below the listed price
                fields["usage"] = {**counts, "cost": f"{cost}e-12"}
            case "anthropic":
                fields["usage"] = {"input_tokens": prompt, "output_tokens": completion}
            case "gemini":
                del fields["id"]
                fields["usageMetadata"] = {
                    "promptTokenCount": prompt,
                    "candidatesTokenCount": completion,
                    "totalTokenCount": prompt + completion,
                }
            case _:
                fields["usage"] = counts
        return Reply(fields=fields, delay=self._random.uniform(0, 2 * DELAY)), cost


@dataclass
class Outcome:
    """The invoice against the ledger, in 10^-12 dollars.

    known: costs in the ledger. unknown: requests in the ledger without a cost. unknown_billed: what
    the invoice has for the calls of these requests, beyond the known costs. at_most: the most that
    these requests can cost together, by the ledger. missing: by request_id, what is billed and not
    in the ledger, or above its bounds. too_much: the reverse.
    """

    calls: int
    billed: int
    known: int
    unknown: int = 0
    unknown_billed: int = 0
    at_most: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    too_much: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    kills: int = 0
    replayed: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def adds_up(self) -> bool:
        """Whether each billed request is in the ledger, and nothing else."""
        balanced = self.billed == self.known + self.unknown_billed
        return balanced and not self.missing and not self.too_much


class _Service:
    """The service process in front of the provider."""

    def __init__(self, provider: Provider, url: str, folder: Path) -> None:
        self._address = f"127.0.0.1:{free_ports(1)[0]}"
        entry: dict[str, Any] = {"name": provider.model}
        config: dict[str, Any] = {
            "listen": self._address,
            "models": [entry],
            "backoff_seconds": 0.01,
            "max_backoff_seconds": 0.05,
            "journal": str(folder / "journal"),
        }
        if provider.service == "openrouter":
            config["base_url"] = url
        else:
            entry["api_base"] = url
        path = folder / "service.yaml"
        path.write_text(json.dumps(config))
        module = f"services.{provider.service}"
        self.process = ServiceProcess(self._address, "-m", module, "--config", str(path))
        self.address = self._address


@contextmanager
def _environment(provider: Provider) -> Iterator[None]:
    before = os.environ.get(provider.variable)
    os.environ[provider.variable] = provider.key
    try:
        yield
    finally:
        del os.environ[provider.variable]
        if before is not None:
            os.environ[provider.variable] = before


async def run_bill(
    name: str, calls: int, kills: int, folder: Path, *, in_flight: int = 48, seed: int = 1
) -> Outcome:
    """Make the calls, kill the service in between, and compare the ledger with the invoice."""
    provider, invoice = PROVIDERS[name], Invoice(name, seed)
    chances = random.Random(seed + 1)  # noqa: S311 - no secret
    began = time.monotonic()
    path = folder / "results.sqlite"
    experiment = ExperimentRow("bill", "{}")
    upstream: UpstreamServer
    with _environment(provider):
        async with provider.upstream() as upstream:
            upstream.default = invoice.answer
            service = _Service(provider, upstream.url, folder)  # type: ignore[attr-defined] # all have one
            await asyncio.to_thread(service.process.start)
            try:
                with Store(path, experiment, []) as store:
                    async with AsyncClient(service.address, timeout=60) as client:
                        rates = map(
                            Rate, (PriceUnit.PROMPT_TOKEN, PriceUnit.COMPLETION_TOKEN), PRICES[name]
                        )
                        prices = {provider.model: PriceTable(tuple(rates))}
                        ask_for = ask_through_ledger(
                            ledger := Ledger(store, prices=prices),
                            ModelCaller(client, "bill", patience=120),
                            store.run_id,
                        )
                        waiting = iter(range(calls))
                        ended = 0
                        killed = 0
                        restart = asyncio.Lock()

                        async def play() -> None:
                            nonlocal ended, killed
                            for ply in waiting:
                                key = CallKey("bill", ply, 0, 0)
                                prompt = (("user", f"Move {ply}?"),)
                                call = ModelCall(provider.model, prompt, {"max_tokens": MAX_TOKENS})
                                while not await _try(ask_for(key)(call), chances):
                                    pass
                                ended += 1
                                if killed < kills and ended > (killed + 1) * calls // (kills + 1):
                                    async with restart:
                                        if killed < kills and ended > (
                                            (killed + 1) * calls // (kills + 1)
                                        ):
                                            killed += 1
                                            await asyncio.to_thread(service.process.kill)
                                            await asyncio.to_thread(service.process.start)

                        async with asyncio.TaskGroup() as players:
                            for _ in range(in_flight):
                                players.create_task(play())
                    spent = ledger.spent
                    run_id = store.run_id
            finally:
                await asyncio.to_thread(service.process.kill)
    outcome = Outcome(calls, invoice.total, spent.cost_picousd, kills=killed)
    outcome.at_most = spent.unpriced_picousd
    outcome.requests = sum(invoice.faults.values())
    outcome.faults = dict(invoice.faults)
    _compare(path, run_id, invoice, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _try(asking: Any, chances: random.Random) -> bool:
    """Make one try at a call, which may be cancelled. Returns whether it has a reply."""
    task = asyncio.ensure_future(asking)
    if chances.random() < CANCELLED:
        await asyncio.sleep(chances.uniform(0, 2 * DELAY))
        task.cancel()
    try:
        await task
    except ArenaError:
        await asyncio.sleep(0.05)
        return False
    except asyncio.CancelledError:
        return False
    return True


def _compare(path: Path, run_id: str, invoice: Invoice, outcome: Outcome) -> None:
    """Compare each call of the results file with the invoice."""
    known: Counter[int] = Counter()
    unknown: Counter[int] = Counter()
    most: Counter[int] = Counter()
    ids: dict[int, str] = {}
    with closing(connect(path)) as connection:
        for ply, text in connection.execute("SELECT ply, reply FROM calls"):
            reply = reply_from_json(text)
            ids[ply] = reply.request_id
            known[ply] += reply.cost_picousd or 0
            unknown[ply] += reply.cost_picousd is None
            if reply.cost_picousd is None:
                most[ply] += reply.max_cost_picousd or 0
            outcome.replayed += reply.replayed
        failed = "SELECT ply, cost_picousd, max_cost_picousd, reason FROM failed_calls"
        for ply, cost, bound, reason in connection.execute(failed):
            known[ply] += cost or 0
            unknown[ply] += cost is None
            most[ply] += bound or 0
            outcome.reasons[reason] += cost is None
    assert all(request_id.startswith(run_id) for request_id in ids.values())
    outcome.unknown = unknown.total()
    for ply, request_id in ids.items():
        lines = invoice.lines.get(request_id, [])
        rest = sum(lines) - known[ply]
        if rest < 0:
            outcome.too_much[request_id] = -rest
        elif rest > most[ply]:
            outcome.missing[request_id] = rest
        else:
            outcome.unknown_billed += rest
    for request_id in invoice.lines.keys() - set(ids.values()):
        outcome.missing[request_id] = sum(invoice.lines[request_id])


def describe(outcome: Outcome) -> str:
    """The outcome in a few lines."""
    dollars = {
        n: f"${getattr(outcome, n) / 1e12:.6f}"
        for n in ("billed", "known", "unknown_billed", "at_most")
    }
    return (
        f"{outcome.calls} calls, {outcome.requests} requests, {outcome.kills} kills, "
        f"{outcome.replayed} replayed, {outcome.seconds:.0f} s\n"
        f"invoice {dollars['billed']} = known {dollars['known']} + "
        f"{dollars['unknown_billed']} of {outcome.unknown} requests with unknown cost, "
        f"by the ledger at most {dollars['at_most']}\n"
        f"missing {outcome.missing}, too much {outcome.too_much}\n"
        f"unknown: {dict(outcome.reasons)}\nthe provider: {outcome.faults}"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        result = asyncio.run(run_bill(sys.argv[1], int(sys.argv[2]), 3, Path(made)))
    print(describe(result))
    sys.exit(not result.adds_up)
