"""The GPU picker's facts, from a stand-in driver."""

import os
import sys
from pathlib import Path

import pytest

from loctex.jobs import gpus
from loctex.jobs.gpus import Gpu, User
from tests.loctex.stand_ins import nvml

ONE = {"uuid": "GPU-1", "name": "H200", "total": 100, "free": 60, "use": 87}


def test_a_gpu_is_known_by_its_uuid_with_free_memory_and_who_uses_it(monkeypatch):
    users = {os.getpid(): 40, 2**30: None}  # the second is a process of another machine's
    monkeypatch.setitem(sys.modules, "pynvml", nvml(ONE | {"users": users}))
    mine = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    expected = (User(os.getpid(), mine, 40), User(2**30, "a process", None))
    assert gpus.found() == ([Gpu("GPU-1", "H200", 100, 60, 0.87, expected)], "")


def test_what_the_driver_does_not_tell_is_unknown_not_zero(monkeypatch):
    quiet = {key: value for key, value in ONE.items() if key != "use"}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(quiet))
    assert gpus.found()[0][0].use is None


def test_a_gpu_that_does_not_answer_hides_no_other(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml({}, ONE))
    found, problem = gpus.found()
    assert [gpu.uuid for gpu in found] == ["GPU-1"] and "GPU 0 does not answer" in problem


@pytest.mark.parametrize("failure", [9, 12])
def test_no_driver_is_said_plainly(monkeypatch, failure):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(failure=failure))
    assert gpus.found() == ([], gpus.NONE)


def test_other_troubles_of_the_driver_are_passed_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(failure=18))
    assert gpus.found() == ([], f"{gpus.NONE} (The NVIDIA driver says: code 18.)")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py must be installed" in gpus.found()[1]
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert gpus.found() == ([], gpus.NONE)
