"""One run: its experiment and models, a call with its reply, an episode and its move."""

from __future__ import annotations

from arena.agents.calls import ModelReply
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena_llm.types import ServedBy

EXPERIMENT = ExperimentRow("one", '{"a":1}')
MODELS = [ModelRow("hf_a", "llm", "hf_a", "{}"), ModelRow("dice", "random", None, "{}")]
#: 10^-12 dollars: more than a float of dollars could hold exactly.
COST = 125 * 10**9 + 1
KEY = CallKey("nim/0/hf_a,dice", 0, 0, 0)
REPLY = ModelReply(
    "text \u2028\x00 é", "hf_a", 12.25, "why", "stop", 10, 2, 1, COST, (-0.5, float("-inf")),
    served_by=ServedBy("openrouter", provider="p", precision="fp8"), attempts=2, replayed=True,
)  # fmt: skip
ROW = EpisodeRow(
    KEY.episode, "nim", 0, ("hf_a", "dice"), 2**63 - 1, "finished", 3, returns=(1.0, -1.0)
)
MOVE = MoveRow(
    KEY.episode, 0, 0, 0, "ok", "hf_a", action=3, action_text="3", legal_actions=((3, "3"),),
    model="hf_a", latency_ms=12.25, prompt_tokens=10, completion_tokens=2, cost_picousd=COST,
)  # fmt: skip
