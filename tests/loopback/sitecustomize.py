"""Python imports this by itself when it starts: no test, and no program that a test starts, reaches
beyond this machine. tests/conftest.py puts the folder on PYTHONPATH."""

import ipaddress
import socket
import sys
from typing import Any


def is_here(address: Any) -> bool:
    """Whether a socket's address lies on this machine: a file, localhost, or a loopback number."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0]).partition("%")[0]
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "localhost")
    return number.is_loopback or number.is_unspecified


def _refuse(event: str, arguments: tuple) -> None:
    is_sent = event == "socket.sendto"
    if event == "socket.connect":
        # To connect a datagram socket sends nothing; programs find their own address so.
        is_sent = arguments[0].type != socket.SOCK_DGRAM
    if is_sent and not is_here(arguments[1]):
        raise ConnectionRefusedError(f"tests stay on this machine: {event} {arguments[1]}")


sys.addaudithook(_refuse)
