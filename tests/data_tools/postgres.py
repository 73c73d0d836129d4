"""A real PostgreSQL server for a while, on a free port of loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian keeps off the PATH; None without them."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).parent] if initdb else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@contextmanager
def server(folder_of_programs: Path) -> Iterator[str]:
    """URL of a fresh server, without the name of a database."""
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="loctex-pg-") as folder:
        if user:
            shutil.chown(folder, user)
        place = Path(folder) / "server"

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [folder_of_programs / program, "-D", place, *arguments],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        run("initdb", "-A", "trust", "-U", "studio", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql://studio@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def new_database(url: str) -> str:
    """URL of an empty database of the server."""
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url}/{name}"
