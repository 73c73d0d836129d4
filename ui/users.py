"""The users file: one person a line, `name role hash` (argon2). Add one, asking for the password:

python -m ui.users FILE NAME [--role annotator|reviewer|admin]
"""

import argparse
import asyncio
import getpass
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from loctex.records.files import write_whole
from ui.guard import logins
from ui.guard.turns import Turns

log = logging.getLogger("studio")
ROLES = ("annotator", "reviewer", "admin")  # each may also do what those before it may


def read(path: Path) -> dict[str, tuple[str, str]]:
    """name -> (role, hash); ValueError "FILE:LINE: what is wrong"."""
    users = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = line.split()
        if len(columns) != 3 or columns[1] not in ROLES or not columns[2].startswith("$argon2"):
            raise ValueError(f"{path}:{number}: must be `name {'|'.join(ROLES)} $argon2...`")
        users[columns[0]] = (columns[1], columns[2])
    if not users:
        raise ValueError(f"{path}: names nobody; add one with `python -m ui.users {path} NAME`")
    return users


class UnreadableUsersError(ValueError):
    """The users file of a running studio is gone or broken, as while somebody edits it."""


def current(path: Path) -> dict[str, tuple[str, str]]:
    """`read` for a running studio, which asks at each request: anew where the file has changed.

    Raises UnreadableUsersError, a sentence for whoever asks; what is wrong stands in the log.
    """
    try:
        status = path.stat()
        return _read_once(path, status.st_ino, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError) as error:
        log.error("the users file cannot be read: %s", error)
        raise UnreadableUsersError(
            "The list of logins cannot be read just now, so nobody is let in. Try again in a "
            "moment; the person who runs this studio finds the reason in its log."
        ) from error


@lru_cache(maxsize=4)
def _read_once(path: Path, *version: int) -> dict[str, tuple[str, str]]:
    return read(path)


def add(path: Path, name: str, role: str, password: str) -> None:
    """Add a person, or change the one of that name."""
    if not name or name.split() != [name] or name.startswith("#"):
        raise ValueError(f"name: must be one word, got {name!r}")
    if role not in ROLES:
        raise ValueError(f"role: must be one of {', '.join(ROLES)}, got {role!r}")
    if len(password) < 8:
        raise ValueError("password: must have 8 characters or more")
    users = read(path) if path.exists() else {}
    users[name] = (role, argon2.PasswordHasher().hash(password))
    write_whole(path, "".join(f"{n} {r} {h}\n" for n, (r, h) in users.items()))
    path.chmod(0o600)


def role_of(path: Path, name: str | None) -> str | None:
    """The role of a person; None for somebody unknown."""
    return current(path).get(name or "", (None, ""))[0]


def login(path: Path) -> Callable[[str, str], Any]:
    """The question that Gradio awaits: is this the person's password? Asked one at a time, in a
    thread: a hash takes a tenth of a second of two cores, in which the page goes on."""
    read(path)  # refuse a bad file at the start, not at the first login
    hasher, turns = argon2.PasswordHasher(), Turns()
    nobody = hasher.hash("")  # an unknown name takes as long as a wrong password

    def verify(hashed: str, password: str) -> bool:
        try:
            return hasher.verify(hashed, password) and hashed != nobody
        except (VerificationError, InvalidHashError):
            return False

    async def is_right(name: str, password: str) -> bool:
        client = logins.address.get()
        async with turns.turn(client):
            _, hashed = current(path).get(name, ("", nobody))
            is_own = await asyncio.to_thread(verify, hashed, password)
        if is_own:
            log.info("%r logged in from %s", name[:60], client)
        else:
            log.warning("wrong password for %r from %s", name[:60], client)
        return is_own

    return is_right


def main() -> None:
    parser = argparse.ArgumentParser(description="Add a person to the users file of the studio.")
    parser.add_argument("file", type=Path, help="created where it is missing")
    parser.add_argument("name", help="the login name, one word")
    parser.add_argument("--role", choices=ROLES, default="annotator", help="default: annotator")
    arguments = parser.parse_args()
    try:
        password = getpass.getpass(f"Password of {arguments.name}: ")
        add(arguments.file, arguments.name, arguments.role, password)
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
