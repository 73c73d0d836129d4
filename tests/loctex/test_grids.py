"""Coarser and finer maps agree: on where a trace is, and in float32 on how near words are to it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from loctex.loading import augment, tokenization
from loctex.loading.collate import Collate
from loctex.loading.mixture import Mixture
from loctex.model import build
from loctex.model.features import cosine, direction
from loctex.records import trace
from loctex.records.snapshot import Snapshot
from loctex.training import step
from tests.loctex.small import small
from tests.loctex.test_step import batch, run_step
from tests.loctex.test_trace import random_trace


@pytest.mark.parametrize("grids", [(7, 4), (13, 7), (15, 8)])  # of 112, 200 and 240 px
def test_a_point_lies_within_half_a_cell_on_each_grid_where_sums_were_a_fifth_of_a_cell_off(grids):
    places = (np.arange(500) + 0.5) / 500
    strokes = [np.array([[x, 0.5, float(i)]]) for i, x in enumerate(places)]
    windows = np.column_stack([np.arange(500)] * 2).astype(float)
    shapes = [(size, size) for size in grids]
    fine, coarse = (maps[0] for maps in trace.rasterize_grids([strokes], [windows], shapes))
    for maps, size in zip((fine, coarse), grids, strict=True):
        error = np.abs(trace.centroid(maps)[:, 0] - places) * size
        assert error.max() <= 0.5

    summed = F.avg_pool2d(torch.from_numpy(fine), 2, ceil_mode=True, divisor_override=1).numpy()
    error = np.abs(trace.centroid(summed)[:, 0] - places) * grids[1]
    assert error.max() > 0.7  # as it was


def test_grids_count_the_same_points_and_whole_ones_are_sums_of_the_finer_bit_for_bit():
    random = np.random.default_rng(5)
    traces = [random_trace(random, count) for count in (3, 0, 2)]
    windows = [np.sort(random.uniform(0, 4, (6, 2)), axis=1) for _ in traces]
    maps = trace.rasterize_grids(traces, windows, [(14, 14), (7, 7), (4, 4)])
    for fine, half, quarter in zip(*maps, strict=True):
        sums = fine.reshape(-1, 7, 2, 7, 2).sum(axis=(2, 4))
        np.testing.assert_array_equal(half, sums)
        np.testing.assert_array_equal(quarter.sum(axis=(1, 2)), fine.sum(axis=(1, 2)))
    assert maps[0][0].any()
    (alone,) = trace.rasterize_grids(traces, windows, [(14, 14)])
    for one, among in zip(alone, maps[0], strict=True):
        np.testing.assert_array_equal(one, among)


def test_a_batch_has_a_target_for_each_grid_and_chunks_take_theirs(snapshot):
    split = Snapshot.open(snapshot).split("train")
    data = small(snapshot).data
    tokenizer = tokenization.train(split.captions(), 300, 96)
    examples = Mixture([split], [1.0], seed=0).examples(
        np.array([(0, row) for row in range(8)]), augment.uniforms(0, 0, 0, 8), data
    )
    grids = [(7, 7), (4, 4), (7, 7)]  # a transformer's stages share one
    collate = Collate(tokenizer=tokenizer, settings=data, grid=grids[0], coarser_grids=grids[1:])
    made = collate(examples)
    fine, coarse = made.targets
    assert fine.shape[2:] == (7, 7) and coarse.shape[2:] == (4, 4)
    assert torch.equal(fine.sum((2, 3)), coarse.sum((2, 3))) and fine.sum() > 100
    chunks = made.split(3)
    assert torch.equal(torch.cat([chunk.targets[1] for chunk in chunks]), coarse)

    skipping = replace(data, skip_stop_words=True)
    made = Collate(tokenizer=tokenizer, settings=skipping, grid=grids[0], coarser_grids=grids[1:])(
        examples
    )
    for target in made.targets:
        assert target[made.word < 0].sum() == 0 and target.sum() > 0


def test_cosines_are_float32_under_autocast():
    torch.manual_seed(0)
    vectors = torch.randn(2, 40, 64, dtype=torch.bfloat16)
    exact = F.normalize(vectors.double(), dim=-1)
    exact = exact @ exact.transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        ours = cosine(direction(vectors), direction(vectors))
        plain = F.normalize(vectors, dim=-1)
        plain = plain @ plain.transpose(1, 2)
    assert ours.dtype == torch.float32 and (ours - exact).abs().max() < 1e-6
    assert (plain - exact).abs().max() > 1e-3  # as it was

    model = build.build(small("none"), 300, 0).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        image = model.encode_image(torch.rand(2, 3, 64, 64))
        text = model.encode_text(torch.randint(4, 300, (2, 5)))
        contrastive = model.attend_contrastive(image, text)
        maps = model.attend(image, text)
        output = model(torch.rand(2, 3, 64, 64), torch.randint(4, 300, (2, 5)))
    for each in (contrastive, *maps, *output.cosine, *image.cells, *text.tokens):
        assert each.dtype == torch.float32


def test_a_step_in_bf16_takes_gradients_through_its_float32_cosines():
    model = build.build(small("none"), 300, 0).train()
    made = batch()
    with torch.autocast("cpu", torch.bfloat16):
        image = model.encode_image(step.pixels(made, model.config))
        text = model.encode_text(made.tokens)
        output = cosine(text.tokens[0], image.cells[0])
    output.square().sum().backward()
    head = model.attention_heads()[0]
    assert head.cell.weight.grad is not None and head.cell.weight.grad.abs().sum() > 0
    _, gradients = run_step(model, small("none", train__precision="fp32"))
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_a_pair_whose_caption_cannot_be_mirrored_is_never_flipped(snapshot):
    split = Snapshot.open(snapshot).split("train")
    item = split[0]
    german = replace(item.narratives[0], caption="Links steht ein Hund.", words=(), strokes=())
    english = replace(german, caption="A dog stands on the left.")
    settings = replace(small(snapshot).data, flip=1.0)
    for narrative, is_flipped in ((german, False), (english, True)):
        mixture = Mixture([[replace(item, narratives=(narrative,))]], [1.0], seed=0)
        examples = mixture.examples(np.zeros((4, 2), int), augment.uniforms(0, 0, 0, 4), settings)
        assert [example.augmentation.is_flipped for example in examples] == [is_flipped] * 4
