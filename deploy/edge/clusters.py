"""What Envoy calls: the router, and the replicas of each prefix."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from arena_llm.tls import Tls
from deploy.edge.parts import (
    PING,
    Json,
    follow,
    make_address,
    make_tls,
    make_trust,
    name_pair,
    typed,
)
from deploy.probe import reachable
from router.config import Route, RouterConfig, ip_version, is_one_address
from router.edge import ROUTER
from router.targets import KnownSets
from services.common.config import ConfigError

#: Envoy's default bounds are small. The bounds of the services are enough.
_NO_BOUND = 2**31 - 1


def make_clusters(
    config: RouterConfig, local: Collection[str], router_tls: Tls | None
) -> list[Json]:
    """Return the router, and for each prefix its replicas, with the router as their substitute.

    local: prefixes of services with engines. router_tls: how a client of this machine calls the
    router.
    """
    clusters = [_router_cluster(config, router_tls)]
    for prefix, route in config.routes.items():
        clusters.append(_replicas(prefix, route, prefix in local))
        both = {"clusters": [prefix, ROUTER]}
        kind = {
            "name": "envoy.clusters.aggregate",
            "typed_config": typed("extensions.clusters.aggregate.v3.ClusterConfig", both),
        }
        clusters.append(
            _cluster(
                f"{prefix} or router", {"lb_policy": "CLUSTER_PROVIDED", "cluster_type": kind}, {}
            )
        )
    return clusters


def _router_cluster(config: RouterConfig, tls: Tls | None) -> Json:
    if config.tls is not None and tls is None:
        raise ConfigError(
            f"{config.path}: tls: the edge calls the router as every client does: set ARENA_LLM_CA"
        )
    target = reachable(config.listen)
    settings = {"type": "STATIC", "load_assignment": _assignment(ROUTER, [target])}
    if config.tls is not None and tls is not None:
        name = tls.server_name or target.rpartition(":")[0].strip("[]")
        settings["transport_socket"] = make_tls("UpstreamTlsContext", _client_tls(tls, name))
    return _cluster(ROUTER, settings, {})


def _replicas(prefix: str, route: Route, is_local: bool) -> Json:
    settings: Json = {
        # Not RING_HASH: Envoy gives each replica fewer places on its ring if there are more of
        # them, so that sessions also move between old ones. With Maglev 20.5 % move from 4 to 5.
        "lb_policy": "MAGLEV" if route.policy == "session" else "ROUND_ROBIN",
        # An unhealthy replica is never called. Without healthy ones the router is called.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "ignore_health_on_host_removal": True,
        "close_connections_on_host_health_failure": True,
        "health_checks": [
            {
                "grpc_health_check": {},
                "timeout": "2s",
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
            }
        ],
    }
    if not is_one_address(route.targets[0]):
        settings |= {
            "type": "STRICT_DNS",
            "dns_refresh_rate": "5s",
            "load_assignment": _assignment(prefix, route.targets),
        }
    else:
        settings |= {
            "type": "EDS",
            "eds_cluster_config": {"eds_config": follow(_endpoint_file(prefix))},
        }
    if is_local:
        # Local services only: if a hosted service says UNAVAILABLE, its provider is the reason.
        settings["outlier_detection"] = {
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "base_ejection_time": "5s",
            "max_ejection_percent": 50,
        }
    if route.tls is not None:
        own = route.tls.settings
        name = own.server_name or route.targets[0].rpartition(":")[0].strip("[]")
        settings["transport_socket"] = make_tls("UpstreamTlsContext", _client_tls(own, name))
    # Each connection leads to one worker of a service.
    streams = {"max_concurrent_streams": 2} if route.connections > 1 else {}
    return _cluster(prefix, settings, streams)


def make_endpoints(config: RouterConfig, sets: KnownSets) -> dict[str, list[Json]]:
    """Return the addresses of the replicas, by the name of their file.

    A service that restarts has none: the router waits.
    """
    found_by_file = {}
    for prefix, route in config.routes.items():
        if not is_one_address(route.targets[0]):
            continue
        targets: dict[str, None] = {}
        for target in route.targets:
            found = sets.get(target)
            if found is None:
                targets[target] = None
            elif not found.held:
                targets |= dict.fromkeys(found.targets)
        kind = "config.endpoint.v3.ClusterLoadAssignment"
        endpoints = typed(kind, _assignment(prefix, list(targets)))
        found_by_file[_endpoint_file(prefix)] = [endpoints]
    return found_by_file


def _endpoint_file(prefix: str) -> str:
    # As Envoy names the statistics of the cluster.
    return f"cluster.{quote(prefix, safe='')}"


def _cluster(name: str, settings: Json, streams: Json) -> Json:
    http2 = {"connection_keepalive": PING, **streams}
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        {"explicit_http_config": {"http2_protocol_options": http2}},
    )
    bounds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    thresholds = [dict.fromkeys(bounds, _NO_BOUND)]
    cluster = {
        "name": name,
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": thresholds},
        **settings,
    }
    if "cluster_type" not in settings:
        kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {kind: options}
    return typed("config.cluster.v3.Cluster", cluster)


def _assignment(name: str, targets: Sequence[str]) -> Json:
    hosts = [{"endpoint": {"address": make_address(target)}} for target in targets]
    # One healthy replica takes all calls: none overflows to the router.
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": hosts}],
        "policy": {"overprovisioning_factor": 1_000_000},
    }


def _client_tls(tls: Tls, name: str) -> Json:
    authorities = Path(tls.ca) if tls.ca else Path("/etc/ssl/certs/ca-certificates.crt")
    trust = make_trust(authorities)
    kind = "IP_ADDRESS" if ip_version(f"{name}:1") else "DNS"
    trust["match_typed_subject_alt_names"] = [{"san_type": kind, "matcher": {"exact": name}}]
    common: Json = {"alpn_protocols": ["h2"], "validation_context": trust}
    if tls.certificate:
        common["tls_certificates"] = [name_pair(Path(tls.certificate), Path(tls.key))]
    return {"common_tls_context": common, "sni": name}
