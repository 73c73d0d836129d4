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
    options = parser.parse_args(arguments)
    if (options.ssl_certfile is None) != (options.ssl_keyfile is None):
        parser.error("--ssl-certfile and --ssl-keyfile go together")
    if not is_loopback(options.host) and options.users is None:
        parser.error(
            f"--host {options.host} opens the studio to other machines and demands --users FILE; "
            "add people with `python -m ui.users FILE NAME`"
        )
    return options


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
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost"]))


def keep_log(workspace: Path) -> None:
    """Logins and refusals, in the workspace: its last few megabytes."""
    from ui.guard.log_lines import OneLine  # needs no Gradio

    workspace.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        workspace / "studio.log", maxBytes=2_000_000, backupCount=2, encoding="utf-8"
    )
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("studio")
    log.setLevel(logging.INFO)
    log.addHandler(handler)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    stay_local()
    from ui import layout, users  # after the environment, which Gradio reads when imported
    from ui.workspace import Workspace, served

    try:
        login = users.login(options.users) if options.users is not None else None
        with served(options.workspace):
            keep_log(options.workspace)
            workspace = Workspace(
                options.workspace, options.database, options.users, options.whisper
            )
            layout.build(workspace).launch(
                **layout.LAUNCH,
                server_name=options.host,
                server_port=options.port,
                auth=login,
                ssl_certfile=options.ssl_certfile,
                ssl_keyfile=options.ssl_keyfile,
                ssl_verify=False,  # Gradio asks its own page whether it is there
                allowed_paths=[str(workspace.images_dir)],
            )
    except (ValueError, OSError) as error:  # what a person can mend: folder, port, users, database
        sys.exit(f"studio: {error}")


if __name__ == "__main__":
    main()
