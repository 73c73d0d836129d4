"""What is counted before a start, against known answers and a real process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from loctex import settings
from loctex.jobs import failures
from loctex.model import build
from loctex.records.snapshot import Snapshot
from loctex.settings import with_values
from loctex.settings.presets import PRESETS
from loctex.train import main
from loctex.training import estimate
from tests.loctex.small import small

ROOT = Path(__file__).parents[2]


def test_the_parameters_are_those_of_the_model(snapshot):
    wanted = small(snapshot)
    model = build.build(wanted, wanted.model.vocabulary, 0)
    found = estimate.count(wanted)
    assert found.parameters == sum(part.numel() for part in model.parameters())


def test_the_arithmetic_of_the_paper_s_size_is_what_was_counted_by_hand():
    """PERFORMANCE: 24.3 GFLOP of the image side and 19.6 of the text side, to a few percent."""
    assert estimate.count(PRESETS["r50"]).flops == pytest.approx(43.9e9, rel=0.05)


def test_memory_grows_with_pairs_and_falls_with_chunks_and_recomputation(snapshot):
    wanted = small(snapshot)
    base = estimate.memory(wanted)

    def with_train(**values):
        return estimate.memory(with_values(wanted, {"train": values}))

    pair = estimate.SPARE * estimate.count(wanted).pair
    assert with_train(batch_size=16) - base == pytest.approx(8 * pair)
    assert with_train(batch_size=16, accumulate=2) == pytest.approx(base)
    assert with_train(ema=0.99) > base
    assert with_train(precision="fp32") > base
    recomputed = estimate.count(with_values(wanted, {"train": {"checkpoint_activations": True}}))
    assert recomputed.pair < 0.8 * estimate.count(wanted).pair


def test_the_largest_batch_is_the_one_whose_estimate_just_fits():
    wanted = PRESETS["r50"]
    size = estimate.largest_batch(wanted, 16e9)
    fits, is_too_much = (
        estimate.memory(with_values(wanted, {"train": {"batch_size": s}})) for s in (size, size + 1)
    )
    assert fits <= 16e9 < is_too_much
    assert estimate.largest_batch(wanted, 1e9) == 0


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError("Unable to allocate 96.0 MiB. Tried to allocate an array"),
]


@pytest.mark.parametrize("error", FULL, ids=["GPU", "loader"])
def test_out_of_memory_names_the_batch_that_would_fit(
    snapshot, tmp_path, monkeypatch, capsys, error
):
    """As a GPU of 16 GB, of which 10 are free, would say it."""
    wanted = small(snapshot, train__batch_size=16)
    file = tmp_path / "wanted.yaml"
    file.write_text(settings.dump(wanted))

    def full(*_):
        raise error

    monkeypatch.setattr("loctex.training.loop.train", full)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    takes = estimate.memory(with_values(wanted, {"train": {"batch_size": 6}}), device="cuda")
    free = takes - estimate.PROGRAM["cuda"] + 1  # our own context is not counted as free
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 16e9))
    with pytest.raises(SystemExit) as ended:
        main([f"--run={tmp_path / 'run'}", f"--settings={file}"])
    lines = str(ended.value).splitlines()
    failure = failures.from_log(1, lines)
    assert failure.what == "It ran out of memory."
    assert "16 pairs at once do not fit, about 6 would. Set train.accumulate 3" in failure.remedy
    assert "train.batch_size 6" in failure.remedy and "Tried to allocate" in lines[1]


TOO_LITTLE = """
import resource, sys
import loctex.training.loop  # with torch, before the limit
from loctex.train import main
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + 350 * 2**20,) * 2)
main(sys.argv[1:])
"""


# What meets the limit first is chance: now and then a thread's own memory, which aborts.
@pytest.mark.flaky(reruns=2)
def test_a_computer_that_really_runs_out_of_memory_says_so(snapshot, tmp_path):
    """A process that may take 350 MB more than its program trains with images of 1024 pixels."""
    wanted = small(snapshot, train__batch_size=32, data__image_size=1024, train__film_every=0)
    file = tmp_path / "wanted.yaml"
    file.write_text(settings.dump(wanted))
    for name in ("train", "val"):  # Arrow's own threads, which build its files, would wait forever
        Snapshot.open(snapshot).split(name)
    words = [sys.executable, "-c", TOO_LITTLE, f"--run={tmp_path / 'run'}", f"--settings={file}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=100)
    failure = failures.from_log(done.returncode, done.stderr.splitlines())
    assert done.returncode == 1 and failure.what == "It ran out of memory.", done.stderr[-2000:]
    assert "32 pairs at once do not fit, about 16 would" in failure.remedy


TAKEN = """
import resource, sys
from loctex.train import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_the_estimate_is_near_what_a_real_training_takes(snapshot, tmp_path):
    """Preset tiny at 320 pixels on the processor: the greatest resident size of the process."""
    for size in (8, 96):
        values = {
            "train.batch_size": size,
            "train.steps": 4,
            "data.image_size": 320,
            "train.film_every": 0,
        }
        words = [sys.executable, "-c", TAKEN, f"--data={snapshot}=3", "--preset=tiny"]
        words += [f"--run={tmp_path / str(size)}", *(f"--{n}={v}" for n, v in values.items())]
        taken = int(subprocess.check_output(words, cwd=ROOT).splitlines()[-1])
        wanted = with_values(PRESETS["tiny"], {"train": {"batch_size": size}})
        wanted = with_values(wanted, {"data": {"image_size": 320}})
        guessed = estimate.memory(wanted)
        print(f"{size} pairs: taken {taken / 2**20:.0f} MiB, estimated {guessed / 2**20:.0f} MiB")
        assert 0.7 < guessed / taken < 1.4
