"""Connection options that clients, the router and the services must agree about.

grpc ignores an option whose name it does not know, without a word. A test therefore
compares every name with those in grpc's library.
"""

from __future__ import annotations

Options = tuple[tuple[str, int], ...]

#: Bytes of one message, either way. grpc's own bound of 4 MiB is too near to
#: long prompts; no bound at all would let one message fill the memory.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

#: Milliseconds without data after which a caller pings its server, and that it waits
#: for the answer: a server that hangs or has vanished is noticed within 15 seconds.
PING_MS = 10_000
PING_TIMEOUT_MS = 5_000


def message_options() -> Options:
    """Of channels and servers alike."""
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Uncompressed messages only (bit 0). grpc compares the size with its bound
        # before it unpacks a message, so 1 MB of gzip could take gigabytes.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    )


def pinging() -> Options:
    """Of a channel, which pings while a call runs."""
    return (
        ("grpc.keepalive_time_ms", PING_MS),
        # Not grpc.keepalive_timeout_ms: with that alone it took a minute.
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        # A provider can be silent for minutes: ping for as long as the call runs.
        ("grpc.http2.max_pings_without_data", 0),
    )


def pinged() -> Options:
    """Of a server: it accepts those pings. By default it would close the connection,
    with all calls on it, where pings come more often than every five minutes."""
    return (
        ("grpc.http2.min_ping_interval_without_data_ms", PING_MS // 2),
        # The router also pings between calls.
        ("grpc.keepalive_permit_without_calls", 1),
    )
