"""A Ray cluster on loopback: `python -m tests.support.cluster`.

It prints its address. Each line of its input, an object of environment variables, adds a node with
one processor, whose raylet's pid it prints. It ends when its input ends. RAY_AUTH_TOKEN is its key.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile


def main() -> None:
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only
    with tempfile.TemporaryDirectory(
        prefix="arena-ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        os.environ["RAY_TMPDIR"] = folder  # read at import
        from ray.cluster_utils import Cluster

        options = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**options, "num_cpus": 0})
        print(cluster.address, flush=True)
        for line in sys.stdin:
            node = cluster.add_node(num_cpus=1, env_vars=json.loads(line), **options)
            print(node.all_processes["raylet"][0].process.pid, flush=True)
        cluster.shutdown()


if __name__ == "__main__":
    main()
