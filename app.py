"""LocTex Studio: people point and talk, a model learns where words are, and people see it.

python app.py [--workspace DIR] [--database URL] [--host H] [--port P] [--users FILE]
              [--ssl-certfile FILE --ssl-keyfile FILE] [--allowed-host NAME]
              [--trusted-proxy ADDRESS] [--root-path /studio] [--session-hours H]
"""

import argparse
import ipaddress
import logging
import os
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ui.guard.server import Guards


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
    add(
        "--allowed-host",
        action="append",
        metavar="NAME",
        help="a name that browsers open the studio by; with it, by no other; repeatable. Without "
        "logins it is opened as localhost only",
    )
    add(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address or network of a proxy whose X-Forwarded-For, -Proto and -Host are believed; "
        "repeatable",
    )
    add("--root-path", default="", help="where a proxy serves the studio, such as /studio")
    add(
        "--session-hours",
        type=float,
        default=168.0,
        help="after which a login ends; default: %(default)g, a week",
    )
    add("--whisper", type=Path, help="folder of a Whisper checkpoint that proposes spoken words")
    options = parser.parse_args(arguments)
    if (options.ssl_certfile is None) != (options.ssl_keyfile is None):
        parser.error("--ssl-certfile and --ssl-keyfile go together")
    if not is_loopback(options.host) and options.users is None:
        parser.error(
            f"--host {options.host} opens the studio to other machines and demands --users FILE; "
            "add people with `python -m ui.users FILE NAME`"
        )
    if not options.session_hours > 0:
        parser.error(f"--session-hours {options.session_hours:g}: must be more than 0")
    if not re.fullmatch(r"(/[\w.~-]+)*", options.root_path) or "/." in options.root_path:
        parser.error(f"--root-path {options.root_path}: must be a path such as /studio")
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


def believe_no_proxy() -> None:
    """The server believes what proxies on this machine say; only ui.guard.proxies shall judge."""
    os.environ["FORWARDED_ALLOW_IPS"] = ""


def keep_log(workspace: Path) -> None:
    """Logins and refusals, in the workspace: its last few megabytes. On the terminal where the
    workspace lies where nothing may be written."""
    from ui.guard.log_lines import OneLine  # needs no Gradio

    workspace.mkdir(parents=True, exist_ok=True)
    handler: logging.Handler
    try:
        handler = RotatingFileHandler(
            workspace / "studio.log", maxBytes=2_000_000, backupCount=2, encoding="utf-8"
        )
    except OSError:
        handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("studio")
    log.setLevel(logging.INFO)
    log.addHandler(handler)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    stay_local()
    believe_no_proxy()
    from ui import layout, users  # after the environment, which Gradio reads when imported
    from ui.annotate import route
    from ui.guard.server import GuardedApp
    from ui.workspace import Workspace, served

    try:
        login = users.login(options.users) if options.users is not None else None
        guards = guards_of(options)
        with served(options.workspace):
            keep_log(options.workspace)
            workspace = Workspace(
                options.workspace, options.database, options.users, options.whisper
            )
            page = layout.build(workspace)
            page.launch(
                **layout.LAUNCH,
                quiet=True,  # Gradio proposes to share the studio with the world
                prevent_thread_lock=True,
                _app=GuardedApp(guards, [route.recorder_route(workspace)]),
                server_name=options.host,
                server_port=options.port,
                root_path=options.root_path,
                auth=login,
                ssl_certfile=options.ssl_certfile,
                ssl_keyfile=options.ssl_keyfile,
                ssl_verify=False,  # Gradio asks its own page whether it is there
                allowed_paths=[str(workspace.images_dir)],
            )
            print(f"LocTex Studio is at {page.local_url} (Ctrl+C ends it)", flush=True)
            page.block_thread()
    except (ValueError, OSError) as error:  # what a person can mend: folder, port, users, database
        is_taken = str(error).startswith("Cannot find empty port")
        sys.exit(f"studio: {taken_port(options) if is_taken else error}")


def guards_of(options: argparse.Namespace) -> "Guards":
    """Whom the studio serves, as the command line says. Raises ValueError."""
    from ui.guard.borders import host_name
    from ui.guard.proxies import proxy_network
    from ui.guard.server import Guards

    hosts = None
    if options.allowed_host or options.users is None:
        hosts = [host_name(host) for host in options.allowed_host or ()]
        hosts += [] if options.host in ("0.0.0.0", "::") else [options.host]
    proxies = [proxy_network(address) for address in options.trusted_proxy]
    return Guards(options.users, options.session_hours, hosts, proxies)


def taken_port(options: argparse.Namespace) -> str:
    """What to do where nothing can be served at the address."""
    port = "7860 to 7959" if options.port is None else str(options.port)
    return (
        f"port {port} of {options.host} cannot be had: another program serves there, or the "
        "address is not this machine's; name a free one with --port, or another --host"
    )


if __name__ == "__main__":
    main()
