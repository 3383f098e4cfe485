"""What the processes of the system hold: memory, files, threads. It must not grow."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from tests.support.upstreams import anthropic, gemini, openai, openrouter
from tests.torture.calls import Caller, check_normal
from tests.torture.record import Record
from tests.torture.system import TOKENS, System

#: Growth of resident memory in the last round that is no leak, in bytes, or as a share. Its reasons
#: are kept replies (2 MB by the configuration), and what allocators and the garbage collector keep
#: of messages of tens of MB, which varies by 50 MB. The earlier rounds warm all of this up.
MAX_GROWTH = 64 * 2**20
MAX_GROWTH_SHARE = 0.15
#: Samples of which the smallest counts.
SAMPLES = 4
#: Files and threads beyond those at the start: connections between the processes, which they keep,
#: and the threads of pools that the first hostile calls start.
MAX_FILES, MAX_THREADS = 40, 40

#: Characters of a traceback that are shown.
_MOST_OF_TRACE = 3000

#: Texts that must never be in a log.
_SECRETS = {
    **{f"the token {name}": token for name, token in TOKENS.items()},
    "OpenRouter's key": openrouter.KEY, "OpenAI's key": openai.KEY,
    "Anthropic's key": anthropic.KEY, "Gemini's key": gemini.KEY,
    "a prompt": "Please repeat: torture", "an answer": "answer to torture",
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """What one process holds."""

    pid: int
    rss: int
    files: int
    threads: int


def take_samples(system: System) -> dict[str, Sample]:
    """Look at each process."""
    found = {}
    for name, service in system.processes.items():
        process = psutil.Process(service.process.pid)
        with process.oneshot():
            found[name] = Sample(
                process.pid, process.memory_info().rss, process.num_fds(), process.num_threads()
            )
    return found


async def take_settled_samples(caller: Caller, record: Record) -> dict[str, Sample]:
    """Look at each process between normal calls, after the garbage of hostile ones has gone."""
    await wait_until_idle(caller.system, record)
    least = take_samples(caller.system)
    for _ in range(SAMPLES - 1):
        await check_normal(caller, record, "between samples")
        for name, sample in take_samples(caller.system).items():
            if sample.rss < least[name].rss:
                least[name] = sample
    return least


async def wait_until_idle(system: System, record: Record, seconds: float = 60) -> None:
    """Wait until no call runs or waits anywhere; some that callers have left run to their ends."""
    deadline = time.monotonic() + seconds
    while busy := await system.busy():
        if time.monotonic() > deadline:
            calls = ", ".join(f"{name} {count:g}" for name, count in busy.items())
            record.fail("idle", f"calls that nobody waits for still run: {calls}")
            return
        await asyncio.sleep(0.2)
    record.answered("idle")


def compare(record: Record, samples: Sequence[Mapping[str, Sample]]) -> list[str]:
    """Check what the processes hold at the end; return the rows of a table.

    samples: at the start and after each round. The memory in the end is compared with that before
    the last round.
    """
    rows = []
    first, half, end = samples[0], samples[-2], samples[-1]
    for name, now in end.items():
        before, begun = half[name], first[name]
        memory = " -> ".join(f"{one[name].rss / 2**20:.0f}" for one in samples)
        rows.append(
            f"{name:14} RSS {memory} MB, files {begun.files} -> {now.files}, "
            f"threads {begun.threads} -> {now.threads}"
        )
        if now.pid == before.pid and len(samples) > 3:
            growth = now.rss - before.rss
            most = max(MAX_GROWTH, int(MAX_GROWTH_SHARE * before.rss))
            if growth > most:
                record.fail(
                    f"memory of {name}",
                    f"{growth / 2**20:.1f} MB more in the last round, may be {most / 2**20:.0f}",
                )
            else:
                record.answered(f"memory of {name}")
        for what, now_held, held, most in (
            ("files", now.files, begun.files, MAX_FILES),
            ("threads", now.threads, begun.threads, MAX_THREADS),
        ):
            if now_held > held + most:
                record.fail(f"{what} of {name}", f"{now_held}, and {held} at the start")
            else:
                record.answered(f"{what} of {name}")
    return rows


def check_logs(record: Record, system: System) -> None:
    """No log has a key, a token, a prompt, an answer or a traceback."""
    for name in system.processes:
        log = system.log(name)
        found = [what for what, secret in _SECRETS.items() if secret in log]
        _, mark, trace = log.partition("Traceback (most recent call last)")
        found += [f"a traceback: ...{trace[:_MOST_OF_TRACE]}"] * bool(mark)
        if found:
            record.fail(f"log of {name}", f"it has {', '.join(found)}")
        else:
            record.answered(f"log of {name}")


def count_ended(system: System) -> Counter[str]:
    """By request_id, the calls that ended in a service with an outcome, by its log."""
    ended: Counter[str] = Counter()
    for name in system.processes.keys() - {"router", "gateway"}:
        for line in system.log(name).splitlines():
            if " event=call " in line and " status=CANCELLED " not in line:
                ended[line.partition(" request_id=")[2].partition(" ")[0]] += 1
    return ended
