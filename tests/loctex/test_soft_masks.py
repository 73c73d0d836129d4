import numpy as np
import pytest
import torch

from loctex.model.config import LocTexConfig
from loctex.model.fusion import FusionEncoder
from loctex.model.soft_masks import draw_word, grad_cam, soft_mask, word_map

GRID = (3, 4)


def fusion_encoder(layers=3, gradcam_layer=2, **values) -> FusionEncoder:
    """Three layers of width 16 with four heads, for 24 image channels; dropout off."""
    config = LocTexConfig(vocab_size=50, text_width=16, text_heads=4, text_dropout=0.0)
    torch.manual_seed(0)
    parts = {"has_matching": True, "has_masked_words": True} | values
    return FusionEncoder(
        config.bert(16, layers), channels=24, text_width=16, gradcam_layer=gradcam_layer, **parts
    ).double()


def pairs(size=5, tokens=6):
    torch.manual_seed(1)
    is_token = torch.arange(tokens)[None] < torch.arange(size)[:, None] % 3 + tokens - 2
    hidden = torch.randn(size, tokens, 16, dtype=torch.float64)
    return hidden, is_token, torch.randn(size, 24, *GRID, dtype=torch.float64)


def slow_grad_cam(encoder, hidden, is_token, features) -> torch.Tensor:
    """An independent way: the layers above, written out, with the weights as a leaf."""
    fused = encoder(hidden, is_token, encoder.cells(features), GRID, is_inspected=True)
    seen = {}
    layer = encoder.layers[encoder.inspected]
    handles = [
        layer.attention.register_forward_hook(lambda m, i, o: seen.update(before=o[0].detach())),
        layer.cross.value.register_forward_hook(lambda m, i, o: seen.update(value=o.detach())),
        encoder.layers[0].register_forward_pre_hook(lambda m, i: seen.update(given=i)),
    ]
    with torch.no_grad():
        encoder(hidden, is_token, encoder.cells(features), GRID)
    for handle in handles:
        handle.remove()
    leaf = fused.weights.detach().requires_grad_()
    value = seen["value"].unflatten(-1, (4, 4)).transpose(1, 2)
    mixed = layer.cross.output(torch.einsum("bhtn,bhnd->bthd", leaf, value).flatten(2))
    state = layer.cross.norm(seen["before"] + mixed)
    state = layer.output(layer.intermediate(state), state)
    _, bias, cells, _ = seen["given"]
    for above in list(encoder.layers)[encoder.inspected + 1 :]:
        state = above(state, bias, cells, False)[0]
    encoder.matching(state[:, 0])[:, 1].sum().backward()
    return (leaf.detach() * leaf.grad.clamp_min(0)).mean(1)


@pytest.mark.parametrize("gradcam_layer", [1, 2])
def test_grad_cam_equals_an_independent_computation_and_keeps_the_words(gradcam_layer):
    encoder, (hidden, is_token, features) = fusion_encoder(gradcam_layer=gradcam_layer), pairs()
    fused = encoder(hidden, is_token, encoder.cells(features), GRID, is_inspected=True)
    found = grad_cam(encoder.matching(fused.start)[:, 1], fused.weights)
    assert found.shape == (5, 6, 12) and not found.requires_grad
    want = slow_grad_cam(encoder, hidden, is_token, features)
    torch.testing.assert_close(found, want, atol=1e-9, rtol=1e-5)
    assert float(want.abs().max()) > 1e-6
    assert (found.amax(-1) > found.amin(-1))[is_token].all()  # no word's row is constant


def score_with(encoder, given, place, change) -> float:
    """The matching score where one attention weight (pair, head, token, cell) is moved."""
    (pair, head, token, cell), seen = place, {}
    layer = encoder.layers[encoder.inspected].cross

    def moved(module, inputs):
        mixed = inputs[0].clone()
        part = mixed[pair, token].view(4, 4)[head]
        part += change * seen["value"].unflatten(-1, (4, 4))[pair, cell, head]
        return (mixed,)

    handles = [
        layer.value.register_forward_hook(lambda m, i, o: seen.update(value=o)),
        layer.output.register_forward_pre_hook(moved),
    ]
    with torch.no_grad():
        score = encoder.matching(encoder(*given, GRID).start)[pair, 1]
    for handle in handles:
        handle.remove()
    return float(score)


def test_the_gradient_of_grad_cam_equals_finite_differences_of_the_matching_score():
    encoder, (hidden, is_token, features) = fusion_encoder(), pairs()
    given = (hidden, is_token, encoder.cells(features).detach())
    fused = encoder(*given, GRID, is_inspected=True)
    score = encoder.matching(fused.start)[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), fused.weights, retain_graph=True)
    for place in [(0, 1, 2, 3), (3, 3, 0, 11), (4, 0, 3, 5)]:
        slope = score_with(encoder, given, place, 1e-5) - score_with(encoder, given, place, -1e-5)
        assert float(gradient[place]) == pytest.approx(slope / 2e-5, rel=1e-5)
    want = (fused.weights * gradient.clamp_min(0)).mean(1).detach()
    torch.testing.assert_close(grad_cam(score, fused.weights), want)


