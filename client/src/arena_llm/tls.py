"""TLS of a client's connections: which certificates it trusts, and which one it shows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena_llm.errors import InvalidArgumentError

#: The variables of the environment, by the field of Tls that each sets.
VARIABLES = {
    "ca": "ARENA_LLM_CA",
    "certificate": "ARENA_LLM_CERTIFICATE",
    "key": "ARENA_LLM_KEY",
    "server_name": "ARENA_LLM_SERVER_NAME",
}
#: Set to 1 for TLS with the certificate authorities that grpc brings.
SWITCH = "ARENA_LLM_TLS"


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection is encrypted. All files are PEM.

    ca: file of the certificate authorities that may have signed the server's certificate;
        "": the public ones, which grpc brings.
    certificate, key: files of the caller's own certificate, for a server that demands one.
    server_name: a name in the server's certificate; "": the host of the target.

    A changed file is read within a second, and used for new connections.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise _make_error("a certificate needs its key, and a key its certificate")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the settings name."""
        return tuple(filter(None, (self.ca, self.certificate, self.key)))

    def stamp(self) -> tuple[Any, ...]:
        """Return a value that differs after a file has changed."""
        return tuple(map(_stamp, self.files))

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the arguments of grpc.ssl_channel_credentials. Raises InvalidArgumentError."""
        ca, key, certificate = (
            _read(path, begin) if path else None
            for path, begin in (
                (self.ca, b"CERTIFICATE-----"),
                (self.key, b"PRIVATE KEY-----"),
                (self.certificate, b"CERTIFICATE-----"),
            )
        )
        return ca, key, certificate

    def options(self) -> list[tuple[str, str]]:
        """Return the options of a channel."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []


def open_channel(
    library: Any, target: str, tls: Tls | None, options: Sequence[tuple[str, int | str]]
) -> Any:
    """Return a channel of grpc or grpc.aio. Raises InvalidArgumentError for files of `tls`."""
    if tls is None:
        return library.insecure_channel(target, options=options)
    from arena_llm._fork import grpc

    credentials = grpc.ssl_channel_credentials(*tls.read())
    return library.secure_channel(target, credentials, options=[*options, *tls.options()])


def find_tls(tls: Tls | bool | None, environ: Mapping[str, str] = os.environ) -> Tls | None:
    """Return the argument, else the settings of the environment; None: no encryption.

    tls: True: the public authorities; False: no encryption, even if the environment names files.
    """
    if isinstance(tls, Tls):
        return tls
    if tls is not None:
        return Tls() if tls else None
    values = {field: environ.get(name, "") for field, name in VARIABLES.items()}
    if any(values.values()) or environ.get(SWITCH, "0") not in ("", "0"):
        return Tls(**values)
    return None


def _stamp(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: str, part: bytes) -> bytes:
    """Return a PEM file. Checks that it has this part, because grpc's own error does not help."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise _make_error(f"{path} cannot be read: {error.strerror}") from None
    if part not in text:
        raise _make_error(f"{path} has no {part.decode().strip('-').lower()} in PEM form")
    return text


def _make_error(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"TLS: {problem}", reason="INVALID_REQUEST", field="tls")
