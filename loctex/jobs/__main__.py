"""Starts the waiting runs of a workspace, in order.

python -m loctex.jobs watch WORKSPACE
"""

import argparse
from pathlib import Path

from loctex.jobs import watcher


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    commands = parser.add_subparsers(required=True, metavar="watch")
    watch = commands.add_parser("watch", help="start the waiting runs of a workspace in order")
    watch.add_argument("workspace", type=Path, help="the folder that holds runs/")
    watch.add_argument(
        "--grace",
        type=float,
        default=watcher.GRACE,
        help="seconds a stopped run has for its checkpoint [%(default)s]",
    )

    arguments = parser.parse_args()
    watcher.watch(arguments.workspace, arguments.grace)


if __name__ == "__main__":
    main()
