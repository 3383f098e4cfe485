"""Whether callers can trust a certificate, tried before a service starts."""

from __future__ import annotations

import datetime
from contextlib import nullcontext
from pathlib import Path

import pytest

from arena_llm.tls import Tls
from deploy import certificates
from deploy.certificates import make_certificates
from deploy.handshake import check_gateway, find_server_name, try_handshake
from services.common.config import ConfigError, ServerTls


def listener(folder: Path, client_ca: Path | None = None) -> ServerTls:
    certificate, key = folder / "server.crt", folder / "server.key"
    return ServerTls(certificate=certificate, key=key, client_ca=client_ca)


def caller(folder: Path, *, certificate: bool = False) -> Tls:
    own = (str(folder / "client.crt"), str(folder / "client.key")) if certificate else ()
    return Tls(str(folder / "ca.crt"), *own)


def test_each_reason_is_named(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    for folder in (ours, others):
        make_certificates(folder, [])
    ca = ours / "ca.crt"
    for server, client, host, problem in (
        (listener(ours), caller(ours), "127.0.0.1", ""),
        (listener(ours), caller(ours), "[::1]", ""),
        (listener(ours, ca), caller(ours, certificate=True), "localhost", ""),
        (
            listener(others),
            caller(ours),
            "localhost",
            "tls.certificate: unable to get local issuer",
        ),
        (listener(ours), caller(ours), "127.0.0.2", "tls.certificate: IP address mismatch"),
        (listener(ours, ca), caller(ours), "localhost", "tls.client_ca: PEER_DID_NOT_RETURN"),
        (listener(ours, ca), caller(others), "localhost", "tls.certificate: self-signed"),
    ):
        found = try_handshake(server, client, host)
        assert found.startswith(problem), problem
        assert bool(found) == bool(problem), found
    (ours / "server.key").write_bytes((ours / "client.key").read_bytes())
    assert try_handshake(listener(ours), caller(ours), "localhost").startswith("tls: ")


def test_an_expired_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_certificates(tmp_path, [])
    monkeypatch.setattr(certificates, "_SKEW", datetime.timedelta(days=2))
    monkeypatch.setattr(certificates, "_DAYS", -1)
    make_certificates(tmp_path, [])
    found = try_handshake(listener(tmp_path), caller(tmp_path), "localhost")
    assert found == "tls.certificate: certificate has expired"


def test_a_certificate_is_checked_by_a_name_that_it_has(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["*.lab", "gpu1"])
    path = tmp_path / "server.crt"
    assert [find_server_name(path, host) for host in ("127.0.0.1", "[::1]", "gpu1")] == [""] * 3
    assert find_server_name(path, "10.0.0.1") == "arena-llm"
    assert find_server_name(tmp_path / "none.crt", "10.0.0.1") == ""


def test_the_gateway_must_lead_to_the_router(tmp_path: Path) -> None:
    """Else it is never ready, and make up would wait for it."""
    path = tmp_path / "gateway.yaml"
    make_certificates(tmp_path, [])
    tls = listener(tmp_path)
    for text, router, encryption, problem in (
        ("router: localhost:1", "127.0.0.1:1", None, ""),
        ("router: 127.0.0.1:1", "10.0.0.1:1", None, "router: the router listens on 10.0.0.1:1"),
        ("router: 127.0.0.1:1", "127.0.0.1:2", None, "router: the router listens"),
        ("router: 127.0.0.1:1", "127.0.0.1:1", tls, "router_tls: the router has tls: write"),
        ("router: 127.0.0.1:1\nrouter_tls: {ca: a}", "127.0.0.1:1", None, "has no tls: leave it"),
        ("router: 127.0.0.1:1\nrouter_tls: {ca: a}", "127.0.0.1:1", tls, ""),
        ("router: 10.0.0.1:1", "10.0.0.1:1", None, ""),
        ("router: '[::1]:1'", "[::1]:1", None, ""),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=problem) if problem else nullcontext():
            check_gateway(path, router, encryption)
