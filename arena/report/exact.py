"""Expected returns of players whose move probabilities are stored: no luck, so fewer games.

The probabilities are known of random players, of models that reply with scores, and of local
players that always answer alike. The positions come from the stored moves, or from the scores of
`arena exploitability`; see arena/games/expectation.py.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, permutations
from operator import attrgetter

from arena.games.expectation import Expected, Observed, Probabilities, expect_returns, weigh
from arena.games.game import GameError
from arena.games.sandbox import Sandbox
from arena.games.scale import GameScale, find_scale
from arena.report.load import Results
from arena.report.units import is_deterministic
from arena.results.columns import Kind
from arena.results.rows import EpisodeRow, ModelRow, MoveRow
from arena.statistics.intervals import RETURNS, Mean, mean_interval, student_interval

#: At most this many episodes of a game are read for their moves.
MAX_EPISODES = 2_000
#: With fewer deals, Student's interval covers too little.
FEW_DEALS = 10
#: With more players whose whole policies are known, only the line-ups that played are compared.
_MOST_SCORED = 20
#: Stands for a player that plays at random, in every game. No player has an empty name.
_UNIFORM = ""

#: By agent and information state, the probability of each action.
_Policies = Mapping[str, Mapping[str, Probabilities]]


@dataclass(frozen=True, slots=True)
class ExactReturn:
    """A player's expected return against others, over the seat orders that were played.

    estimator: exact, exact given deals, or corrected. deals: how many; 0 if exact.
    """

    game: str
    player: str
    against: tuple[str, ...]
    value: Mean
    estimator: str
    deals: int = 0


@dataclass(frozen=True, slots=True)
class Exact:
    """The figures that need no sample.

    exploitability: by game and player. uniform: that of uniformly random play, by game. states: how
    many information states were scored, by game and player.
    """

    returns: Sequence[ExactReturn] = ()
    exploitability: Mapping[tuple[str, str], float] = field(default_factory=dict)
    uniform: Mapping[str, float] = field(default_factory=dict)
    states: Mapping[tuple[str, str], int] = field(default_factory=dict)


def find_exact(
    results: Results,
    scales: Mapping[str, GameScale],
    sandbox: Sandbox,
    rivals: Collection[str] = (),
) -> Exact:
    """Return the expected returns of all line-ups whose positions are known.

    rivals: names of further players, which play at random.
    """
    players = results.participants
    uniform = {*rivals, *(name for name, row in players.items() if row.type == "random")}
    stored = {name for name, row in players.items() if _has_scores(row) or is_deterministic(row)}
    scored = _read_policies(results)
    returns: list[ExactReturn] = []
    exploitability: dict[tuple[str, str], float] = {}
    baselines: dict[str, float] = {}
    for game in sorted({*scales, *scored}):
        episodes = choose_episodes(
            results, game, lambda kind: (uniform | stored).issuperset(kind.agents)
        )
        policies = scored.get(game, {})
        scale = scales.get(game) or find_scale(game, (), sandbox)
        lineups = {row.agents for row in episodes}
        if 0 < len(policies) <= _MOST_SCORED:
            lineups |= {*permutations([*policies, *sorted(uniform)], scale.players)}
        if not lineups and not policies:
            continue
        observed = [observe(row, results.moves(row), players) for row in episodes]
        deals = sorted({row.seed for row in episodes})
        try:
            found, exploitable = sandbox.call(
                expect_returns,
                game,
                observed,
                frozenset({*uniform, _UNIFORM}),
                sorted(lineups),
                deals,
                policies,
            )
        except GameError:
            continue  # too slow: the report has the sampled values
        returns += _join_seats(game, found, scale)
        shown = {agent for lineup in lineups for agent in lineup} | policies.keys()
        exploitability |= {
            (game, agent): value for agent, value in exploitable.items() if agent in shown
        }
        if _UNIFORM in exploitable:
            baselines[game] = exploitable[_UNIFORM]
    states = {
        (game, agent): len(known)
        for game, found in scored.items()
        for agent, known in found.items()
    }
    return Exact(returns, exploitability, baselines, states)


def _read_policies(results: Results) -> Mapping[str, _Policies]:
    """Return by game the policies of the players whose information states were scored.

    Of several versions of a player's prompts, the one with the most states counts.
    """
    scores: defaultdict[tuple[str, str], defaultdict[str, dict[str, Mapping[int, float]]]]
    scores = defaultdict(lambda: defaultdict(dict))
    for row in results.reader.scores():
        scores[row.game, row.agent][row.version][row.state] = dict(row.logprobs)
    policies: defaultdict[str, dict[str, Mapping[str, Probabilities]]] = defaultdict(dict)
    for (game, agent), versions in scores.items():
        temperature = _find_temperature(_settings(results.participants[agent]))
        _, latest = max(versions.items(), key=lambda item: (len(item[1]), item[0]))
        policies[game][agent] = {
            state: weigh(logprobs, temperature) for state, logprobs in latest.items() if logprobs
        }
    return policies


def choose_episodes(results: Results, game: str, fits: Callable[[Kind], bool]) -> list[EpisodeRow]:
    """Return finished episodes of a game whose kinds fit, with all games of a deal."""
    columns = results.columns
    chosen = columns.where(
        kind.game == game and kind.status == "finished" and fits(kind) for kind in columns.kinds
    )
    return list(results.reader.pick(columns.id[chosen][:MAX_EPISODES].tolist()))


def _has_scores(player: ModelRow) -> bool:
    return player.type == "llm" and _settings(player).get("reply") == "score"


def _settings(player: ModelRow) -> dict[str, object]:
    try:
        settings = json.loads(player.config)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def observe(
    episode: EpisodeRow, moves: Sequence[MoveRow], players: Mapping[str, ModelRow]
) -> Observed:
    """Return an episode with the probabilities that are known."""
    plies: list[dict[int, int]] = []
    known: dict[tuple[int, int], Probabilities] = {}
    for _, rows in groupby(moves, attrgetter("ply")):
        actions: dict[int, int] = {}
        for move in rows:
            if move.action is None:
                continue
            actions[move.seat] = move.action
            player = players.get(move.agent or "")
            found = find_probabilities(move, player) if player else None
            if found is not None:
                known[len(plies), move.seat] = found
        plies.append(actions)
    return Observed(episode.agents, plies, known)


def find_probabilities(move: MoveRow, player: ModelRow) -> Probabilities | None:
    """Return the probability of each action with which a player moved; None: not known."""
    if move.status != "ok" or move.action is None:
        return None
    if not _has_scores(player):
        return {move.action: 1.0} if is_deterministic(player) else None
    temperature = _find_temperature(_settings(player))
    if temperature == 0:
        return {move.action: 1.0}
    try:
        scores = json.loads(move.reply or "")
        scored = {action: float(scores[text]) for action, text in move.legal_actions or ()}
    except (ValueError, KeyError, TypeError):
        return None
    found = weigh(scored, temperature) if scored else None
    return {move.action: 1.0} if found and len(found) == 1 else found


def _find_temperature(settings: Mapping[str, object]) -> float:
    """Return the temperature at which a player with reply score draws its moves."""
    temperature = settings.get("temperature")
    if settings.get("score_pick", "argmax") == "argmax":
        return 0.0
    return float(temperature) if isinstance(temperature, int | float) else 1.0


def _join_seats(
    game: str, found: Mapping[tuple[str, ...], Expected], scale: GameScale
) -> Iterator[ExactReturn]:
    """Yield each player's expected return, as the mean over the seats that it had."""
    groups: defaultdict[tuple[str, ...], list[tuple[tuple[str, ...], Expected]]] = defaultdict(list)
    for lineup, expected in found.items():
        groups[tuple(sorted(lineup))].append((lineup, expected))
    for players, entries in sorted(groups.items()):
        for player in dict.fromkeys(players):
            others = list(players)
            others.remove(player)
            places = [
                (expected, seat)
                for lineup, expected in entries
                for seat, agent in enumerate(lineup)
                if agent == player
            ]
            if all(expected.exact is not None for expected, _ in places):
                values = [expected.exact[seat] for expected, seat in places if expected.exact]
                mean = sum(values) / len(values)
                exact = Mean(mean, mean, mean, len(values), "exact")
                yield ExactReturn(game, player, tuple(others), exact, "exact")
            elif all(expected.by_deal is not None for expected, _ in places):
                deals = zip(*(expected.by_deal or () for expected, _ in places), strict=True)
                seats = [seat for _, seat in places]
                means = [
                    sum(value[seat] for value, seat in zip(deal, seats, strict=True)) / len(seats)
                    for deal in deals
                ]
                value = (
                    student_interval(means)
                    if len(means) >= FEW_DEALS
                    else mean_interval(means, scale.low, scale.high, RETURNS)
                )
                yield ExactReturn(
                    game, player, tuple(others), value, "exact given deals", len(means)
                )
