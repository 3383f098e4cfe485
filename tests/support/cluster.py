"""A Ray cluster on loopback: `python -m tests.support.cluster`.

It prints its address and ends when its input ends. RAY_AUTH_TOKEN is its key.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile


def main() -> None:
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only
    import ray

    with tempfile.TemporaryDirectory(prefix="arena-ray-", ignore_cleanup_errors=True) as folder:
        cluster = ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        print(cluster.address_info["gcs_address"], flush=True)
        sys.stdin.read()
        ray.shutdown()


if __name__ == "__main__":
    main()
