"""Snapshots in object storage: a real S3 protocol, two processes, stops in the middle."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from data_tools.freezing.freeze import freeze
from loctex import settings
from loctex.jobs import checkpoint_files
from loctex.jobs.run import Run
from loctex.loading.batches import batches
from loctex.loading.mixture import Mixture
from loctex.records import streamed
from loctex.records.snapshot import Snapshot
from loctex.records.streamed import StreamedSplit, shares
from loctex.settings import DataSettings
from loctex.training import checkpoint
from tests.data_tools.samples import album
from tests.loctex.small import small
from tests.loctex.streaming import BATCH, stream
from tests.loctex.test_train import assert_same_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """560 / 70 / 70 images, in 4 / 1 / 1 shards of row groups of 16."""
    folder = tmp_path_factory.mktemp("streamed")
    with pytest.MonkeyPatch.context() as patch:
        for place in ("data_tools.freezing.freeze", "data_tools.freezing.shards"):
            patch.setattr(f"{place}.ROWS_PER_GROUP", 16)
        manifest = freeze(folder / "s", [album(folder / "a", 700)], shard_bytes=110_000)
    assert [len(manifest["shards"][name]) for name in ("train", "val", "test")] == [4, 1, 1]
    return folder / "s"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory, frozen: Path) -> Iterator[tuple[str, Path]]:
    """s3://data/s, an S3 server of its own, and its log of requests."""
    log = tmp_path_factory.mktemp("s3") / "log"
    with open(log, "w") as file, pytest.MonkeyPatch.context() as patch:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stderr=file
        )
        try:
            url = _address(server, log)
            for key, value in {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_DEFAULT_REGION": "us-east-1",
                "NO_PROXY": "127.0.0.1",
            }.items():
                patch.setenv(key, value)
            import s3fs

            files = s3fs.S3FileSystem()
            files.mkdir("data")
            files.put(str(frozen), "data/s", recursive=True)
            yield "s3://data/s", log
        finally:
            server.terminate()
            server.wait()


def _address(server: subprocess.Popen, log: Path) -> str:
    while server.poll() is None:
        if found := re.search(r"http://127.0.0.1:\d+", log.read_text()):
            return found[0]
    raise RuntimeError(log.read_text())


STEPS = 560 // BATCH  # an epoch; the last 8 images make no batch


def read(url: str, start: int, end: int, *, is_killed: bool = False) -> list[list[list[str]]]:
    """The same of two processes of their own at the same time; killed: they would have gone on."""
    goal = end + STEPS if is_killed else end
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.loctex.streaming", url, *map(str, (rank, start, goal))],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    with ThreadPoolExecutor(2) as pool:
        lines = list(pool.map(lambda one: list(islice(one.stdout, end - start)), both))
    for one in both:
        if is_killed:
            one.kill()
        one.stdout.close()
        assert one.wait() == (-9 if is_killed else 0)
    return [[json.loads(line) for line in part] for part in lines]


def test_two_processes_read_each_record_once_an_epoch_though_killed_in_its_middle(
    s3, frozen, monkeypatch
):
    monkeypatch.setattr(streamed, "BLOCK", 2)
    middle = STEPS // 2
    before = read(s3[0], 0, middle, is_killed=True)
    after = read(s3[0], middle, 2 * STEPS)
    both = [[*first, *rest] for first, rest in zip(before, after, strict=True)]
    assert both == [list(stream(f"file://{frozen}", rank, 0, 2 * STEPS)) for rank in range(2)]
    epochs = [
        [name for part in both for batch in part[epoch * STEPS :][:STEPS] for name in batch]
        for epoch in range(2)
    ]
    for names in epochs:
        assert len(names) == len(set(names)) == STEPS * BATCH
    assert epochs[0] != epochs[1]
    assert [len(batch) for part in both for batch in part] == [BATCH // 2] * 4 * STEPS


def test_resuming_fetches_nothing_that_lies_before_it(frozen, monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK", 2)
    fetched, fetch = [], StreamedSplit._read
    monkeypatch.setattr(StreamedSplit, "_read", lambda *at: fetched.append(at[1]) or fetch(*at))
    whole = list(stream(f"file://{frozen}", 1, 0, STEPS))
    num_whole = len(fetched)
    assert list(stream(f"file://{frozen}", 1, STEPS - 6, STEPS)) == whole[-6:]
    assert len(fetched) - num_whole < num_whole / 2


def test_a_streamed_image_is_the_one_on_the_disk(s3, frozen):
    there, here = Snapshot.open(s3[0]), Snapshot.open(frozen)
    assert there.hash == here.hash and there.splits == here.splits
    for name in here.splits:
        far, near = there.split(name), here.split(name)
        assert len(far) == len(near) and list(far.captions()) == list(near.captions())
        for i in range(0, len(near), 7):
            assert far[i].image == near[i].image and far[i].image_id == near[i].image_id
            assert far[i].narratives[0].words == near[i].narratives[0].words
            assert far.num_narratives(i) == near.num_narratives(i) == 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 7])
