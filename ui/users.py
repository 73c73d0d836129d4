"""The users file: one person a line, `name role hash` (argon2). Add one, asking for the password:

python -m ui.users FILE NAME [--role annotator|reviewer|admin]
"""

import argparse
import getpass
import logging
from collections.abc import Callable
from pathlib import Path

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from loctex.records.files import write_whole
from ui.guard import logins

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
    return read(path).get(name or "", (None, ""))[0]


def login(path: Path) -> Callable[[str, str], bool]:
    """The question that Gradio asks: is this the person's password? The file is read each time."""
    read(path)  # refuse a bad file at the start, not at the first login
    hasher = argon2.PasswordHasher()
    nobody = hasher.hash("")  # an unknown name takes as long as a wrong password

    def is_right(name: str, password: str) -> bool:
        _, hashed = read(path).get(name, ("", nobody))
        try:
            if hasher.verify(hashed, password) and hashed != nobody:
                log.info("%r logged in from %s", name[:60], logins.address.get())
                return True
        except (VerificationError, InvalidHashError):
            pass
        log.warning("wrong password for %r from %s", name[:60], logins.address.get())
        return False

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
