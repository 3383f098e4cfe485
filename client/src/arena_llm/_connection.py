"""Connection options that clients, the router and the services must agree about.

grpc silently ignores an option whose name it does not know. A test therefore compares
every name with those in grpc's library.
"""

from __future__ import annotations

Options = tuple[tuple[str, int], ...]

#: Most bytes of one message, sent or received. grpc's default of 4 MiB is too small for
#: long prompts. Without a bound one message could fill the memory.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

#: A caller pings its server after PING_MS without data, and gives the connection up when
#: no answer comes within PING_TIMEOUT_MS: it notices a hanging server after 15 seconds.
PING_MS = 10_000
PING_TIMEOUT_MS = 5_000


def message_options() -> Options:
    """Return the options that channels and servers share: size and compression."""
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Accept uncompressed messages only (bit 0). grpc checks the size of a message
        # before it unpacks it, so that 1 MB of gzip could take gigabytes of memory.
        ("grpc.compression_enabled_algorithms_bitset", 1),
    )


def pinging() -> Options:
    """Return the options that make a channel ping its server while a call runs."""
    return (
        ("grpc.keepalive_time_ms", PING_MS),
        # With grpc.keepalive_timeout_ms instead, a hanging server was noticed after 70 s.
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        # 0 is no limit: a provider can be silent for minutes.
        ("grpc.http2.max_pings_without_data", 0),
    )


def pinged() -> Options:
    """Return the options that make a server accept the pings of `pinging`.

    By default a server closes a connection, with all its calls, that is pinged more
    often than every five minutes.
    """
    return (
        ("grpc.http2.min_ping_interval_without_data_ms", PING_MS // 2),
        # The router also pings between calls.
        ("grpc.keepalive_permit_without_calls", 1),
    )
