"""The losses of the fusion encoder in a step: alone, in chunks, over processes, compiled."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from loctex import settings
from loctex.jobs.run import Run
from loctex.loading.collate import Batch
from loctex.model import build, losses
from loctex.model import fusion_losses as matching
from loctex.training import step
from loctex.training.loop import train
from tests.loctex.small import BACKBONE, small
from tests.loctex.test_step import ROOT, assert_close, environment, gradients
from tests.loctex.test_step import batch as plain_batch
from tests.loctex.test_train import assert_same_run

ALL = {
    "loss__matching_weight": 1.0,
    "loss__masked_words_weight": 1.0,
    "loss__soft_mask_weight": 0.5,
    "loss__fusion_localization_weight": 0.7,
    "loss__focal": 2.0,
}


def batch(size=8, tokens=6) -> Batch:
    """Random pairs; one word of two tokens each, which is also the hidden one."""
    made = plain_batch(size, tokens)
    made.word = torch.full((size, tokens), -1)
    made.word[:, 2:4] = 0
    made.hidden = made.tokens.clone()
    made.hidden[:, 2:4] = 3
    made.hidden_at = torch.tensor([[2, 3, 0]]).repeat(size, 1)
    return made


def model_for(**values):
    """Group norms and no dropout: the same answers however a batch is split."""
    options = BACKBONE | {"norm_layer": "groupnorm1"}
    wanted = small("none", train__precision="fp32", **(ALL | values))
    changed = settings.with_values(wanted, {"model": {"backbone_options": options}})
    torch.manual_seed(0)
    return build.build(changed, 300, 0).train(), wanted


def run(model, wanted, part=None):
    model.zero_grad()
    parts = step.backward(model, part or batch(), wanted, seed=(0, 1, 0))
    return parts, gradients(model)


def test_every_trainable_parameter_gets_a_gradient_and_every_part_is_reported():
    model, wanted = model_for()
    parts, found = run(model, wanted)
    for name in ("matching", "soft_mask", "masked_words", "fusion_localization", "localization"):
        assert float(parts[f"loss_{name}"]) > 0, name
    assert set(found) == {n for n, p in model.named_parameters() if p.requires_grad}
    total = parts["loss_contrastive"] + parts["loss_localization"] + parts["loss_matching"]
    total = total + parts["loss_masked_words"] + 0.5 * parts["loss_soft_mask"]
    total = total + 0.7 * parts["loss_fusion_localization"]
    torch.testing.assert_close(parts["loss"], total)


def test_parts_without_weight_are_not_even_built():
    plain = build.build(small("none"), 300, 0)
    assert plain.fusion is None and not any("fusion" in n for n, _ in plain.named_parameters())
    output = plain(torch.rand(2, 3, 64, 64), torch.randint(4, 300, (2, 5)))
    assert output.last is None and output.hidden is None
    only = build.build(small("none", loss__masked_words_weight=1.0), 300, 0)
    assert only.fusion.matching is None and only.fusion.guess is not None


@pytest.mark.parametrize("source", ["gradcam", "attention", "trace"])
def test_a_mask_of_nothing_gives_the_plain_matching_loss(source, monkeypatch):
    """n = 0 everywhere, by a constant map (METHOD 2): the true and false caption of each image."""
    model, wanted = model_for(loss__mask_source=source)
    maps, plain = matching.token_maps, losses.matching
    seen = []

    def constant(*given):
        found, word = maps(*given)
        return torch.ones_like(found), word

    def matched(positive, negative, is_valid):
        seen.append((positive.detach(), negative.detach(), is_valid))
        return plain(positive, negative, is_valid)

    monkeypatch.setattr(losses, "matching", matched)
    monkeypatch.setattr(matching, "token_maps", constant)
    parts, _ = run(model, wanted)
    (positive, negative, is_valid), (dimmed, _, _) = seen
    want = plain(positive, negative[:1], is_valid[:1]) / 8
    torch.testing.assert_close(dimmed, positive, atol=1e-6, rtol=0)
    torch.testing.assert_close(parts["loss_soft_mask"], want, atol=1e-6, rtol=0)
    monkeypatch.setattr(matching, "token_maps", maps)
    parts, _ = run(model, wanted)
    assert abs(float(parts["loss_soft_mask"] - want)) > 1e-5


def test_the_trace_dims_the_cells_it_passes_most_and_no_others():
    model, wanted = model_for(loss__mask_source="trace")
    made = batch()
    made.target = torch.zeros_like(made.target)
    made.target[:, 2:4, 1, 2] = 3.0
    made.target[:, 2:4, 3, 0] = 1.0
    output = step.forward(model, made, wanted, (0,))
    cells = torch.ones(8, 16, 32)
    dimmed = matching.dimmed(cells, None, output, made, model, wanted)
    share = dimmed.mean(-1).view(8, 4, 4)
    torch.testing.assert_close(share[:, 1, 2], torch.zeros(8))
    torch.testing.assert_close(share[:, 3, 0], torch.full((8,), 2 / 3))
    share[:, 1, 2] = share[:, 3, 0] = 1
    torch.testing.assert_close(share, torch.ones(8, 4, 4))


def test_hard_negatives_are_drawn_by_their_similarity_and_never_of_the_own_image():
    keys = torch.tensor([0, 1, 2, 0, 3])
    same = keys[:, None] == keys[None, :]
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)) * 2
    torch.manual_seed(0)
    drawn = torch.stack([matching.hard_negatives(logits, same) for _ in range(4000)])
    for row in range(5):
        want = logits[row].masked_fill(same[row], float("-inf")).softmax(-1)
        often = torch.bincount(drawn[:, row], minlength=5) / len(drawn)
        torch.testing.assert_close(often, want, atol=0.03, rtol=0)
        assert not same[row][drawn[:, row]].any()


def test_pairs_that_have_no_other_image_count_no_negatives():
    model, wanted = model_for(loss__soft_mask_weight=0.0)
    made = batch(3)
    made.key[:] = 7
    parts, found = run(model, wanted, made)
    assert all(torch.isfinite(g).all() for g in found.values())
    output = step.forward(model, made, wanted, (0,))
    cells = model.fusion.cells(output.last)
    true_pair = matching.FusionInput(output.hidden, made.tokens > 0, cells)
    inputs, is_valid = matching.negatives(true_pair, output, made, model)
    assert not is_valid.any() and len(inputs) == 2
    fused = model.fusion(output.hidden, made.tokens > 0, model.fusion.cells(output.last), (4, 4))
    want = losses.matching(model.fusion.matching(fused.start), torch.zeros(2, 3, 2), is_valid) / 3
    torch.testing.assert_close(parts["loss_matching"], want.detach())


def test_chunks_of_two_give_the_same_in_one_process_and_in_two(tmp_path):
    """Hard negatives are drawn inside a chunk: of two pairs, each has one choice."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        str(script),
        str(tmp_path / "out.pt"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(tmp_path / "out.pt", weights_only=True)
    model, wanted = model_for(train__accumulate=4)
    parts, whole = run(model, wanted)
    for name in parts:
        torch.testing.assert_close(two["parts"][name], parts[name], atol=1e-5, rtol=0)
    assert_close(whole, two["grads"])


WORKER = """
import sys, torch
from torch.nn.parallel import DistributedDataParallel
from loctex import distributed
from tests.loctex import test_matching as t
distributed.start("cpu")
model, wanted = t.model_for(train__accumulate=2)
part = t.batch().split(2)[distributed.rank()]
parts, grads = t.run(DistributedDataParallel(model), wanted, part)
if distributed.rank() == 0:
    grads = {n.removeprefix("module."): g for n, g in grads.items()}
    torch.save({"parts": parts, "grads": grads}, sys.argv[1])
distributed.stop()
distributed.leave()
"""


def test_chunks_give_what_one_batch_gives_where_nothing_is_drawn():
    values = {"loss__matching_weight": 0.0, "loss__soft_mask_weight": 0.0}
    model, wanted = model_for(**values)
    parts, whole = run(model, wanted)
    chunked, split = run(
        model, small("none", train__precision="fp32", train__accumulate=4, **(ALL | values))
    )
    for name in parts:
        torch.testing.assert_close(chunked[name], parts[name], atol=1e-5, rtol=0)
    assert_close(whole, split)


def test_compiled_gives_what_eager_gives():
    """Grad-CAM needs the graph of the fusion encoder, which stays outside the compiled part."""
    model, wanted = model_for()
    parts, whole = run(model, wanted)
    torch._dynamo.reset()
    compiled, split = run(torch.compile(model, backend="aot_eager"), wanted)
    for name in parts:
        torch.testing.assert_close(compiled[name], parts[name], atol=1e-5, rtol=0)
    assert_close(whole, {n.removeprefix("_orig_mod."): g for n, g in split.items()})


def test_bf16_is_near_float32():
    model, wanted = model_for()
    exact, _ = run(model, wanted)
    near, found = run(model, small("none", train__precision="bf16", **ALL))
    assert all(torch.isfinite(g).all() for g in found.values())
    for name in ("loss_matching", "loss_soft_mask", "loss_masked_words"):
        assert float(near[name]) == pytest.approx(float(exact[name]), rel=0.05), name


def test_a_vision_transformer_and_another_width_work_too():
    options = {"depth": 2, "img_size": 64}
    wanted = small(
        "none",
        model__backbone="vit_tiny_patch16_224",
        model__backbone_options=options,
        model__fusion_width=48,
        model__fusion_layers=3,
        train__precision="fp32",
        **ALL,
    )
    torch.manual_seed(0)
    model = build.build(wanted, 300, 0).train()
    parts, found = run(model, wanted)
    assert model.fusion.cell.weight.shape == (48, 192) and model.fusion.inspected == 1
    assert set(found) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert float(parts["loss_soft_mask"]) > 0


def test_a_plain_run_grows_a_fusion_encoder_from_its_text_encoders_last_layers(tmp_path):
    plain = build.build(small("none", model__text_layers=3), 300, 0)
    plain.save_pretrained(tmp_path)
    wanted = small("none", model__fusion_init="text", model__text_layers=3, **ALL)
    grown = build.with_fusion(build.load(tmp_path, build.overrides(wanted)), wanted)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, grown.state_dict()[name]), name
    for number in range(2):
        own, source = grown.fusion.layers[number], plain.text_encoder.encoder.layer[number + 1]
        assert torch.equal(own.intermediate.dense.weight, source.intermediate.dense.weight)
        assert torch.equal(own.attention.self.query.weight, source.attention.self.query.weight)
    grown.save_pretrained(tmp_path / "grown")
    again = build.with_fusion(build.load(tmp_path / "grown", build.overrides(wanted)), wanted)
    for name, value in grown.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    back = build.with_fusion(again, small("none", model__text_layers=3))
    assert back.fusion is None


