"""Runs a command in a network of its own, and notes every packet that leaves this machine.

    unshare --user --map-root-user --net python -m tests.support.isolated COMMAND...

The network has only a loopback device, to which all addresses are routed. So no packet gets
anywhere, and a listener on the device sees the destination of each one. Prints these addresses as
one JSON list and exits with the command's status.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
import threading

_ALL_PROTOCOLS = 3  # ETH_P_ALL
_IPV4, _IPV6 = 0x0800, 0x86DD


def main(command: list[str]) -> int:
    for words in (
        "link set lo up",
        "route add default dev lo",
        "-6 route add default dev lo",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    listener.bind(("lo", 0))
    found: set[str] = set()
    threading.Thread(target=_listen, args=(listener, found), daemon=True).start()
    # If this packet is not noticed, the test proves nothing.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"x", ("192.0.2.1", 9))
    status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    print(json.dumps(sorted(found)))
    return status


def _listen(listener: socket.socket, found: set[str]) -> None:
    while True:
        packet = listener.recv(100)
        kind = int.from_bytes(packet[12:14], "big")
        end = {_IPV4: 34, _IPV6: 54}.get(kind)
        if end is None:
            continue
        size = 4 if kind == _IPV4 else 16
        address = ipaddress.ip_address(packet[end - size : end])
        if not address.is_loopback and not address.is_multicast:
            found.add(str(address))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
