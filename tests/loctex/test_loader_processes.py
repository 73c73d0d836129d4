"""Batches made by processes: the same as by threads, errors as they were, nothing left behind."""

import itertools
import multiprocessing
import re
import subprocess
import sys
from dataclasses import fields

import pytest
import torch

from loctex import settings
from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.loading.batches import batches
from loctex.loading.collate import Batch, Collate
from loctex.loading.mixture import Mixture
from loctex.records.snapshot import Snapshot
from loctex.training.loop import train
from tests.loctex.small import small
from tests.loctex.stand_ins import wait_for


def source_of(snapshot, processes: int, start: int = 0, threads: int = 2):
    chosen = small(snapshot, data__processes=processes, data__threads=threads).data
    split = Snapshot.open(snapshot).split("train")
    words = tokenization.train(split.captions(), 300, 64)
    collate = Collate(tokenizer=words, settings=chosen, grid=(4, 4), hides_words=True)
    return batches(Mixture([split], [1.0], 0), collate, chosen, batch_size=8, start=start)


def assert_equal(one: Batch, other: Batch) -> None:
    for item in fields(Batch):
        a, b = getattr(one, item.name), getattr(other, item.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, item.name


def test_processes_make_the_batches_that_threads_make_in_their_order(snapshot):
    sources = [source_of(snapshot, processes, start=2) for processes in (0, 1, 2)]
    for made in zip(*(itertools.islice(source, 7) for source in sources), strict=True):
        assert_equal(made[0], made[1])
        assert_equal(made[0], made[2])
    for source in sources:
        source.close()
    wait_for(lambda: not multiprocessing.active_children())


def test_a_run_learns_the_same_bits_by_processes(snapshot, tmp_path):
    rows = []
    for processes in (0, 2):
        run = Run(tmp_path / str(processes))
        train(small(snapshot, data__processes=processes, train__steps=4), run)
        rows.append([row["loss"] for row in run.metrics() if "loss" in row])
    assert rows[0] == rows[1] and len(rows[0]) >= 2


def test_an_error_of_a_process_is_the_error_itself(snapshot, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("images/7.jpg is damaged")

    monkeypatch.setattr(Collate, "__call__", fail)
    with pytest.raises(ValueError, match=r"^images/7\.jpg is damaged$"):
        next(source_of(snapshot, 1))


KILLED = """
import multiprocessing, os, signal, sys
from loctex import train
from loctex.training.loop import Training
look = Training.look
def kill_and_look(self, number):
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
    return look(self, number)
Training.look = kill_and_look
train.main(sys.argv[1:])
"""  # in a process of its own: torch's handler of dead children stays


def test_a_process_that_is_killed_is_a_sentence(snapshot, tmp_path):
    chosen = small(snapshot, data__processes=2, train__steps=1000)
    (tmp_path / "settings.yaml").write_text(settings.dump(chosen))
    words = [f"--run={tmp_path / 'run'}", f"--settings={tmp_path / 'settings.yaml'}"]
    words += [f"--data={snapshot}"]
    command = [sys.executable, "-c", KILLED, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"error: a process .* killed.*lower data\.processes \(2\)", done.stderr)


def test_what_is_streamed_is_read_by_threads(snapshot, monkeypatch):
    monkeypatch.setattr(Mixture, "is_streamed", True)
    with pytest.raises(ValueError, match="set --data.processes 0"):
        next(source_of(snapshot, 1))


def test_a_run_of_before_the_setting_has_none():
    values = settings.to_dict(settings.Settings())
    del values["data"]["processes"]
    assert settings.from_dict(values).data.processes == 0
