"""Write docs/figures.md, the table of all figures with goals: `python -m bench.figures`.

The page has the goals of every benchmark (`GOALS`) with the values of its last complete run. It
adds the content of bench/figures.yaml, which people write: figures of other commands, the tests of
claims without a figure, and what bounds a figure that misses its goal.

The results of this machine, bench/results/, are not in the repository. They are copied to
bench/measured.json, which is in it. A benchmark without results keeps the figures of its last run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from bench import BENCHMARKS
from bench.goals import Goal, format_goal, format_value, is_reached

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/figures.md"
RESULTS = ROOT / "bench/results"
MEASURED = ROOT / "bench/measured.json"
BY_HAND = ROOT / "bench/figures.yaml"


@dataclass(frozen=True)
class GoalRow:
    """A figure of the table. name: begins with its benchmark. value: None if it is not measured.

    date: of a figure that a person wrote down. ran: whether its benchmark has run.
    """

    name: str
    sign: str
    bound: float
    unit: str
    value: float | None
    command: str
    date: str = ""
    ran: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None if it is not known."""
        return None if self.value is None else is_reached(self.value, self.sign, self.bound)

    @property
    def goal(self) -> str:
        """The goal for people."""
        signs = {"<=": "≤", ">=": "≥"}
        return format_goal(self.sign, self.bound, self.unit).replace(self.sign, signs[self.sign])

    @property
    def measured(self) -> str:
        """The value for people."""
        if self.value is None:
            return "not measured"
        return format_value(self.value, self.unit) + (f" ({self.date})" if self.date else "")


def list_goals() -> dict[str, Sequence[Goal]]:
    """The goals of each benchmark."""
    return {name: import_module(f"bench.{name}").GOALS for name in BENCHMARKS}


def read_by_hand() -> dict[str, Any]:
    """The content of bench/figures.yaml."""
    content: dict[str, Any] = yaml.safe_load(BY_HAND.read_text())
    return content


def read_measured() -> dict[str, Any]:
    """What the last run of each benchmark measured."""
    content: dict[str, Any] = json.loads(MEASURED.read_text())
    return content


def update_measured(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measured figures, with newer ones from bench/results/."""
    found = dict(measured)
    for name in BENCHMARKS:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        run = json.loads(path.read_text())
        if run["date"] >= found.get(name, {}).get("date", ""):
            values = {figure["figure"]: figure["value"] for figure in run["goals"]}
            about = {key: run[key] for key in ("date", "commit", "seconds", "machine")}
            found[name] = {**about, "values": values}
    return {name: found[name] for name in BENCHMARKS if name in found}


def list_rows(
    goals: Mapping[str, Sequence[Goal]], measured: Mapping[str, Any], by_hand: Mapping[str, Any]
) -> Iterator[GoalRow]:
    """Yield all figures, those of benchmarks first."""
    for name, theirs in goals.items():
        values = measured.get(name, {}).get("values", {})
        command = f"make bench BENCH={name}"
        for goal in theirs:
            value = values.get(goal.figure)
            full = f"{name}: {goal.figure}"
            yield GoalRow(
                full, goal.sign, goal.bound, goal.unit, value, command, ran=name in measured
            )
    for entry in by_hand["commands"]:
        about = {key: entry[key] for key in ("sign", "unit", "command")}
        value, date = entry.get("value"), str(entry.get("date", ""))
        yield GoalRow(entry["figure"], bound=entry["goal"], value=value, date=date, **about)


def render(measured: Mapping[str, Any], by_hand: Mapping[str, Any]) -> str:
    """Return the page."""
    rows = list(list_rows(list_goals(), measured, by_hand))
    states = [row.reached for row in rows]
    counts = {state: states.count(state) for state in (True, False, None)}
    reached = {True: "yes", False: "**no**", None: ""}
    parts = [
        _HEAD,
        _describe_machines(measured),
        "## All figures",
        f"{counts[True]} of {len(rows)} goals are reached, {counts[False]} are not, "
        f"{counts[None]} were not measured.",
        _table(
            ("figure", "goal", "measured", "reached", "command"),
            ((r.name, r.goal, r.measured, reached[r.reached], f"`{r.command}`") for r in rows),
        ),
        "## Short of their goals",
        *_explain(rows, by_hand["short"]),
        "## Without a figure",
        "Each claim is held by a test, which `make test` runs unless the table says otherwise.",
        _table(
            ("claim", "test"),
            ((entry["claim"], f"`{entry['test']}`") for entry in by_hand["tests"]),
        ),
        "## The runs",
        _table(
            ("benchmark", "minutes", "began (UTC)", "commit"),
            (
                (name, f"{run['seconds'] / 60:.1f}", run["date"], run["commit"])
                if (run := measured.get(name))
                else (name, "", "", "")
                for name in BENCHMARKS
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


_HEAD = """# Figures

<!-- Written by `python -m bench.figures`. -->

This page has every figure with a goal, its last measured value, and the command that measures it. A
date beside a figure says that a person measured it, with a command that is not a benchmark. `make
bench` runs all benchmarks one after the other, and needs an idle machine; `python -m bench.figures`
then writes this page. The goals are in the benchmarks (`GOALS`); people write the other text in
`bench/figures.yaml`.

**Only ratios can be compared between machines.** Most goals are ratios of two alternatives that
took turns within one run. Goals in ms, s or calls depend on the processor and on how its Python was
built."""


def _describe_machines(measured: Mapping[str, Any]) -> str:
    """Return a sentence for each machine with measured figures."""
    machines: dict[str, list[str]] = {}
    for name, run in measured.items():
        about = run["machine"]
        built = "with" if about["python_optimized"] else "without"
        machine = (
            f"{about['processor']}, {about['cores']} cores, {about['memory_gb']} GB, "
            f"Python {about['python']} built {built} PGO, grpcio {about['grpcio']}"
        )
        machines.setdefault(machine, []).append(name)
    if not machines:
        return "Nothing was measured yet."
    if len(machines) == 1:
        return f"Measured on: {next(iter(machines))}."
    lines = (f"- {machine}: {', '.join(names)}" for machine, names in machines.items())
    return "Measured on:\n\n" + "\n".join(lines)


def _explain(rows: Sequence[GoalRow], reasons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what bounds each figure that misses its goal, or could not be measured."""
    open_rows = {
        row.name: row for row in rows if row.reached is False or (row.ran and row.value is None)
    }
    explained = set()
    for reason in reasons:
        names = [name for name in reason["figures"] if name in open_rows]
        explained.update(names)
        if names:
            lines = [f"- {row.name}: {row.measured}, goal {row.goal}"
                     for row in map(open_rows.__getitem__, names)]  # fmt: skip
            bound = f"**What bounds it.** {reason['bound'].strip()}"
            tried = f"**What was tried.** {reason['tried'].strip()}"
            yield "\n".join([*lines, "", bound, "", tried])
    for name, row in open_rows.items():
        if row.value is not None and name not in explained:
            yield f"- {name}: {row.measured}, goal {row.goal}. No reason is written down yet."


def _table(header: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write bench/measured.json and docs/figures.md, and name figures without a reason."""
    measured, by_hand = update_measured(read_measured()), read_by_hand()
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")
    PAGE.write_text(render(measured, by_hand))
    explained = {name for reason in by_hand["short"] for name in reason["figures"]}
    for row in list_rows(list_goals(), measured, by_hand):
        if row.reached is False and row.name not in explained:
            print(f"write into bench/figures.yaml what bounds {row.name!r}")


if __name__ == "__main__":
    main()
