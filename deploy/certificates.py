"""`make certs`: a certificate authority, and certificates that it signs.

The authority is made once; its key must stay on the machine that makes certificates. Every call
makes new certificates for the services and for their callers. This also renews them, because
running services read changed files by themselves.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.supervisor import DeployError

#: A name in the certificate of every service: the `server_name` of a route to several machines.
SERVICE_NAME = "arena-llm"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_AUTHORITY_DAYS = 3650
_DAYS = 365
#: The clock of another machine may be slow.
_SKEW = datetime.timedelta(hours=1)


#: A host's name. Its first part may be *.
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")


def make_certificates(folder: Path, hosts: Sequence[str]) -> list[Path]:
    """Write ca, server and client, each as .crt and .key, and return the paths that are new.

    hosts: further names and IP addresses of the machines on which services listen; empty: those
    of the present certificate. Raises DeployError.
    """
    for host in hosts:
        if not _is_address(host) and not _HOST.fullmatch(host):
            raise DeployError(
                f"HOSTS: {host!r} is not an IP address or a host's name (without a port; a name "
                "with other letters in its form with xn--)"
            )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: list[Path] = []
    if not (folder / "ca.crt").exists():
        made += _make_authority(folder)
    authority, key = _read_authority(folder)
    hosts = hosts or list_names(folder / "server.crt")
    names = tuple(dict.fromkeys((SERVICE_NAME, *_LOCAL, *hosts)))
    uses = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    for name, use in uses.items():
        own = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_make_name(host) for host in (names if name == "server" else (name,))]
        certificate = (
            _begin(name, own, authority.subject, _DAYS)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        made += _write(folder / name, certificate, own)
    return made


def list_names(path: Path) -> Sequence[str]:
    """Return the names and addresses of a certificate; none if there is no such file."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FileNotFoundError, ValueError, x509.ExtensionNotFound):
        return ()
    return [str(name.value) for name in names]


def _read_authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = folder / "ca.crt", folder / "ca.key"
    try:
        authority = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        if private.public_key() != authority.public_key():
            raise ValueError
    except FileNotFoundError:
        problem = f"{key} is missing"
    except (ValueError, TypeError):
        problem = f"{certificate} and {key} are not an authority and its key"
    else:
        return authority, cast(ec.EllipticCurvePrivateKey, private)
    raise DeployError(
        f"{problem}: make certificates on the machine that has both files, or move {folder} away: "
        "then a new authority is made, which callers must get"
    )


def _make_authority(folder: Path) -> list[Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Arena LLM laboratory")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _begin("Arena LLM laboratory", key, subject, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _write(folder / "ca", certificate, key)


def _begin(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _make_name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(host)


def _write(
    stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> list[Path]:
    """Replace both files, the key first: a service that sees one new file waits for the other."""
    texts = {
        ".key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        ".crt": certificate.public_bytes(serialization.Encoding.PEM),
    }
    written = []
    for suffix, text in texts.items():
        path, new = stem.with_suffix(suffix), stem.with_suffix(f"{suffix}.new")
        new.touch(mode=0o600)
        new.write_bytes(text)
        os.replace(new, path)
        written.append(path)
    return written
