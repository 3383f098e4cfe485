"""Routes with the replicas that the process manager has started."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config import Route
from router.targets import KnownReplicas, expand, read_sets, update_sets
from services.common.config import ConfigError, ConnectionTls

ONE = "127.0.0.1:1"
BOTH = KnownReplicas(targets=[ONE, "127.0.0.1:2"])


def test_a_target_becomes_its_replicas() -> None:
    route = Route(targets=[ONE, "127.0.0.1:9"], policy="round_robin")
    whole = expand(route, {ONE: BOTH})
    assert whole.targets == [ONE, "127.0.0.1:2", "127.0.0.1:9"]
    assert (whole.policy, whole.hold) == ("round_robin", 0)
    assert expand(route, {"127.0.0.1:5": BOTH}) == route


def test_a_route_is_held_if_none_of_its_replicas_may_serve() -> None:
    held = {ONE: KnownReplicas(targets=[ONE], held=True)}
    assert expand(Route(targets=[ONE]), held).hold > 0
    assert expand(Route(targets=[ONE, "127.0.0.1:9"]), held).hold == 0


def test_encrypted_replicas_need_one_name() -> None:
    with pytest.raises(ValueError, match="several targets need a name"):
        expand(Route(targets=[ONE], tls=ConnectionTls(ca="ca.crt")), {ONE: BOTH})


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "replicas.json"
    assert read_sets(path) == {}
    assert update_sets(path, {ONE: BOTH})
    assert not update_sets(path, {ONE: BOTH})
    assert read_sets(path) == {ONE: BOTH}
    path.write_text("[]")
    with pytest.raises(ConfigError, match=r"replicas.json: cannot be read"):
        read_sets(path)
