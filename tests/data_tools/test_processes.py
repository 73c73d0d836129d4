"""A program that is interrupted leaves no process behind it, and no half folder."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data_tools.samples import album

ROOT = Path(__file__).parents[2]
FREEZE = """
import os, sys
from data_tools import processes, snapshot
from data_tools.freezing import freeze
if __name__ == "__main__":
    freeze.FEW, number, steps = 0, int(sys.argv.pop(1)), []

    def show(bar, total):
        steps.append(total)
        if len(steps) == 200:  # all pictures are shrunk, some rows are written
            os.kill(os.getpid(), number)

    snapshot._show = show
    processes.stop_tidily()
    sys.exit(snapshot.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "number, code, leaves",
    [
        (signal.SIGTERM, 143, False),
        (signal.SIGINT, 130, False),
        (signal.SIGKILL, -9, True),  # nobody is asked: its hidden folder stays
    ],
)
def test_a_freeze_that_is_interrupted_leaves_nothing_behind(tmp_path, number, code, leaves):
    album(tmp_path / "a", 150)
    done = subprocess.run(  # returns once all that hold its output have ended, its workers too
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            FREEZE,
            str(int(number)),
            "--workers",
            "2",
            "--narratives",
            tmp_path / "a/narratives.jsonl",
            "--images",
            tmp_path / "a/images",
            "--to",
            tmp_path / "s",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code and "Traceback" not in done.stderr
    left = [path.name for path in tmp_path.iterdir() if path.name != "a"]
    assert len(left) == leaves and all(name.startswith(".s.") for name in left)
