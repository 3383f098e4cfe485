"""`python -m tests.torture`: hostile requests, answers, files and faults, against a real system.

    python -m tests.torture                               # all kinds, three rounds: make torture
    python -m tests.torture --kind provider --seed 7 --seconds 60

Each kind tortures the same system for some seconds in each round. The exit status is 0 if no
outcome is wrong or missing, the bill is right, and no process has grown or logged a secret.
Otherwise it is 1, and the output has the command that repeats the kind that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tests.torture import connections, faults, files, grpc_requests, http_requests, provider
from tests.torture.calls import Caller, check_normal
from tests.torture.record import Record
from tests.torture.system import System
from tests.torture.watch import check_logs, compare, count_ended, take_samples, take_settled_samples

Kind = Callable[[Caller, Record, float], Awaitable[None]]

KINDS: Mapping[str, Kind] = {
    "provider": provider.torture,
    "grpc": grpc_requests.torture,
    "http": http_requests.torture,
    "connections": connections.torture,
    "results": files.torture,
    "faults": faults.torture,
}
ROUNDS = 3
SECONDS = 30.0


async def torture(
    kinds: Sequence[str],
    seed: int,
    seconds: float,
    folder: Path,
    *,
    hf: bool = True,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[Record], list[str]]:
    """Torture a system with these kinds. Returns their records, and lines about the system."""
    records = [Record(kind, seed) for kind in kinds]
    whole = Record("system", seed)
    async with System(folder, hf=hf) as system:
        caller = Caller(system)
        await check_normal(caller, whole, "at the start")
        samples = [take_samples(system)]
        for number in range(rounds):
            whole.round = number
            for record in records:
                record.round = number
                begun, seen = time.monotonic(), len(record.problems)
                await KINDS[record.kind](caller, record, seconds)
                record.seconds += time.monotonic() - begun
                say(f"round {number + 1}: {record.describe()}")
                for problem in record.problems[seen:]:
                    say(f"  {problem}")
                await check_normal(caller, whole, f"after {record.kind}")
            samples.append(await take_settled_samples(caller, whole))
        lines = compare(whole, samples)
        system.bill.ended = count_ended(system)
        for problem in system.bill.problems():
            whole.fail("the bill", problem)
        lines.append(system.bill.describe())
        check_logs(whole, system)
    return [*records, whole], lines


def _say(line: str) -> None:
    print(line, flush=True)


def print_table(records: Sequence[Record]) -> None:
    """Print what each kind has tried."""
    print(
        f"{'kind':12} {'tries':>7} {'answers':>8} {'errors':>7} {'wrong':>6} {'hangs':>6}  seconds"
    )
    for record in records:
        tries = record.answers + record.errors + record.wrong + record.hung
        print(
            f"{record.kind:12} {tries:7} {record.answers:8} {record.errors:7} {record.wrong:6} "
            f"{record.hung:6}  {record.seconds:7.0f}"
        )


def main() -> int:
    """Torture, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="default: all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a kind in a round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="each has all kinds")
    parser.add_argument("--names", action="store_true", help="list the tries by name")
    parser.add_argument("--without-hf", action="store_true", help="start no hf service")
    parser.add_argument("--keep", type=Path, help="a folder for configurations and logs")
    arguments = parser.parse_args()
    # aiohttp would log each connection that a provider resets.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    kinds = arguments.kind or list(KINDS)
    print(f"seed {arguments.seed}, {arguments.seconds:g} s of {', '.join(kinds)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="torture-") as made:
        folder = arguments.keep or Path(made)
        folder.mkdir(exist_ok=True)
        hf = not arguments.without_hf
        running = torture(
            kinds,
            arguments.seed,
            arguments.seconds,
            folder,
            hf=hf,
            rounds=arguments.rounds,
            say=_say,
        )
        records, lines = asyncio.run(running)
    print_table(records)
    print(*lines, sep="\n")
    failed = [record for record in records if record.problems]
    for record in failed:
        shown = record.problems if record.kind not in KINDS else []
        print(f"\n{record.kind}, seed {record.seed}:", *shown, sep="\n  ")
        again = f"--kind {record.kind} " if record.kind in KINDS else ""
        print(
            f"repeat: {os.path.basename(sys.executable)} -m tests.torture {again}"
            f"--seed {record.seed} --seconds {arguments.seconds:g}"
        )
    if arguments.names:
        for record in records:
            print(f"\n{record.kind}:")
            for name, count in sorted(record.names.items()):
                print(f"  {count:5} {name}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
