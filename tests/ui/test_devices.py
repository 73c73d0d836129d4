"""What a run can take, from a stand-in driver and from launchers.yaml."""

import os
import sys

import pytest

from loctex.jobs import gpus
from loctex.jobs.run import Run
from tests.loctex.stand_ins import nvml
from ui.train import devices
from ui.train.devices import Launcher

SIZES = {"name": "H200", "total": 141_000_000_000, "free": 100_000_000_000}


def test_gpus_are_offered_with_what_is_free_and_which_run_uses_them(monkeypatch, tmp_path):
    run = Run(tmp_path / "mine")
    busy = SIZES | {"uuid": "GPU-1", "use": 90, "users": {os.getpid(): 41_000_000_000}}
    idle = SIZES | {"uuid": "GPU-2", "use": 0, "free": 90_000_000_000}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(busy, idle))
    with run.hold():
        choices, first, problem = devices.available([run])
    assert choices == [
        ("GPU 0 · H200 · 100 GB of 141 GB free · 90% busy · used by run mine with 41 GB", "GPU-1"),
        ("GPU 1 · H200 · 90 GB of 141 GB free · 0% busy", "GPU-2"),
        ("Processor only", "cpu"),
    ]
    assert first == ["GPU-2"], "an idle one, though the other has more room"
    assert problem == ""


def test_without_a_gpu_nothing_is_asked_and_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(failure=12))
    assert devices.available([]) == ([], [], gpus.NONE)


def test_launchers_are_read_from_the_workspace(tmp_path):
    assert devices.launchers(tmp_path) == []
    (tmp_path / "launchers.yaml").write_text(
        "box: ssh gpu1 '{line}'\nslurm: {command: 'sbatch --wait --wrap \"{line}\"', "
        "side_by_side: true}\n"
    )
    known = devices.launchers(tmp_path)
    assert known == [
        Launcher("box", "ssh gpu1 '{line}'"),
        Launcher("slurm", 'sbatch --wait --wrap "{line}"', side_by_side=True),
    ]
    run = Run(tmp_path / "one")
    assert devices.resolved(["GPU-1"], "box", known, run) == (("box",), "box")
    assert devices.resolved([], "slurm", known, run)[0] == ("slurm: one",)
    assert devices.resolved(["GPU-1", "GPU-2"], "", known, run) == (("GPU-1", "GPU-2"), "")
    with pytest.raises(ValueError, match="no longer in launchers.yaml"):
        devices.resolved([], "gone", known, run)
    with pytest.raises(ValueError, match="not both"):
        devices.resolved(["GPU-1", "cpu"], "", known, run)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not YAML"),
        ("- a", "must hold names and commands"),
        ("a: srun", "starts nothing"),
        ("a: {line: x}", "a: .*line"),
    ],
)
def test_a_launcher_that_cannot_work_is_named(tmp_path, text, problem):
    (tmp_path / "launchers.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        devices.launchers(tmp_path)