def test_grad_cam_leaves_every_grad_as_it_was_and_the_graph_for_the_loss():
    encoder, (hidden, is_token, features) = fusion_encoder(), pairs()
    features.requires_grad_()

    def loss(asks: bool):
        encoder.zero_grad()
        fused = encoder(hidden, is_token, encoder.cells(features), GRID, is_inspected=True)
        for parameter in encoder.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        features.grad = torch.full_like(features, 0.5)
        score = encoder.matching(fused.start)[:, 1]
        if asks:
            grad_cam(score, fused.weights)
            everything = [*encoder.parameters(), features]
            assert all(bool((part.grad == 0.5).all()) for part in everything)
        score.square().sum().backward()
        return [p.grad.clone() for p in encoder.parameters()]

    for one, two in zip(loss(False), loss(True), strict=True):
        assert torch.equal(one, two)


def test_in_the_last_layer_only_the_first_token_would_have_a_map():
    """Why Grad-CAM reads a layer below the last."""
    encoder, (hidden, is_token, features) = fusion_encoder(gradcam_layer=3), pairs()
    fused = encoder(hidden, is_token, encoder.cells(features), GRID, is_inspected=True)
    found = grad_cam(encoder.matching(fused.start)[:, 1], fused.weights)
    assert float(found[:, 0].max()) > 0 and float(found[:, 1:].abs().max()) == 0


def test_the_inspected_path_gives_what_the_fast_one_gives():
    encoder, (hidden, is_token, features) = fusion_encoder(), pairs()
    cells = encoder.cells(features)
    slow = encoder(hidden, is_token, cells, GRID, is_inspected=True)
    fast = encoder(hidden, is_token, cells, GRID)
    encoder.config._attn_implementation = "eager"
    eager = encoder(hidden, is_token, cells, GRID)
    assert fast.weights is None
    torch.testing.assert_close(slow.hidden, fast.hidden, atol=1e-6, rtol=0)
    torch.testing.assert_close(eager.hidden, fast.hidden, atol=1e-6, rtol=0)
    torch.testing.assert_close(slow.weights.sum(-1), torch.ones(5, 4, 6), check_dtype=False)


def test_padding_changes_nothing_and_cells_know_their_place():
    encoder, (hidden, is_token, features) = fusion_encoder(), pairs()
    cells = encoder.cells(features)
    whole = encoder(hidden, is_token, cells, GRID)
    cut = encoder(hidden[:1, :4], is_token[:1, :4], cells[:1], GRID)
    torch.testing.assert_close(whole.hidden[:1, :4], cut.hidden, atol=1e-6, rtol=0)
    mirrored = encoder.cells(features.flip(-1))
    moved = encoder(hidden, is_token, mirrored, GRID)
    assert float((moved.hidden - whole.hidden)[is_token].detach().abs().max()) > 1e-3


def test_dimming_the_cells_is_dimming_the_features():
    encoder, (_, _, features) = fusion_encoder(), pairs()
    mask = torch.rand(5, 12, dtype=torch.float64)
    dimmed = encoder.cells(features * (1 - mask).view(5, 1, *GRID))
    torch.testing.assert_close(dimmed, encoder.cells(features) * (1 - mask)[..., None])


def test_a_soft_mask_lies_between_0_and_1_and_a_constant_map_masks_nothing():
    maps = torch.tensor([[2.0, 4.0, 3.0, 2.5], [7.0, 7.0, 7.0, 7.0], [0.0, 0.0, 0.0, 0.0]])
    assert soft_mask(maps).tolist() == [[0, 1, 0.5, 0.25], [0] * 4, [0] * 4]
    assert soft_mask(maps, "hard").tolist() == [[0, 1, 0, 0], [0] * 4, [0] * 4]
    torch.manual_seed(0)
    found = [soft_mask(maps, "random")[0] for _ in range(200)]
    assert all(sorted(row.tolist()) == [0, 0.25, 0.5, 1] for row in found)
    often = np.mean([row.numpy() == 1 for row in found], axis=0)
    assert (abs(often - 0.25) < 0.1).all()


def test_a_mask_of_tiny_numbers_is_as_good_as_any():
    maps = torch.tensor([[1e-12, 3e-12, 2e-12]])
    torch.testing.assert_close(soft_mask(maps), torch.tensor([[0.0, 1.0, 0.5]]))


def test_each_word_is_drawn_as_often_whatever_its_number_of_tokens():
    word = torch.tensor([[-1, 0, 0, 0, 1, -1, 2, -1]]).repeat(3000, 1)
    torch.manual_seed(0)
    chosen = draw_word(word)
    assert not chosen[word < 0].any()
    for number in range(3):
        tokens = chosen[:, word[0] == number]
        assert torch.equal(tokens.all(1), tokens.any(1))  # a word whole, or not at all
        assert float(tokens.any(1).float().mean()) == pytest.approx(1 / 3, abs=0.03)
    assert not draw_word(torch.full((2, 5), -1)).any()


def test_the_map_of_a_word_is_the_mean_of_its_tokens():
    maps = torch.arange(12.0).view(1, 3, 4)
    chosen = torch.tensor([[False, True, True]])
    assert word_map(maps, chosen).tolist() == [[6, 7, 8, 9]]
    assert word_map(maps, torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0] * 4]
