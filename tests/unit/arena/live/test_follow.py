"""An episode that is played again from its replies has the positions of the run."""

from __future__ import annotations

import json
from pathlib import Path

from arena.agents.calls import Ask, ModelCall, ModelReply
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.load import load_experiment
from arena.experiment.schedule import schedule
from arena.games.game import Game
from arena.live.feed import LiveFeed
from arena.live.follow import Follower
from arena.results.rows import CallKey
from tests.support.waiting import eventually

CONFIG = {
    "games": ["leduc_poker"],
    "on_illegal": "retry 1 then random",
    "agents": {"model": {"type": "llm", "model": "hf_one"}, "other": {"type": "random"}},
}


async def test_it_repeats_chance_other_players_and_illegal_answers(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text(json.dumps(CONFIG))
    experiment = load_experiment(path)
    spec = max(schedule(experiment), key=lambda spec: spec.agents)  # the model moves second
    replies: dict[CallKey, ModelReply] = {}

    def ask_for(key: CallKey) -> Ask:
        async def ask(call: ModelCall) -> ModelReply:
            said = "nonsense" if key.attempt == 0 else '{"action": "Call"}'
            replies[key] = ModelReply(said, call.model, 1.0)
            return replies[key]

        return ask

    seats = seat_players(spec, experiment.participants)
    _, moves = await play_episode(spec, Game.load(spec.game), seats, ask_for)
    turns = [move for move in moves if move.agent == "model" and move.attempt == 0]
    assert len(turns) > 1

    feed = LiveFeed({"moves": []})
    follower = Follower(spec, experiment, feed, {"number": "1.2"})
    try:
        for turn in turns:
            follower.take({key: reply for key, reply in replies.items() if key.ply < turn.ply})
            await eventually(lambda: feed.value.get("board") == turn.board)  # noqa: B023 - awaited here
            assert feed.value["number"] == "1.2"
            before = [move for move in moves if move.ply < turn.ply and move.action is not None]
            assert [one["text"] for one in feed.value["moves"]] == [
                move.action_text for move in before
            ]
    finally:
        follower.close()
