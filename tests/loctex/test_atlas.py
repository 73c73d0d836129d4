"""The atlas: evaluate's numbers, kept once, and made again only where something is missing."""

import os
import shutil
import signal
import time

import numpy as np
import pytest

from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.model import build
from loctex.records.files import holder, is_locked
from loctex.records.snapshot import Snapshot
from loctex.records.word_classes import word_class
from loctex.scoring import atlas_job, atlas_table, metrics, score
from loctex.scoring.atlas_job import AtlasJob
from loctex.scoring.atlas_table import Atlas
from loctex.training.loop import train
from tests.loctex.small import small


@pytest.fixture(scope="module")
def run(snapshot, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(small(snapshot), Run(path))
    return path


@pytest.fixture
def making(run, snapshot, monkeypatch):
    """Of the training split, 32 images, 8 in a part; nothing is made yet."""
    monkeypatch.setattr(atlas_job, "IMAGES_A_PART", 8)
    yield AtlasJob(run / "best", snapshot, "train")
    shutil.rmtree(run / "atlas", ignore_errors=True)


def test_its_numbers_are_evaluates(making, run, snapshot):
    assert making.progress() == atlas_job.AtlasProgress("new", 0, 32)
    assert making.make() and making.progress().state == "done"
    found = Atlas.open(making.table)
    loaded, words_of = build.load(run / "best"), tokenization.load(run / "best")
    scores = score.score(loaded, words_of, Snapshot.open(snapshot).split("train"))
    hit, is_region = found.mark["hit"], found.mark["is_region"]
    assert hit[~is_region].mean() == pytest.approx(scores.metrics["pointing_trace"], abs=1e-4)
    assert hit[is_region].mean() == pytest.approx(scores.metrics["pointing_region"], abs=1e-4)
    for name in ("lbm_0", "lbm_1"):
        assert found.numbers[name].mean() == pytest.approx(scores.metrics[name], abs=1e-4)
    recall = (found.numbers["rank"] <= 1).mean()
    assert recall == pytest.approx(scores.metrics["text_to_image_r1"], abs=1e-4)
    own = metrics.retrieval(found.images @ found.texts.T, found.row, found.caption.to_pylist())
    assert recall == own["text_to_image_r1"]
    assert len(found) == 32 and found.about["split"] == "train"


def test_a_mark_knows_its_word_its_class_and_where_it_is(making, snapshot):
    making.make()
    found = Atlas.open(making.table)
    caption = found.caption[0].as_py()
    first = np.flatnonzero(found.mark["narrative"] == 0)
    for i in first:
        text = found.mark["word"][int(i)].as_py()
        assert caption[found.mark["start"][i] : found.mark["end"][i]] == text
        assert atlas_table.CLASSES[found.mark["kind"][i]] == word_class(text)
    region = Snapshot.open(snapshot).split("train")[0].regions[0][0]
    mask = region.mask(*region.rle["size"])
    center = (np.argwhere(mask).mean(axis=0) + 0.5) / mask.shape
    (mark,) = [
        i for i in first if found.mark["is_region"][i] and found.mark["start"][i] == region.start
    ]
    # exact up to the cell's share of mass: a 4 x 4 grid keeps centers to an eighth
    assert abs(found.mark["y"][mark] - center[0]) < 0.13
    assert abs(found.mark["x"][mark] - center[1]) < 0.13


def test_a_stopped_one_goes_on_where_it_was(making, monkeypatch):
    scored, original = [], atlas_job.scorer

    def stops(folder, device=None):
        score = original(folder, device)

        def one(split, images):
            scored.append(images.start)
            if len(scored) == 2:
                making.stop()
            return score(split, images)

        return one

    monkeypatch.setattr(atlas_job, "scorer", stops)
    assert making.make() is False
    progress = making.progress()
    assert (progress.state, progress.done, progress.total) == ("stopped", 16, 32)
    assert making.make() and scored == [0, 8, 16, 24]
    assert making.make() and scored == [0, 8, 16, 24]  # opened again, not scored again


def test_it_is_made_in_a_process_of_its_own_that_may_die(run, snapshot):
    making = AtlasJob(run / "best", snapshot, "train")
    making.start()
    deadline = time.monotonic() + 120
    while not (is_locked(making.lock) and holder(making.lock)) and not making.table.exists():
        assert time.monotonic() < deadline, making.log.read_text()
        time.sleep(0.01)
    assert making.progress().state in ("running", "done")
    if is_locked(making.lock):
        os.kill(holder(making.lock), signal.SIGKILL)
    while is_locked(making.lock):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    making.start()
    while making.progress().state != "done":
        assert time.monotonic() < deadline, making.log.read_text()
        time.sleep(0.02)
    assert len(Atlas.open(making.table)) == 32


def test_other_weights_or_another_split_are_another_atlas(making, run, snapshot, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run / "best", copy)
    assert AtlasJob(copy, snapshot, "train").path.name == making.path.name  # the same content
    assert AtlasJob(copy, snapshot, "val").path.name != making.path.name
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert AtlasJob(copy, snapshot, "train").path.name != making.path.name


def test_what_went_wrong_is_said(making, run):
    making.path.mkdir(parents=True)
    making.lock.touch()
    making.log.write_text("Traceback\nValueError: the weights are damaged\n")
    progress = making.progress()
    assert (progress.state, progress.problem) == ("failed", "ValueError: the weights are damaged")
    making.table.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="score again"):
        Atlas.open(making.table)
    with pytest.raises(ValueError, match="train first"):
        AtlasJob(run, making.snapshot.path, "val")


@pytest.mark.parametrize(
    "text, kind",
    [
        ("A dog", "noun"),
        ("red,", "color"),
        ("sitting", "verb"),
        ("building", "noun"),
        ("to the left", "relation"),
        ("the", "other"),
        ("a red ball.", "noun"),
        ("🐎", "other"),
        ("In this image", "relation"),
        ("two", "other"),
        ("is standing", "verb"),
    ],
)
def test_a_light_rule_names_the_class(text, kind):
    assert word_class(text) == kind