def changes(size=8, tokens=6) -> Batch:
    """The same pairs, and captions whose third word changed; those of the last pair did not."""
    made = batch(size, tokens)
    made.changed, made.new_word = made.tokens.clone(), torch.zeros(size, tokens, dtype=torch.bool)
    made.changed[:-1, 2:4] = 7
    made.new_word[:-1, 2:4] = True
    made.true_word, made.kept_word = made.new_word.clone(), torch.zeros_like(made.new_word)
    made.kept_word[:-1, 4] = made.true_word[:-1, 4] = True
    return made


def test_the_loss_of_changed_words_equals_a_slow_reference_and_known_answers():
    torch.manual_seed(0)
    true, changed = torch.randn(2, 3, 5, 2, dtype=torch.float64)
    is_true, is_new = torch.rand(2, 3, 5) < 0.5
    is_true[2], is_new[2] = False, False
    is_kept = ~is_new
    is_kept[1:] = False  # the second caption keeps none
    assert is_true[:2].any(1).all() and is_new[:2].any(1).all() and is_kept[0].any()
    slow = 0.0
    for row, share in ((0, 0.25), (1, 0.5), (2, 0.0)):
        for logits, chosen, answer, weight in (
            (true, is_true, 1, share),
            (changed, is_kept, 1, 0.25),
            (changed, is_new, 0, 0.5),
        ):
            picked = [-logits[row, t].log_softmax(0)[answer] for t in range(5) if chosen[row, t]]
            slow += float(sum(picked) / len(picked)) * weight if picked else 0.0
    fast = losses.changed_words(true, changed, is_true, is_new, is_kept)
    assert float(fast) == pytest.approx(slow, abs=1e-6)
    even, none = torch.zeros(3, 5, 2), is_true & False
    same = losses.changed_words(even, even, is_true, is_new, is_kept)
    assert float(same) == pytest.approx(2 * math.log(2))
    assert float(losses.changed_words(true, changed, none, none, none)) == 0


