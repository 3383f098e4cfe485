"""What a service says about itself: its version, the revisions of the contract, its limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import version

from arena_llm.connection import MAX_MESSAGE_BYTES
from arena_llm.types import BackendInfo, Limits, ServiceInfo
from arena_llm.v1 import REVISION
from services.common.config import ServiceConfig
from services.common.content import MAX_IMAGE_BYTES, MAX_IMAGES, MAX_MESSAGES

#: The version of this software, as every reply names it.
SOFTWARE_VERSION = version("arena-llm-services")

#: The oldest revision of a client's contract that is served.
MINIMUM_CLIENT_REVISION = 1


def make_service_info(service: str, limits: Limits, backends: Iterable[BackendInfo]) -> ServiceInfo:
    """Return what this process says about itself and about these backends."""
    return ServiceInfo(
        service, SOFTWARE_VERSION, REVISION, MINIMUM_CLIENT_REVISION, limits, tuple(backends)
    )


def make_limits(config: ServiceConfig) -> Limits:
    """Return the limits in force with a configuration, of all workers together."""
    config = config.whole
    return Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_bytes_in_flight=config.max_bytes_in_flight,
        max_calls_in_flight=config.max_calls_in_flight,
        max_messages=MAX_MESSAGES,
        max_images=MAX_IMAGES,
        max_image_bytes=MAX_IMAGE_BYTES,
        request_id_seconds=math.ceil(config.request_id_seconds),
    )