def test_no_process_reads_much_more_than_its_part_whatever_their_number(frozen, ranks, monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK", 1)
    split = Snapshot.open(f"file://{frozen}").split("train")
    mixture, size = Mixture([split], [1.0], seed=0), 2 * ranks
    order = shares(mixture.order(0), size, ranks)
    steps = 560 // size
    assert len(order) == steps * size == len({tuple(place) for place in order.tolist()})
    seen: Counter[int] = Counter()
    for rank in range(ranks):
        mine = order.reshape(steps, ranks, 2, 2)[:, rank, :, 1].ravel()
        groups = {split._group(i) for i in mine.tolist()}
        assert len(groups) <= -(-len(mine) // 16) + 4  # the last of each of 4 shards is short
        seen.update(groups)
    assert sum(seen.values()) <= len(seen) + ranks - 1  # only at the borders one is read twice


def test_the_order_is_of_seed_and_epoch_and_shuffles_far_and_near(frozen):
    split = Snapshot.open(f"file://{frozen}").split("train")
    orders = {
        (seed, epoch): Mixture([split], [1.0], seed=seed).order(epoch)[:, 1].tolist()
        for seed in range(2)
        for epoch in range(2)
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    for order in orders.values():
        assert sorted(order) == list(range(560))
    again = Mixture([Snapshot.open(f"file://{frozen}").split("train")], [1.0], seed=1).order(1)
    assert again[:, 1].tolist() == orders[1, 1]
    order = np.array(orders[0, 0])
    assert np.abs(np.diff(order)).mean() > 40  # neighbors in the stream were none in the files


def test_streamed_and_local_mix_by_weight(frozen, snapshot):
    far, near = (
        Snapshot.open(f"file://{frozen}").split("train"),
        Snapshot.open(snapshot).split("train"),
    )
    mixture = Mixture([far, near], [0.5, 2.0], seed=0)
    order = mixture.order(3)
    assert len(order) == mixture.num_places() == 280 + 64
    assert Counter(order[order[:, 0] == 1, 1].tolist()) == dict.fromkeys(range(32), 2)
    assert len(set(order[order[:, 0] == 0, 1].tolist())) == 280
    assert 20 < (order[: len(order) // 2, 0] == 1).sum() < 44  # mixed, not one after the other


def test_few_row_groups_are_in_memory(frozen, monkeypatch):
    monkeypatch.setattr(streamed, "BLOCK", 2)
    split = Snapshot.open(f"file://{frozen}").split("train")
    source = batches(
        Mixture([split], [1.0], seed=0),
        lambda examples, *helpers: examples,
        DataSettings(),
        batch_size=16,
        start=0,
    )
    for _ in range(30):
        next(source)
        assert len(split._kept) <= 12  # of 37
    source.close()


def test_what_is_not_there_says_the_way_out(s3, tmp_path):
    with pytest.raises(FileNotFoundError, match="s3://data/none is not a snapshot .*copy"):
        Snapshot.open("s3://data/none")
    (tmp_path / "snapshot.json").write_text('{"hash": "abc", "splits": {}}')
    with pytest.raises(ValueError, match="lists no shards: freeze it again"):
        Snapshot.open(f"file://{tmp_path}")
    assert isinstance(Snapshot.open(s3[0]).split("val"), StreamedSplit)


@pytest.mark.slow
def test_two_trainers_stopped_in_mid_epoch_learn_from_s3_the_same_bits_as_undisturbed(s3, tmp_path):
    whole, halved = Run(tmp_path / "whole"), Run(tmp_path / "halved")
    wanted = small(
        s3[0], train__steps=24, train__batch_size=16, train__log_every=4, train__evaluate_every=0
    )  # 35 steps an epoch
    (tmp_path / "wanted.yaml").write_text(settings.dump(wanted))
    new = ["--settings", str(tmp_path / "wanted.yaml")]
    assert torchrun(whole, *new).wait() == 0
    stopped = torchrun(halved, *new)
    while not halved.metrics():
        assert stopped.poll() is None
        time.sleep(0.02)
    halved.request_stop()
    assert stopped.wait() == 0 and not halved.result_file.exists()
    assert 1 < checkpoint.load_state(checkpoint_files.find(halved.path, "last"))["step"] < 24
    assert torchrun(halved, "--resume").wait() == 0
    assert json.loads(halved.result_file.read_text())["step"] == 24
    assert_same_run(whole.path, halved.path)


def torchrun(run: Run, *options: str) -> subprocess.Popen:
    """Two trainers."""
    command = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    command += ["--", "loctex.train", "--run", str(run.path), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)
