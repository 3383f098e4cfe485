"""`python -m deploy.edge`: Envoy, with a configuration that follows that of the router."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from deploy.edge import clusters, routes
from deploy.edge.envoy import Envoy, EnvoyError
from deploy.services import ALL_SERVICES, find_service
from router.config import RouterConfig
from router.targets import read_sets
from services.common.config import ConfigError, config_path
from services.common.log import configure_logging, log
from services.common.reload import stamp_file

#: Seconds between two looks at the files.
_PAUSE = 0.5


class Edge:
    """Envoy, and the files that it follows."""

    def __init__(self, folder: Path) -> None:
        self._path = config_path("router.yaml")
        self._local = {f"{service.name}_" for service in ALL_SERVICES if service.has_engines}
        self._envoy = Envoy(folder)
        self._files: tuple[Path, ...] = (self._path,)
        self._stamps: list[object] = []
        self._wake = threading.Event()
        self._stopping = False

    def run(self) -> int:
        """Run until SIGTERM (exit status 0) or until Envoy ends (1). Raises ConfigError."""
        config = self._load()
        self._envoy.write_bootstrap(routes.make_bootstrap(config))
        self._apply(config)
        self._envoy.start()
        self._envoy.wait_applied()
        log.info("serving", service="edge", pid=os.getpid(), address=config.edge)
        while not self._stopping and self._envoy.status is None:
            wanted = self._wake.wait(_PAUSE)
            self._wake.clear()
            if not self._stopping and (wanted or self._stamp() != self._stamps):
                self._reload()
        if self._envoy.status is not None:
            log.error("failed", service="edge", reason=f"Envoy ended with {self._envoy.status}")
            return 1
        log.info("stopping", service="edge")
        self._envoy.stop()
        return 0

    def _load(self) -> RouterConfig:
        config: RouterConfig = find_service("router").read_config()
        routes.check(config)
        self._files = (self._path, config.replicas)
        self._stamps = self._stamp()
        return config

    def _apply(self, config: RouterConfig) -> bool:
        resources: dict[str, list[dict[str, Any]]] = {
            "secrets": routes.make_secrets(config),
            **clusters.make_endpoints(config, read_sets(config.replicas)),
            "clusters": clusters.make_clusters(
                config, self._local, find_service("router").caller_tls
            ),
            "routes": routes.make_routes(config, self._local),
            "listeners": routes.make_listeners(config),
        }
        return self._envoy.write(resources)

    def _reload(self) -> None:
        """Follow the files; if they cannot be used, the old configuration stays."""
        files = [str(path) for path in self._files]
        try:
            is_new = self._apply(self._load())
            self._envoy.wait_applied()
        except (ConfigError, EnvoyError) as error:
            log.error("configuration not reloaded", files=files, reason=str(error))
            return
        changed = "routes or replicas" if is_new else "nothing"
        log.info("configuration reloaded", files=files, changed=changed)

    def _stamp(self) -> list[object]:
        return [stamp_file(path) for path in self._files]

    def stop(self, *_: object) -> None:
        """End `run` in good order. It can handle signals."""
        self._stopping = True
        self._wake.set()

    def reload(self, *_: object) -> None:
        """Look at the files now. It can handle signals."""
        self._wake.set()


def main() -> None:
    """Run, and exit."""
    configure_logging()
    edge_process = Edge(Path(os.environ.get("ARENA_RUN_DIR") or ".run") / "edge")
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, edge_process.stop)
    signal.signal(signal.SIGHUP, edge_process.reload)
    try:
        sys.exit(edge_process.run())
    except (ConfigError, EnvoyError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
