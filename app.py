"""LocTex Studio: people point and talk, a model learns where words are, and people see it.

python app.py [--workspace DIR] [--database URL] [--host H] [--port P] [--users FILE]
              [--ssl-certfile FILE --ssl-keyfile FILE]
"""

import argparse
import ipaddress
import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serve the studio: annotate, train and inspect in the browser."
    )
    add = parser.add_argument
    add("--workspace", type=Path, default=Path("workspace"), help="folder of everything; created")
    add("--database", help="SQLAlchemy URL; default: SQLite in the workspace")
    add("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    add("--port", type=int, help="default: the first free one from 7860 on")
    add("--users", type=Path, help="file of logins, see `python -m ui.users --help`")
    add("--ssl-certfile", type=Path, help="certificate (PEM): serve https, as microphones demand")
    add("--ssl-keyfile", type=Path, help="its private key (PEM)")
    add("--whisper", type=Path, help="folder of a Whisper checkpoint that proposes spoken words")
    chosen = parser.parse_args(arguments)
    if (chosen.ssl_certfile is None) != (chosen.ssl_keyfile is None):
        parser.error("--ssl-certfile and --ssl-keyfile go together")
    if not is_loopback(chosen.host) and chosen.users is None:
        parser.error(
            f"--host {chosen.host} opens the studio to other machines and demands --users FILE; "
            "add people with `python -m ui.users FILE NAME`"
        )
    return chosen


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def stay_local() -> None:
    """No request leaves the machine; and a proxy must not get those that stay on it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for name in ("NO_PROXY", "no_proxy"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*known, "127.0.0.1", "localhost"]))


def keep_log(workspace: Path) -> None:
    """Logins and refusals, in the workspace: its last few megabytes."""
    workspace.mkdir(parents=True, exist_ok=True)
    kept = RotatingFileHandler(
        workspace / "studio.log", maxBytes=2_000_000, backupCount=2, encoding="utf-8"
    )
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("studio")
    log.setLevel(logging.INFO)
    log.addHandler(kept)


def main(arguments: list[str] | None = None) -> None:
    chosen = parse(arguments)
    stay_local()
    from ui import layout, users  # after the environment, which Gradio reads when imported
    from ui.workspace import Workspace, served

    try:
        login = users.login(chosen.users) if chosen.users is not None else None
        with served(chosen.workspace):
            keep_log(chosen.workspace)
            workspace = Workspace(chosen.workspace, chosen.database, chosen.users, chosen.whisper)
            layout.build(workspace).launch(
                **layout.LAUNCH,
                server_name=chosen.host,
                server_port=chosen.port,
                auth=login,
                ssl_certfile=chosen.ssl_certfile,
                ssl_keyfile=chosen.ssl_keyfile,
                ssl_verify=False,  # Gradio asks its own page whether it is there
                allowed_paths=[str(workspace.images_dir)],
            )
    except (ValueError, OSError) as error:  # what a person can mend: folder, port, users, database
        sys.exit(f"studio: {error}")


if __name__ == "__main__":
    main()
