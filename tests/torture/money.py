"""The bill: what the providers have billed, against what the callers know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from arena.agents.calls import is_lost, is_lost_attempt
from arena_llm import ArenaError
from arena_llm.types import Attempt, Completion

#: The cost of an answer whose usage names none, in 10^-12 dollars: 12 tokens in and 5 out, at 0.15
#: and 0.6 dollars for a million.
USUAL_COST = 12 * 150_000 + 5 * 600_000


class Bill:
    """Both sides of the bill, by request_id, in 10^-12 dollars.

    billed: by the providers. known, at_most: by replies and errors: what attempts cost, and the
    most that attempts of unknown cost can have cost. unbounded: attempts without such a bound.
    settled: calls that ended with an outcome that tells their whole cost. left: calls that their
    caller has left. outcomes, ended: how many outcomes of a call its caller got, and how many the
    services sent. crossed: see problems.
    """

    def __init__(self) -> None:
        self.billed: defaultdict[str, int] = defaultdict(int)
        #: Bills for moves of a tournament. Its results file has the other side.
        self.games: defaultdict[str, int] = defaultdict(int)
        self.known: Counter[str] = Counter()
        self.at_most: Counter[str] = Counter()
        self.unbounded: Counter[str] = Counter()
        self.settled: set[str] = set()
        self.left: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.crossed: set[str] = set()
        self._replied: set[str] = set()
        #: What was tried, by request_id.
        self.names: dict[str, str] = {}

    def add_reply(self, request_id: str, reply: Completion) -> None:
        """Note what a reply says about its cost, only once, because it can be requested again."""
        self.outcomes[request_id] += 1
        if request_id not in self._replied:
            self._replied.add(request_id)
            self._add(request_id, reply.attempts)
        self.settled.add(request_id)

    def add_error(self, request_id: str, error: ArenaError) -> bool:
        """Note what an error says about its cost. Returns False if another try must tell more."""
        self.outcomes[request_id] += 1
        attempts = error.report.attempts if error.report is not None else ()
        kept = [attempt for attempt in attempts if not is_lost_attempt(attempt)]
        self._add(request_id, kept)
        if len(kept) < len(attempts) or (error.report is None and is_lost(error)):
            self.settled.discard(request_id)
            return False
        self.settled.add(request_id)
        return True

    def _add(self, request_id: str, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            if attempt.cost_picousd is not None:
                self.known[request_id] += attempt.cost_picousd
            elif attempt.max_cost_picousd is not None:
                self.at_most[request_id] += attempt.max_cost_picousd
            else:
                self.unbounded[request_id] += 1

    def problems(self) -> list[str]:
        """The calls for which the two sides do not agree.

        A caller that leaves while an outcome is on its way never learns what it said. Such calls
        are `crossed`: only the log of the service has their cost.
        """
        found = []
        for request_id in self.settled | (self.billed.keys() & self.known.keys()):
            billed, known = self.billed.get(request_id, 0), self.known[request_id]
            most = known + self.at_most[request_id]
            name = self.names.get(request_id, request_id)
            if known > billed:
                found.append(f"{name}: billed {billed}, the caller knows {known}")
            elif billed <= most or request_id not in self.names or self.unbounded[request_id]:
                continue
            elif request_id in self.left and self.ended[request_id] > self.outcomes[request_id]:
                self.crossed.add(request_id)
            else:
                # Unnamed calls are those of other kinds. They ask for few tokens, and providers
                # bill random prices, so that they can exceed the bound.
                found.append(f"{name}: billed {billed}, by the caller at most {most}")
        return found

    def describe(self) -> str:
        """The sums in dollars."""
        ids = self.settled
        billed = sum(self.billed.get(one, 0) for one in ids)
        known, most = (sum(side[one] for one in ids) for side in (self.known, self.at_most))
        return (
            f"{len(ids)} calls: billed ${billed / 1e12:.6f}, known ${known / 1e12:.6f}, and "
            f"${(billed - known) / 1e12:.6f} in attempts of unknown cost, which can be "
            f"${most / 1e12:.6f} at most; {sum(self.unbounded.values())} without a bound; "
            f"{len(self.crossed)} of {len(self.left)} callers left while an outcome was on its way"
        )
