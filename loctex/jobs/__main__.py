"""Starts the waiting runs of a workspace, in order; attends to one that is a job of a cluster.

python -m loctex.jobs watch WORKSPACE
python -m loctex.jobs slurm LAUNCHER -- python -m loctex.train --run RUN ...
"""

import argparse
import logging
import sys
from pathlib import Path

from loctex.jobs import watcher


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="name")
    watch = commands.add_parser("watch", help="start the waiting runs of a workspace in order")
    watch.add_argument("workspace", type=Path, help="the folder that holds runs/")
    watch.add_argument(
        "--grace",
        type=float,
        default=watcher.GRACE,
        help="seconds a stopped run has for its checkpoint [%(default)s]",
    )

    slurm = commands.add_parser("slurm", help="hand a run to Slurm and stay until it has ended")
    slurm.add_argument("launcher", help="its name in launchers.yaml of the run's workspace")
    slurm.add_argument("words", nargs="+", help="the command, behind --")

    arguments = parser.parse_args()
    if arguments.name == "watch":
        watcher.watch(arguments.workspace, arguments.grace)
    else:
        attend(arguments.launcher, arguments.words)


def attend(launcher_name: str, words: list[str]) -> None:
    from loctex.jobs.execution import home_of
    from loctex.jobs.launchers import slurm_options
    from loctex.jobs.run import Run
    from loctex.jobs.slurm.attendant import Attendant

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if "--run" not in words[:-1]:
            raise ValueError("the command names no --run")
        run = Run(words[words.index("--run") + 1])
        options = slurm_options(home_of(run), launcher_name)
        sys.exit(Attendant(run, options, words).attend())
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
