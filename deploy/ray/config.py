"""configs/ray.yaml: which services run on a Ray cluster, and how they scale."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from arena_llm.connection import split_host_port
from services.common.addresses import HostPort, is_loopback
from services.common.config import StrictModel


class RayService(StrictModel):
    """One service: its deployment, which is an application of Ray Serve with the service's name.

    min_replicas, max_replicas: with a minimum of 0 it scales to zero. calls_per_replica: calls in
    flight for which one replica is enough. up_seconds, down_seconds: how long there must be more
    or fewer calls before a replica is added or removed. gpus, cpus: of one replica. If gpus is
    None, it follows from the service's own configuration. python: the interpreter on the nodes, for
    a service with its own environment; "": that of Ray.
    """

    min_replicas: Annotated[int, Field(ge=0)] = 0
    max_replicas: PositiveInt = 1
    calls_per_replica: PositiveFloat = 8
    up_seconds: NonNegativeFloat = 1
    down_seconds: NonNegativeFloat = 300
    gpus: NonNegativeFloat | None = None
    cpus: NonNegativeFloat = 1
    python: str = ""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is larger than max_replicas")
        return self


class RayConfig(StrictModel):
    """The whole file.

    listen: of the ingress, which speaks plain text: loopback, unless `insecure: true` says that the
    network is private. Ray Serve uses the five ports after this one, too. services: by name, such
    as hf.
    """

    listen: HostPort = "127.0.0.1:50060"
    insecure: bool = False
    services: Annotated[dict[str, RayService], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_listen(self) -> Self:
        if not self.insecure and not is_loopback(self.listen):
            raise ValueError(
                f"listen: {self.listen} is reachable from other machines, and Ray Serve's gRPC "
                "ingress has no encryption: use 127.0.0.1 with the router beside it, or say "
                "`insecure: true` if the network is private"
            )
        return self

    @property
    def host(self) -> str:
        """The host of `listen`."""
        return split_host_port(self.listen, 0)[0].strip("[]")

    @property
    def port(self) -> int:
        """The port of `listen`."""
        return split_host_port(self.listen, 0)[1]
