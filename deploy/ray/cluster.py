"""Starts and stops the services on a Ray cluster, which is started here if there is none."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from deploy.ray.config import RayConfig, RayService
from deploy.ray.replica import LlmReplica
from services.common.backend import BaseLLMBackend
from services.common.config import ConfigError, ServiceConfig, config_path, load_config

ROOT = Path(__file__).resolve().parents[2]

#: The packages that Ray sends to the nodes: the code of the services.
_PACKAGES = ("services", "deploy", "client/src/arena_llm")

#: Calls that Serve sends to one replica. The service itself refuses too many calls, and says why.
_MOST_CALLS = 100_000

#: Seconds that calls have to end, before a replica is stopped.
_GRACE = 30.0

#: Seconds that Serve's proxy has to start.
_PROXY_START = 60


def serve_variables(config: RayConfig) -> dict[str, str]:
    """Return the settings of Serve that are variables: of HAProxy in front of the replicas.

    Serve's own proxy, in Python, needs four times the CPU.
    """
    port = config.port
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deploy.ray.replica.listen_privately",
        "RAY_SERVE_PROXY_USE_GRPC": "0",  # it would call a server that has no address here
        # All calls of a session go to one replica. The line break begins another line of HAProxy's
        # configuration; without that line most sessions move when a replica comes or goes.
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": "hdr(arena-session)\n    hash-type consistent",
        # A replica that was killed gets no calls after two seconds.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "500ms",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_RISE": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(port + 2),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(port + 3),
        # A proxy that is not ready in time is killed. Five seconds, Serve's own bound, are too few
        # for one that starts on a busy machine.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(_PROXY_START),
        "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": str(_PROXY_START),
        # The fallback proxy holds calls while there is no replica.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(port + 4),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(port + 5),
    }


class RayProblem(Exception):
    """The cluster cannot be used. The message says what to do."""


def up(address: str | None) -> None:
    """Deploy the services of configs/ray.yaml; start Ray here without an address."""
    config = read_config()
    for name in config.services:
        read_backend(name)  # a wrong file is found here
    if address is None and _Here.find() is None:
        _Here.start()
    with connect(address) as (ray, serve):
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={"host": config.host, "port": config.port + 1},
                grpc_options={
                    "port": config.port,
                    "grpc_servicer_functions": ["deploy.ray.replica.add_llm_service"],
                    "enable_reflection": False,
                },
            )
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise RayProblem(
                f"the proxy of Ray Serve did not start at {config.listen}: {error}\n"
                "Does another process use the ports after it? Run `make ray-up` again."
            ) from error
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        for name, service in config.services.items():
            application = make_application(serve, name, service, has_gpus)
            try:
                serve.run(application, name=name, route_prefix=f"/{name}")
            except RuntimeError as error:
                raise RayProblem(f"Ray Serve cannot run {name}: {error}") from error


def read_config() -> RayConfig:
    """Return configs/ray.yaml. Raises ConfigError."""
    return load_config(config_path("ray.yaml"), RayConfig)


def down(address: str | None) -> bool:
    """Stop the services, and Ray if `up` has started it. False if none runs here."""
    here = _Here.find()
    if address is None and here is None:
        return False
    with connect(address) as (_, serve):
        serve.shutdown()
    if address is None and here is not None:
        here.stop()
    return True


def status(address: str | None) -> str:
    """Return the state of each service: a line each."""
    with connect(address) as (_, serve):
        lines = []
        for name, application in sorted(serve.status().applications.items()):
            states: dict[str, int] = {}
            for deployment in application.deployments.values():
                for state, count in deployment.replica_states.items():
                    states[str(getattr(state, "value", state))] = count
            replicas = ", ".join(f"{count} {state.lower()}" for state, count in states.items())
            state = str(application.status.value).lower()
            lines.append(f"{name:<12} {state:<12} replicas: {replicas or 'none'}")
            if application.message:
                lines.append(f"{'':<12} {application.message.strip()}")
        return "\n".join(lines)


def make_application(serve: Any, name: str, service: RayService, has_gpus: bool) -> Any:
    """Return the application of one service for `serve.run`."""
    backend_type, config = read_backend(name)
    scaling = {
        "min_replicas": service.min_replicas,
        "initial_replicas": service.min_replicas,
        "max_replicas": service.max_replicas,
        "target_ongoing_requests": service.calls_per_replica,
        "upscale_delay_s": service.up_seconds,
        "downscale_delay_s": service.down_seconds,
        "metrics_interval_s": min(1.0, max(service.up_seconds, 0.1)),
        "look_back_period_s": min(2.0, max(service.up_seconds, 0.2)),
    }
    gpus = count_gpus(config, has_gpus) if service.gpus is None else service.gpus
    environment = {"py_executable": service.python} if service.python else {}
    deployment = serve.deployment(LlmReplica).options(
        name=name,
        autoscaling_config=scaling,
        max_ongoing_requests=_MOST_CALLS,
        graceful_shutdown_timeout_s=_GRACE,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=1,
        health_check_timeout_s=10,
        ray_actor_options={
            "num_cpus": service.cpus,
            "num_gpus": gpus,
            **({"runtime_env": environment} if environment else {}),
        },
    )
    return deployment.bind(partial(backend_type, config), name)


def read_backend(name: str) -> tuple[type[BaseLLMBackend[Any]], ServiceConfig]:
    """Return the class of a service's backend, and its configuration. Raises ConfigError."""
    try:
        module = import_module(f"services.{name}.backend")
    except ImportError as error:
        raise ConfigError(f"configs/ray.yaml: services.{name}: there is no such service") from error
    backend = next(
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, BaseLLMBackend)
        and getattr(found, "name", "") == name
    )
    config = load_config(config_path(f"{name}_models.yaml"), backend.config_type)
    # The replicas have another working directory.
    models = [
        model.model_copy(update={"model_path": path.absolute()})
        if (path := getattr(model, "model_path", None))
        else model
        for model in getattr(config, "models", ())
    ]
    return backend, config.model_copy(update={"models": models} if models else {})


