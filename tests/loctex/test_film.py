"""The film of learning: whole, the same after a resume, and without effect on what is learned."""

import base64

import numpy as np
import pytest
import torch

from loctex.jobs.run import Run
from loctex.model import build
from loctex.records.snapshot import Snapshot
from loctex.training.film import WORDS, choose
from loctex.training.loop import train
from tests.loctex.small import small


def maps_of(frame: dict, picture: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(frame["maps"][picture]), np.uint8).reshape(shape)


def test_a_film_has_a_frame_before_the_first_step_and_every_so_many(snapshot, tmp_path):
    run = Run(tmp_path / "run")
    train(small(snapshot, train__film_every=3, train__film_pictures=2), run)
    head, frames = run.film()
    assert [frame["step"] for frame in frames] == [0, 3, 6, 8]
    assert len(head["pictures"]) == 2
    for number, picture in enumerate(head["pictures"]):
        count = len(picture["words"])
        assert 1 <= count <= WORDS
        assert max(picture["width"], picture["height"]) == 240
        for word in picture["words"]:
            start, end = word["span"]
            assert picture["caption"][start:end] == word["text"]
        for frame in frames:
            shown = maps_of(frame, number, (count, *head["grid"]))
            assert shown.reshape(count, -1).max(axis=1).tolist() == [255] * count
            assert len(frame["hits"][number]) == count
    first, last = (maps_of(frame, 0, (-1,)) for frame in (frames[0], frames[-1]))
    assert not np.array_equal(first, last), "it learns"


def test_filming_changes_nothing_that_is_learned_and_a_resume_films_the_same(snapshot, tmp_path):
    wanted = small(snapshot, train__film_every=2, model__text_dropout=0.1)
    bare = small(snapshot, train__film_every=0, model__text_dropout=0.1)
    runs = [Run(tmp_path / name) for name in ("filmed", "bare", "again")]
    train(wanted, runs[0])
    train(bare, runs[1])
    assert not runs[1].film_file.exists()
    weights = [build.load(run.path / "last").state_dict() for run in runs[:2]]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    runs[2].request_stop()  # it ends at its first log, step 1
    train(wanted, runs[2])
    assert [frame["step"] for frame in runs[2].film()[1]] == [0]
    with open(runs[2].film_file, "a") as file:
        file.write('{"step": 2, "maps": []}\n{"step": 4, "ma')  # of a future that is dropped
    runs[2].clear_stop()
    train(wanted, runs[2], "last")
    frames = {frame["step"]: frame for frame in runs[2].film()[1]}
    for frame in runs[0].film()[1]:
        assert frames[frame["step"]] == frame


def test_pictures_without_a_trace_are_passed_over(snapshot):
    split = Snapshot.open(snapshot).split("val")

    assert [p.item.image_id for p in choose(split, (7, 7), 0.2, 2)] == [
        split[i].image_id for i in range(2)
    ]
    none = [type(split[0])("d", "1", 9, 9, split[0].image, (), ())]
    assert choose(none, (7, 7), 0.2, 2) == []
    assert len(choose([*none, split[1]], (7, 7), 0.2, 2)) == 1


@pytest.mark.parametrize("text", ["", "{"])
def test_a_film_not_yet_written_is_no_film(tmp_path, text):
    run = Run(tmp_path)
    assert run.film() == (None, [])
    run.film_file.write_text(text)
    assert run.film() == (None, [])
