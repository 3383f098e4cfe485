"""The kind `provider`: hostile answers of all providers at random, by every door."""

from __future__ import annotations

import asyncio
import random

from gateway.errors import BY_REASON
from tests.torture.calls import HTTP_ERRORS, PATIENCE, Answer, Asking, Caller
from tests.torture.plans import Trial, draw
from tests.torture.record import Record, bounded, find_problem, repeat

WIDTH = 64
#: The share of calls by HTTP, of streams, and of calls by gRPC that their caller leaves.
BY_HTTP, STREAMED, LEFT = 0.3, 0.5, 0.15
#: The most seconds after which a caller leaves.
MOMENTS = (0.0, 0.001, 0.01, 0.05, 0.5)


async def torture(caller: Caller, record: Record, seconds: float) -> None:
    """Make calls until the time is over."""

    async def attempt(dice: random.Random) -> None:
        model = dice.choice(caller.system.models)
        streamed, http = dice.random() < STREAMED, dice.random() < BY_HTTP
        trial = draw(dice, streamed, model)
        door = "http" if http else "grpc"
        name = f"{trial.name}, {model.split('/')[0]}, {door}{' stream' if streamed else ''}"
        asking = caller.prepare(model, dice, trial.plan)
        caller.bill.names[asking.request_id] = f"{name} {asking.request_id}"
        try:
            if not http and dice.random() < LEFT:
                leaving = _leave(caller, asking, streamed, dice.choice(MOMENTS) * dice.random())
                if await bounded(record, f"left: {name}", PATIENCE, leaving) is not None:
                    record.answered(f"left: {name}")
                return
            call = caller.ask(asking, streamed=streamed, http=http)
            answer = await bounded(record, name, PATIENCE, call)
        except HTTP_ERRORS as error:
            record.fail(name, f"the gateway closed the connection: {error!r}")
        else:
            if answer is not None:
                _judge(record, trial, name, asking, answer, caller.forget(asking))
        finally:
            caller.forget(asking)

    await repeat(record, seconds, WIDTH, attempt)


def _judge(
    record: Record, trial: Trial, name: str, asking: Asking, answer: Answer, requests: int
) -> None:
    """Compare an outcome with what its provider meant to say."""
    if not answer.reason:
        found = answer.text or ""
        honest = trial.honest and found == asking.text
        if not honest and not (trial.texts and trial.texts(found)):
            sent = "; ".join(trial.sent)
            record.fail(name, f"{answer}, and the provider meant {asking.text!r} {sent}")
            return
        record.answered(name)
    elif answer.error is not None:
        problem = find_problem(answer.error)
        if problem or answer.reason not in trial.reasons:
            allowed = ", ".join(sorted(trial.reasons))
            record.fail(name, f"{answer}: {problem}, not one of {allowed}, or a text")
            return
        record.refused(name)
    else:
        codes = {BY_REASON[reason].code for reason in trial.reasons}
        if answer.reason not in codes:
            record.fail(name, f"{answer}, not one of {', '.join(sorted(codes))}, or a text")
            return
        record.refused(name)
    if trial.once and requests > 1:
        record.fail(name, f"the answer was bought {requests} times, {answer}")


async def _leave(caller: Caller, asking: Asking, streamed: bool, seconds: float) -> Answer:
    """Leave a call at any moment; the next one with its request_id tells what it cost."""
    caller.bill.left.add(asking.request_id)
    call = asyncio.create_task(caller.ask(asking, streamed=streamed))
    await asyncio.sleep(seconds)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    return await caller.settle(asking.model, asking.prompt, asking.request_id)