def count_gpus(config: Any, has_gpus: bool) -> float:
    """Return the GPUs that one replica of a service needs, by its models.

    has_gpus: the cluster has some, which `device: auto` then uses.
    """
    needed = 0
    for model in getattr(config, "models", ()):
        device = getattr(model, "device", getattr(config, "device", "cpu"))
        if device == "cuda" or (device == "auto" and has_gpus):
            arguments = getattr(model, "engine_args", None)
            if arguments is None:  # all models of hf share one GPU
                return 1
            needed += int(arguments.get("tensor_parallel_size", 1)) * int(
                arguments.get("pipeline_parallel_size", 1)
            )
    return needed


@contextmanager
def connect(address: str | None) -> Iterator[tuple[Any, Any]]:
    """Connect to a cluster; without an address, to the one that `up` has started here."""
    here = _Here.find()
    if address is None:
        if here is None:
            raise RayProblem("no Ray runs here: run `make ray-up`, or name a cluster by ADDRESS")
        address = here.address
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": here.token}
    if address.startswith(("127.", "localhost:")):
        # Makes Ray look for the node at loopback, in spite of the variable's name.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    variables = serve_variables(read_config())
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", **variables}
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise RayProblem(
            f"Ray Serve is not installed ({error}): run `make setup WITH=ray-serve`"
        ) from error
    runtime_env = {
        "py_modules": [str(ROOT / package) for package in _PACKAGES],
        "excludes": ["__pycache__"],
        "env_vars": variables,
    }
    try:
        ray.init(
            address=address,
            namespace="serve",
            runtime_env=runtime_env,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # of many types
        raise RayProblem(f"Ray at {address}: {' '.join(str(error).split())}") from error
    try:
        yield ray, serve
    finally:
        ray.shutdown()


class _Here:
    """Ray on this machine, as `up` has started it. It listens on loopback, and has a token."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.pid: int = state["pid"]
        self.address: str = state["address"]
        self.token: str = state["token"]

    @staticmethod
    def _file() -> Path:
        return Path(os.environ.get("ARENA_RUN_DIR") or ".run") / "ray.json"

    @classmethod
    def find(cls) -> _Here | None:
        """Return Ray on this machine; None if it does not run."""
        try:
            here = cls(json.loads(cls._file().read_text()))
            command = Path(f"/proc/{here.pid}/cmdline").read_bytes()
        except (OSError, ValueError, KeyError):
            return None
        return here if b"deploy.ray" in command else None

    @classmethod
    def start(cls) -> None:
        """Start it, and wait until it answers."""
        file = cls._file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        token = secrets.token_hex(32)
        environ = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        with open(file.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploy.ray", "head"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environ,
                start_new_session=True,
                text=True,
            )
        assert process.stdout is not None  # noqa: S101 - for mypy
        if not (address := process.stdout.readline().strip()):
            raise RayProblem(f"Ray did not start: {file.with_suffix('.log')} says why")
        state = {"pid": process.pid, "address": address, "token": token}
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as written:
            json.dump(state, written)

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        while self.find() is not None:
            time.sleep(0.1)
        self._file().unlink(missing_ok=True)


def run_head() -> None:
    """Run Ray on this machine until SIGTERM: the process behind `_Here`."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only
    import ray

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="arena-ray-", ignore_cleanup_errors=True) as folder:
        cluster: Any = ray.init(
            address="local", include_dashboard=False, logging_level=logging.ERROR, _temp_dir=folder
        )
        print(cluster.address_info["gcs_address"], flush=True)
        try:
            signal.pause()
        finally:
            ray.shutdown()
