"""What GetServiceInfo says about a backend: each of its processes is asked separately."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import grpc

from arena_llm.types import BackendInfo, Limits, ReplicaInfo, ReplicaState, ServiceInfo
from arena_llm.v1 import service_info_pb2
from arena_llm.wire import from_message
from router.backend import Backend
from router.fanout import explain
from router.routing import Metadata

_REQUEST = service_info_pb2.GetServiceInfoRequest().SerializeToString()


async def describe(backend: Backend, seconds: float, metadata: Metadata) -> BackendInfo:
    """Return the backend with one item for each replica, each asked with this timeout."""
    addresses = backend.replicas.addresses
    if not addresses:
        return _describe_none(backend)
    answers = await asyncio.gather(
        *(_ask(backend, address, seconds, metadata) for address in addresses)
    )
    replicas = tuple(replica for replica, _ in answers)
    answered = [own for _, own in answers if own is not None]
    credits = next((own.credits for own in answered if own.credits is not None), None)
    limits = min(
        (own.limits for own in answered if own.limits is not None),
        key=lambda found: found.request_id_seconds,
        default=None,
    )
    if backend.held:
        first = replicas[0]
        detail = "; ".join(filter(None, (_describe_held(backend), first.detail)))
        waiting = first.calls_waiting + backend.held
        replicas = (replace(first, detail=detail, calls_waiting=waiting), *replicas[1:])
    return BackendInfo(backend.name, (backend.prefix,), replicas, credits, limits)


def _describe_none(backend: Backend) -> BackendInfo:
    """Return a backend without replicas: its host has no address, or was not looked up yet."""
    state, detail = ReplicaState.UNREACHABLE, "there is no replica: the name has no address"
    if backend.holds:
        state, detail = ReplicaState.UNKNOWN, f"there is no replica; {_describe_held(backend)}"
    replica = ReplicaInfo(backend.addresses, state, detail, calls_waiting=backend.held)
    return BackendInfo(backend.name, (backend.prefix,), (replica,))


def _describe_held(backend: Backend) -> str:
    return f"calls that wait for a replica that serves: {backend.held}"


def shorten_window(limits: Limits, backends: Iterable[BackendInfo]) -> Limits:
    """Return the router's limits with the shortest request_id_seconds of its backends.

    The router itself remembers no request_id.
    """
    times = [found.limits.request_id_seconds for found in backends if found.limits is not None]
    return replace(limits, request_id_seconds=min(times, default=0))


async def _ask(
    backend: Backend, address: str, seconds: float, metadata: Metadata
) -> tuple[ReplicaInfo, BackendInfo | None]:
    """Return a replica, and what it says about its backend if it answers."""
    metadata += backend.serve_metadata(seconds)
    call = backend.replica(address)(_REQUEST, timeout=seconds, metadata=metadata)
    try:
        answer = service_info_pb2.GetServiceInfoResponse.FromString(await call)
    except grpc.aio.AioRpcError as error:
        failure = backend.explain_failure(error)
        state = ReplicaState.UNREACHABLE if failure else ReplicaState.UNKNOWN
        return ReplicaInfo(address, state, explain(backend, error, address)), None
    finally:
        call.cancel()
    return _read(address, from_message(answer, ServiceInfo))


def _read(address: str, info: ServiceInfo) -> tuple[ReplicaInfo, BackendInfo]:
    """Read what a replica says about itself. A router behind this one has several backends."""
    own = info.backends[0] if len(info.backends) == 1 else BackendInfo("")
    first = own.replicas[0] if len(own.replicas) == 1 else ReplicaInfo("", ReplicaState.SERVING)
    replica = replace(
        first,
        address=address,
        software_version=info.software_version,
        contract_revision=info.contract_revision,
    )
    # In the first contract revision, only the service as a whole had limits.
    return replica, replace(own, limits=own.limits or info.limits)
