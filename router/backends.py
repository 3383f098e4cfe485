"""The backends of the routes: which one serves a model, and what changes with the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import grpc

from arena_llm.errors import InvalidArgumentError
from arena_llm.types import BackendInfo
from arena_llm.v1 import models_pb2
from router.backend import Backend
from router.config import Route
from router.replicas import describe
from router.routing import Metadata, find_prefix
from services.common.call import CallRecord
from services.common.config import ConfigError
from services.common.errors import UnknownPrefix
from services.common.log import log


class Backends(Mapping[str, Backend]):
    """A backend for each prefix of a route."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, Backend] = {}

    def __getitem__(self, prefix: str) -> Backend:
        return self._by_prefix[prefix]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_prefix)

    def __len__(self) -> int:
        return len(self._by_prefix)

    async def prepare(self, routes: Mapping[str, Route]) -> dict[str, Backend]:
        """Return a backend for each route; a route that stays the same keeps its own.

        Raises ConfigError.
        """
        new: dict[str, Backend] = {}
        try:
            for prefix, route in routes.items():
                old = self._by_prefix.get(prefix)
                try:
                    backend = old if old and old.serves(route) else Backend(prefix, route)
                except InvalidArgumentError as error:  # a file of its tls
                    raise ConfigError(f"routes.{prefix}: {error.message}") from error
                new[prefix] = backend
                if old and old.holds and not backend.holds:
                    # Calls would fail until grpc tries to connect to the restarted replica again.
                    await backend.connect()
        except BaseException:
            known = self._by_prefix.values()
            await asyncio.gather(*(one.aclose() for one in new.values() if one not in known))
            raise
        return new

    def list_renewed(self, new: Mapping[str, Backend]) -> Iterator[str]:
        """Yield the routes whose certificates have changed."""
        for prefix, backend in new.items():
            old = self._by_prefix.get(prefix)
            if old is not None and old.has_other_files(backend):
                yield f"routes.{prefix}.tls"

    def replace(self, new: dict[str, Backend]) -> list[Backend]:
        """Let the next call use these. Returns those whose routes are gone."""
        old, self._by_prefix = self._by_prefix, new
        for prefix, backend in new.items():
            if prefix in old and old[prefix].targets != backend.targets:
                log.info("replicas changed", backend=backend.name, targets=backend.addresses)
        return [backend for backend in old.values() if backend not in new.values()]

    def find(self, model: str, record: CallRecord) -> Backend:
        """Return the backend of a model. Raises UnknownPrefix, InvalidRequest."""
        backend = self[find_prefix(model, self._by_prefix)]
        record.add(backend=backend.name)
        return backend

    async def ask(self, model: str, seconds: float) -> models_pb2.ModelInfo | None:
        """Return what a model's backend says about it; None without an answer."""
        try:
            backend = self[find_prefix(model, self._by_prefix)]
        except UnknownPrefix:  # its route has just gone
            return None
        request = models_pb2.IsAvailableRequest(model=model).SerializeToString()
        call = backend.call("IsAvailable", request, seconds)
        try:
            return models_pb2.IsAvailableResponse.FromString(await call).model
        except grpc.aio.AioRpcError:
            return None
        finally:
            call.cancel()

    async def describe(self, seconds: float, metadata: Metadata) -> Sequence[BackendInfo]:
        """Return what each backend says of itself."""
        return await asyncio.gather(
            *(describe(backend, seconds, metadata) for backend in self.values())
        )

    async def aclose(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(backend.aclose() for backend in self.values()))
