"""Two replicas of the vllm service behind one route: whose cache knows a game."""

from __future__ import annotations

from pathlib import Path

import yaml

from arena_llm import Client
from tests.integration.vllm.test_vllm import metric
from tests.support.processes import router_process
from tests.support.system import free_ports
from tests.support.vllm import TINY, VllmProcess, make_tiny

#: An odd number, or each game's turns would by chance come round to the same replica.
GAMES, PLIES = 5, 6
_MOVE = "The player to move thinks about the board and takes cell {}. "


def _hits(replicas: list[VllmProcess]) -> tuple[float, float]:
    """Prompt tokens that all engines have looked up in their caches, and found."""
    queries, hits = (
        sum(metric(replica, f"vllm:prefix_cache_{what}_total") for replica in replicas)
        for what in ("queries", "hits")
    )
    return queries, hits


def _hit_rate(replicas: list[VllmProcess], policy: str, folder: Path) -> float:
    """Of games whose prompts grow, through a router with this policy."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    route = {"targets": [replica.address for replica in replicas], "policy": policy}
    config = folder / f"{policy}.yaml"
    config.write_text(yaml.safe_dump({"listen": address, "routes": {"vllm_": route}}))
    before = _hits(replicas)
    with router_process(address, config), Client(address) as llm:
        for ply in range(PLIES):
            for game in (f"{policy} {number}" for number in range(GAMES)):
                history = "".join(_MOVE.format(cell) for cell in range(ply))
                prompt = f"{game}. {history}Your move?"
                llm.generate(TINY, prompt, choices=["0", "1"], session=game)
    queries, hits = (b - a for a, b in zip(before, _hits(replicas), strict=True))
    return hits / queries


def test_a_session_stays_where_its_prefix_is(vllm: VllmProcess, tmp_path: Path) -> None:
    entry = {
        "name": TINY,
        "model_path": str(make_tiny(tmp_path / "tiny")),
        "engine_args": {"kv_cache_memory_bytes": 1 << 28},
    }
    with VllmProcess(tmp_path, [entry]) as second:
        rates = {
            policy: _hit_rate([vllm, second], policy, tmp_path)
            for policy in ("session", "round_robin")
        }
    assert rates["round_robin"] > 0  # the counters count
    assert rates["session"] > 1.2 * rates["round_robin"], rates
