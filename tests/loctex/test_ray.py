"""Runs as jobs of a real Ray on this machine: docs/LAUNCHERS.md's template."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loctex.jobs import failures
from loctex.jobs import queue as jobs
from loctex.jobs.command import Command, training
from loctex.jobs.run import Run
from loctex.records.files import is_locked
from tests.loctex.slurm_cluster import free_ports
from tests.loctex.stand_ins import stand_in, wait_for

RAY = Path(sys.executable).with_name("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not RAY.exists() or importlib.util.find_spec("aiohttp_cors") is None,
        reason="needs pip install 'ray[default]'",
    ),
]
PATIENCE = 180
TRAINER = """
import sys, time
from loctex.jobs.run import Run
run, steps = Run(sys.argv[1]), int(sys.argv[2])
last = run.path / "last"
with run.hold():
    start = int(last.read_text()) if last.exists() else 0
    run.cut_back(start)
    for step in range(start + 1, steps + 1):
        if "fails" in sys.argv and step == 3:
            raise FileNotFoundError("picture.jpg")
        run.log(step, loss=1 / step)
        last.write_text(str(step))
        if run.stop_requested():
            sys.exit()
        time.sleep(0.05)
run.finish({"step": steps})
"""


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of its jobs, and a folder on the path of what it runs."""
    folder = tmp_path_factory.mktemp("ray")
    port, board_port = free_ports(2)
    words = [str(RAY), "start", "--head", "--block", "--num-cpus=1", "--disable-usage-stats"]
    words += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-port={board_port}"]
    words += [f"--temp-dir={folder}", "--object-store-memory=100000000"]
    environment = os.environ | {"PYTHONPATH": f"{folder / 'stand-ins'}:{jobs.ROOT}"}
    address = f"http://127.0.0.1:{board_port}"
    with open(folder / "printed.txt", "wb") as printed:
        head = subprocess.Popen(
            words, stdout=printed, stderr=printed, env=environment, start_new_session=True
        )
        try:
            wait_for(
                lambda: (
                    subprocess.run(
                        [str(RAY), "job", "list", "--address", address], capture_output=True
                    ).returncode
                    == 0
                ),
                PATIENCE,
            )
            yield address, folder
        finally:
            head.send_signal(signal.SIGTERM)
            head.wait(60)


@pytest.fixture
def workspace(tmp_path: Path, ray: tuple[str, Path]) -> Iterator[Path]:
    (tmp_path / "runs").mkdir()
    (tmp_path / "launchers.yaml").write_text(
        f"ray:\n  command: {RAY} job submit --address {ray[0]} --entrypoint-num-cpus 1"
        f" -- sh -c 'cd {jobs.ROOT} && {{line}}'\n  side_by_side: true\n"
    )
    yield tmp_path
    for run in jobs.all_runs(tmp_path):
        jobs.stop(tmp_path, run)
    wait_for(lambda: not is_locked(tmp_path / "watcher.lock"), PATIENCE)


def add(workspace: Path, folder: Path, name: str, *words: str) -> Run:
    run = Run(workspace / "runs" / name)
    stand_in(folder / "stand-ins", name, TRAINER, *words)
    command = Command(training(run.path, (), "", {}), devices=(f"ray: {name}",), launcher="ray")
    return jobs.submit(workspace, run, command, "train: {steps: 3}")


def has_ended(run: Run) -> bool:
    return run.state in ("done", "failed", "stopped")


def test_a_job_of_ray_is_done_fails_in_words_is_stopped_and_goes_on(workspace, ray) -> None:
    folder = ray[1]
    done = add(workspace, folder, "it's done", "10")
    wait_for(lambda: has_ended(done), PATIENCE)
    assert done.state == "done", done.log_tail(30)

    failed = add(workspace, folder, "failed", "10", "fails")
    wait_for(lambda: has_ended(failed), PATIENCE)
    assert failed.state == "failed"
    assert failures.explain(failed).what == "A file is missing: picture.jpg"

    run = add(workspace, folder, "stopped", "100000")
    wait_for(lambda: len(run.metrics()) > 3, PATIENCE)
    jobs.stop(workspace, run)
    wait_for(lambda: has_ended(run), PATIENCE)
    assert (run.state, run.exit_code) == ("stopped", 0), run.log_tail(30)
    step = int((run.path / "last").read_text())
    jobs.resume(workspace, run)
    wait_for(lambda: run.metrics()[-1]["step"] > step + 2, PATIENCE)
    assert [row["step"] for row in run.metrics()][: step + 2] == [*range(1, step + 3)]
