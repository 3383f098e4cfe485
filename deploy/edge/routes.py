"""Envoy's configuration, made from the router's: which calls go straight to a service.

A call with the header `arena-model` goes to the replicas of that prefix. All other calls go to the
router. So do calls that only the router can make: models with fallbacks or a cache, and callers
whose tokens have quotas (see router/edge.py). If no replica of a service can be reached, the router
gets the call, too: it waits, retries or explains.
"""

from __future__ import annotations

import fnmatch
import socket
from collections.abc import Collection, Iterator

from deploy.edge.parts import (
    FOREVER,
    PING,
    Json,
    follow,
    make_address,
    make_tls,
    make_trust,
    match_header,
    name_pair,
    typed,
)
from router.config import Route, RouterConfig, is_one_address
from router.edge import DOOR_HEADER, ROUTER
from router.routing import AUTHORIZATION, MODEL_HEADER, SESSION_HEADER
from services.common.config import ConfigError
from services.common.handlers import SERVICE

#: The calls that a service answers without the router.
_STRAIGHT = f"/{SERVICE.full_name}/(Generate|StreamGenerate|Score|CountTokens)".replace(".", r"\.")


def check(config: RouterConfig) -> None:
    """Raise ConfigError for a configuration with which no edge can work."""
    if config.edge is None:
        raise ConfigError(f"{config.path}: edge: the address of Envoy is missing")
    if config.cache is not None and config.cache.mode != "cache":
        raise ConfigError(
            f"{config.path}: cache.mode: {config.cache.mode} needs every call: use the router "
            "without EDGE=envoy"
        )


def make_bootstrap(config: RouterConfig) -> Json:
    """Return what Envoy reads at its start; paths are relative to its folder."""
    connections = {"max_active_downstream_connections": config.max_connections}
    monitor = "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    return {
        "node": {"id": "edge", "cluster": "arena-llm"},
        "admin": {"address": {"pipe": {"path": "admin.sock", "mode": 0o600}}},
        "dynamic_resources": {"lds_config": follow("listeners"), "cds_config": follow("clusters")},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(f"extensions.{monitor}", connections),
                }
            ]
        },
    }


def make_listeners(config: RouterConfig) -> list[Json]:
    """Return the one listener."""
    filters = []
    if config.tokens is not None:
        filters.append(("ext_authz", "ext_authz.v3.ExtAuthz", _AUTHORIZATION))
    filters.append(("router", "router.v3.Router", {"suppress_envoy_headers": True}))
    manager = {
        "stat_prefix": "edge",
        "codec_type": "HTTP2",
        "rds": {"route_config_name": "edge", "config_source": follow("routes")},
        "http2_protocol_options": {
            "max_concurrent_streams": config.max_streams,
            "connection_keepalive": PING,
        },
        "common_http_protocol_options": {"idle_timeout": f"{config.max_idle_seconds:g}s"},
        "stream_idle_timeout": FOREVER,  # a model may be silent for minutes
        "generate_request_id": False,
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "http_filters": [
            {
                "name": f"envoy.filters.http.{name}",
                "typed_config": typed(f"extensions.filters.http.{kind}", settings),
            }
            for name, kind, settings in filters
        ],
    }
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    chain: Json = {"filters": [{"name": "http", "typed_config": typed(kind, manager)}]}
    if config.tls is not None:
        chain["transport_socket"] = make_tls("DownstreamTlsContext", _server_tls(config))
    listener = {"address": make_address(resolve(config.edge or "")), "filter_chains": [chain]}
    return [typed("config.listener.v3.Listener", {"name": "edge", **listener})]


#: The router says whether a caller's call may go straight, and under which name.
_AUTHORIZATION: Json = {
    "transport_api_version": "V3",
    "grpc_service": {"envoy_grpc": {"cluster_name": ROUTER}, "timeout": "5s"},
    "clear_route_cache": True,
    "status_on_error": {"code": "ServiceUnavailable"},
    "allowed_headers": {"patterns": [{"exact": AUTHORIZATION}, {"exact": MODEL_HEADER}]},
}


