"""The process that listens: it stalls nobody, and it ends with the studio."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.data_tools.espeak import speak

ROOT = Path(__file__).parents[2]
STUDIO = """
import numpy as np, time
from ui.annotate import listening
if __name__ == "__main__":
    words = listening.word_times("a cat", np.load("voice.npy"))
    print(words[1]["text"], *listening._listener()._processes, flush=True)
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"


def test_the_listener_of_a_killed_studio_ends(tmp_path):
    np.save(tmp_path / "voice.npy", speak("a cat")[0])
    (tmp_path / "studio.py").write_text(STUDIO)
    studio = subprocess.Popen(
        [sys.executable, "studio.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    word, pid = studio.stdout.readline().split()
    assert word == "cat" and is_alive(int(pid))
    studio.send_signal(signal.SIGKILL)
    studio.communicate()
    deadline = time.monotonic() + 30
    while is_alive(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(int(pid))