def test_changed_words_are_told_from_the_image_and_the_same_in_chunks():
    values = {
        "loss__changed_captions": True,
        "loss__changed_word_weight": 0.5,
        "loss__soft_mask_weight": 0.0,
        "loss__masked_words_weight": 0.0,
    }
    model, wanted = model_for(**values)
    parts, whole = run(model, wanted, changes())
    assert float(parts["loss_changed_word"]) > 0
    assert whole["fusion.truth.weight"].abs().sum() > 0
    made = changes()
    fused = model(step.pixels(made, model.config), made.tokens, made.lengths, None, made.changed)
    sums = matching.fused_losses(model, fused, made, wanted)
    torch.testing.assert_close(parts["loss_changed_word"], sums["changed_word"].detach() / 8)
    chunks, _ = run(model, replace(wanted, train=replace(wanted.train, accumulate=2)), changes())
    torch.testing.assert_close(chunks["loss_changed_word"], parts["loss_changed_word"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"loss__focal": 0.5}, "0, or 1 and more"),
        ({"model__gradcam_layer": 2}, "below the last"),
        ({"loss__soft_mask_weight": 1.0, "loss__matching_weight": 0.0}, "needs loss.matching"),
        ({"data__mask_words": 0.0}, "needs data.mask_words"),
        ({"loss__changed_word_weight": 1.0}, "needs loss.changed_captions"),
        ({"loss__mask_source": "attention", "loss__localization_weight": 0.0}, "trains the"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        small("none", **(ALL | values))


def test_a_fusion_encoder_of_another_width_cannot_copy_the_text_encoder():
    wanted = small("none", model__fusion_init="text", model__fusion_width=48, **ALL)
    with pytest.raises(ValueError, match="as wide as the text encoder"):
        build.build(wanted, 300, 0)


def test_a_run_with_every_part_stopped_and_resumed_equals_undisturbed(snapshot, tmp_path):
    values = ALL | {"loss__changed_captions": True, "loss__changed_word_weight": 1.0}
    values |= {"data__distort": 2, "train__steps": 4}
    wanted = small(snapshot, model__text_dropout=0.1, train__evaluate_every=0, **values)
    train(wanted, Run(tmp_path / "whole"))
    run = Run(tmp_path / "halved")
    run.request_stop()
    train(wanted, run)
    run.clear_stop()
    assert train(wanted, run, "last")["is_done"]
    assert_same_run(tmp_path / "whole", tmp_path / "halved")