def resolve(address: str) -> str:
    """Return an address with an IP address in place of a name: a listener cannot have a name."""
    if is_one_address(address):
        return address
    host, _, port = address.rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError as error:
        raise ConfigError(f"{address}: {error}") from error


def _server_tls(config: RouterConfig) -> Json:
    assert config.tls is not None  # noqa: S101 - the caller knows
    common: Json = {
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [{"name": "server", "sds_config": follow("secrets")}],
    }
    if config.tls.client_ca:
        common["validation_context"] = make_trust(config.tls.client_ca)
    required = config.tls.client_ca is not None
    return {"common_tls_context": common, "require_client_certificate": required}


def make_secrets(config: RouterConfig) -> list[Json]:
    """Return the listener's certificate. Envoy reads it again after its file was replaced."""
    if config.tls is None:
        return []
    folder = {"path": str(config.tls.certificate.absolute().parent)}
    pair = name_pair(config.tls.certificate, config.tls.key) | {"watched_directory": folder}
    secret = {"name": "server", "tls_certificate": pair}
    return [typed("extensions.transport_sockets.tls.v3.Secret", secret)]


def make_routes(config: RouterConfig, local: Collection[str]) -> list[Json]:
    """Return all routes; the first that matches is taken. local: prefixes of own engines."""
    to_router = _to_router(config.tokens is not None)
    routes: list[Json] = [
        {
            "match": {"prefix": "/", "headers": [match_header(DOOR_HEADER, "exact", ROUTER)]},
            **to_router,
        }
    ]
    for pattern in _list_router_models(config):
        header = match_header(MODEL_HEADER, "safe_regex", {"regex": pattern})
        routes.append({"match": {"prefix": "/", "headers": [header]}, **to_router})
    for prefix in sorted(config.routes, key=len, reverse=True):
        headers = [match_header(MODEL_HEADER, "prefix", prefix)]
        routes.append(
            {
                "match": {"safe_regex": {"regex": _STRAIGHT}, "headers": headers},
                "route": _straight(prefix, config.routes[prefix], prefix in local),
                # Services do not check tokens.
                "request_headers_to_remove": [AUTHORIZATION],
            }
        )
    routes.append({"match": {"prefix": "/"}, **to_router})
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    found = {"name": "edge", "virtual_hosts": hosts}
    return [typed("config.route.v3.RouteConfiguration", found)]


def _list_router_models(config: RouterConfig) -> Iterator[str]:
    """Yield expressions for the names of models whose calls only the router can make."""
    patterns: Collection[str] = config.cache.models if config.cache else ()
    for pattern in patterns:
        yield fnmatch.translate(pattern).removesuffix(r"\Z")
    for model in config.fallbacks:
        yield "".join(char if char.isalnum() else f"[{char}]" for char in model)


def _to_router(has_tokens: bool) -> Json:
    """Return a route to the router, which checks the token itself."""
    action = {
        **_deadline(),
        "cluster": ROUTER,
        # A router that restarts refuses connections for about a second.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream",
            "num_retries": 10,
            "retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"},
        },
    }
    if not has_tokens:
        return {"route": action}
    disabled = typed("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", {"disabled": True})
    return {"route": action, "typed_per_filter_config": {"envoy.filters.http.ext_authz": disabled}}


def _straight(prefix: str, route: Route, is_local: bool) -> Json:
    action: Json = {
        **_deadline(),
        "cluster": f"{prefix} or router",
        # The second attempt goes to the router. A call that may have reached a lost replica is
        # retried only where nobody bills it.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream" + (",reset" if is_local else ""),
            "num_retries": 3,
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": typed(
                    "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                    {"update_frequency": 1},
                ),
            },
        },
    }
    if route.policy == "session":
        action["hash_policy"] = [{"header": {"header_name": SESSION_HEADER}}]
    return action


def _deadline() -> Json:
    """Keep the caller's deadline, and set none."""
    return {"timeout": FOREVER, "max_stream_duration": {"grpc_timeout_header_max": FOREVER}}
