"""The suite itself: what a test does reaches no other machine."""

import socket
import subprocess
import sys

import pytest

ELSEWHERE = ("192.0.2.1", 80)  # of an address block that documentation uses


def test_no_test_connects_to_another_machine():
    with socket.socket() as connection, pytest.raises(ConnectionRefusedError, match="stay on this"):
        connection.connect(ELSEWHERE)


def test_no_program_that_a_test_starts_does():
    code = f"import socket; socket.create_connection({ELSEWHERE})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "tests stay on this machine" in result.stderr


def test_this_machine_is_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
