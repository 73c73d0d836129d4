import math

import pytest
import torch
import torch.nn.functional as F

from loctex.model import losses


def slow_contrastive(image, text, scale, keys=None):
    total, size = 0.0, len(image)
    for rows, columns in ((image, text), (text, image)):
        for i in range(size):
            terms = []
            for j in range(size):
                if i == j or keys is None or keys[i] != keys[j]:
                    terms.append(math.exp(scale * float(rows[i] @ columns[j])))
            total += -math.log(math.exp(scale * float(rows[i] @ columns[i])) / sum(terms))
    return total / (2 * size)


def embeddings(seed=0, size=7, width=16):
    torch.manual_seed(seed)
    return (F.normalize(torch.randn(size, width, dtype=torch.float64), dim=-1) for _ in range(2))


def test_contrastive_equals_a_slow_reference():
    image, text = embeddings()
    fast = losses.contrastive(image.double(), text.double(), torch.tensor(5.0))
    assert float(fast) == pytest.approx(slow_contrastive(image, text, 5.0), abs=1e-6)


def test_pairs_of_one_image_are_not_each_others_negatives():
    image, text = embeddings(1)
    keys = torch.tensor([3, 1, 3, 2, 0, 2, 3])
    fast = losses.contrastive(image, text, torch.tensor(4.0), keys[:, None])
    assert float(fast) == pytest.approx(slow_contrastive(image, text, 4.0, keys), abs=1e-6)


def test_contrastive_of_equal_embeddings_is_the_log_of_their_number():
    same = F.normalize(torch.ones(8, 4), dim=-1)
    assert float(losses.contrastive(same, same, torch.tensor(9.0))) == pytest.approx(
        math.log(8), abs=1e-6
    )


def cosines_and_targets():
    torch.manual_seed(2)
    cosine = torch.rand(2, 3, 4, dtype=torch.float64) * 2 - 1
    target = torch.zeros(2, 3, 4, dtype=torch.float64)
    target[0, 1, 0], target[0, 1, 2], target[1, 0, 1], target[1, 2] = 1, 3, 2, 1
    return cosine, target


def test_localization_ce_equals_a_slow_reference_over_grounded_tokens():
    cosine, target = cosines_and_targets()
    total, count = losses.localization_ce(cosine, target, torch.tensor(3.0))
    slow = 0.0
    for b, t in ((0, 1), (1, 0), (1, 2)):
        weights = [math.exp(3.0 * float(c)) for c in cosine[b, t]]
        wanted = target[b, t] / target[b, t].sum()
        slow -= sum(
            float(q) * math.log(w / sum(weights)) for q, w in zip(wanted, weights, strict=True)
        )
    assert int(count) == 3
    assert float(total) == pytest.approx(slow, abs=1e-6)


def test_localization_l2_equals_a_slow_reference_over_grounded_tokens():
    cosine, target = cosines_and_targets()
    total, count = losses.localization_l2(cosine, target, torch.tensor(3.0))
    slow = 0.0
    for b, t in ((0, 1), (1, 0), (1, 2)):
        positive = [max(0.0, float(c)) for c in cosine[b, t]]
        norm = math.sqrt(sum(c * c for c in positive))
        length = float(target[b, t].norm())
        slow += sum(
            (c / norm - float(q) / length) ** 2 for c, q in zip(positive, target[b, t], strict=True)
        )
    assert int(count) == 3
    assert float(total) == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("form", ["ce", "l2"])
def test_a_batch_without_grounded_words_gives_zero_with_a_graph(form):
    cosine = torch.rand(2, 3, 4, requires_grad=True)
    scale = torch.tensor(3.0, requires_grad=True)
    total, count = losses.LOCALIZATION[form](cosine, torch.zeros(2, 3, 4), scale)
    total.backward()
    assert float(total.detach()) == 0 and int(count) == 0
    assert float(cosine.grad.abs().sum()) == 0 and float(scale.grad) == 0


@pytest.mark.parametrize(("form", "best"), [("ce", 0.0), ("l2", 0.0)])
def test_a_perfect_map_costs_nothing(form, best):
    cosine = torch.tensor([[[-1.0, 1.0, -1.0, -1.0]]])
    target = torch.tensor([[[0.0, 5.0, 0.0, 0.0]]])
    total, _ = losses.LOCALIZATION[form](cosine, target, torch.tensor(50.0))
    assert float(total) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("form", ["ce", "l2"])
def test_gradients_equal_finite_differences(form):
    cosine, target = cosines_and_targets()
    cosine = (cosine + 0.05 * torch.sign(cosine)).requires_grad_()  # away from relu's corner
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss = losses.LOCALIZATION[form]
    value = loss(cosine, target, scale)[0]
    value.backward()
    step = 1e-3  # the loss computes in float32
    for place in [(0, 1, 2), (1, 0, 1), (1, 2, 3)]:
        moved = [cosine.detach().clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (float(loss(part, target, scale.detach())[0]) for part in moved)
        assert float(cosine.grad[place]) == pytest.approx((up - down) / (2 * step), abs=2e-3)


def test_each_stage_takes_the_target_of_its_own_grid():
    targets = [torch.rand(2, 3, 13, 13), torch.rand(2, 3, 7, 7)]
    for target, cells in zip(targets, (13 * 13, 7 * 7), strict=True):
        assert torch.equal(losses.at_grid(targets, cells), target.flatten(2))
    with pytest.raises(AssertionError, match=r"no target of 16 cells, only of \[169, 49\]"):
        losses.at_grid(targets, 16)


def test_attention_has_mass_one_in_both_forms():
    torch.manual_seed(3)
    cosine = torch.rand(2, 3, 9) * 2 - 1
    for form in losses.ATTENTION.values():
        maps = form(cosine, torch.tensor(10.0))
        assert float((maps.sum(-1) - 1).abs().max()) < 1e-5


def slow_focal(query, candidates, scale, targets, gamma):
    """-sum_j q_j (1 - p_j)^gamma log p_j, one query at a time (METHOD 2)."""
    total = 0.0
    for row, target in zip(query, targets, strict=True):
        weights = [math.exp(scale * float(row @ other)) for other in candidates]
        shares = [weight / sum(weights) for weight in weights]
        total -= sum(
            float(q) * (1 - p) ** gamma * math.log(p) for q, p in zip(target, shares, strict=True)
        )
    return total / len(query)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_focal_loss_equals_a_slow_reference_with_hard_and_soft_targets(gamma):
    image, text = embeddings(4)
    scale = torch.tensor(3.0)
    hard = losses.info_nce(image, text, scale, focal=gamma)
    assert float(hard) == pytest.approx(slow_focal(image, text, 3.0, torch.eye(7), gamma), abs=1e-6)
    target = torch.rand(7, 7).softmax(-1)
    soft = losses.info_nce(image, text, scale, focal=gamma, target=target)
    assert float(soft) == pytest.approx(slow_focal(image, text, 3.0, target, gamma), abs=1e-6)


def test_focal_exponent_zero_is_info_nce():
    """Bit for bit where the same operations run; to 1e-6 by the focal formula itself, which the
    setting 0 does not even enter."""
    image, text = embeddings(5)
    keys = torch.tensor([3, 1, 3, 2, 0, 2, 3])
    plain = losses.contrastive(image, text, torch.tensor(4.0), keys[:, None])
    assert torch.equal(
        losses.contrastive(image, text, torch.tensor(4.0), keys[:, None], focal=0.0), plain
    )
    same = keys[:, None] == keys[None, :]
    excluded = same.fill_diagonal_(False)
    one_hot = torch.eye(7)
    formula = [
        losses.info_nce(a, b, torch.tensor(4.0), excluded, 0.0, one_hot)
        for a, b in ((image, text), (text, image))
    ]
    torch.testing.assert_close((formula[0] + formula[1]) / 2, plain, rtol=0, atol=1e-6)


def test_focal_loss_of_a_coin_toss_is_known():
    query = torch.tensor([[1.0, 0.0]])
    both = torch.tensor([[0.0, 1.0], [0.0, 1.0]])  # equal to the query's eyes: p = 1/2
    value = losses.info_nce(query, both, torch.tensor(7.0), focal=2.0)
    assert float(value) == pytest.approx(0.25 * math.log(2), abs=1e-6)


def test_focal_gradients_equal_finite_differences():
    image, text = embeddings(6)
    target = torch.rand(7, 7).softmax(-1)
    for wanted in (None, target):
        query = image.clone().requires_grad_()
        losses.info_nce(query, text, torch.tensor(3.0), focal=2.0, target=wanted).backward()
        for place in [(0, 1), (3, 7), (6, 15)]:
            moved = [image.clone() for _ in range(2)]
            moved[0][place] += 1e-2
            moved[1][place] -= 1e-2
            up, down = (
                float(losses.info_nce(part, text, torch.tensor(3.0), focal=2.0, target=wanted))
                for part in moved
            )
            assert float(query.grad[place]) == pytest.approx((up - down) / 2e-2, abs=1e-3)


def test_focal_gradient_is_finite_for_a_pair_that_is_certain():
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    losses.info_nce(query, query.detach(), torch.tensor(100.0), focal=1.0).backward()
    assert torch.isfinite(query.grad).all()


def test_distillation_moves_the_target_from_the_pair_to_the_momentum_encoders_answer():
    image, text = embeddings(7)
    slow = losses.Candidates(*(x.float() for x in embeddings(8)), torch.arange(7)[:, None])
    keys, scale = slow.keys, torch.tensor(3.0)
    found = losses.contrastive(image, text, scale, keys, slow, softness=0.4)
    want = 0.0
    for query, own, others in ((image, slow.image, slow.text), (text, slow.text, slow.image)):
        answer = (3.0 * own @ others.T).softmax(-1)
        target = 0.4 * answer + 0.6 * torch.eye(7)
        want += slow_focal(query.float(), others, 3.0, target, 0.0) / 2
    assert float(found) == pytest.approx(want, abs=1e-5)
    assert torch.equal(
        losses.contrastive(image, text, scale, keys, slow, softness=0.0),
        losses.contrastive(image, text, scale, keys, slow),
    )


def test_matching_is_the_mean_of_each_pairs_decisions():
    torch.manual_seed(9)
    positive, negative = torch.randn(4, 2), torch.randn(2, 4, 2)
    is_valid = torch.ones(2, 4, dtype=torch.bool)
    slow = 0.0
    for i in range(4):
        slow -= float(positive[i].log_softmax(-1)[1]) / 3
        slow -= sum(float(negative[k, i].log_softmax(-1)[0]) for k in range(2)) / 3
    assert float(losses.matching(positive, negative, is_valid)) == pytest.approx(slow, abs=1e-5)
    nothing = losses.matching(torch.zeros(4, 2), torch.zeros(2, 4, 2), is_valid)
    assert float(nothing) == pytest.approx(4 * math.log(2), abs=1e-6)
    wild = negative.clone()
    wild[:, 2] = 1e4
    is_valid[:, 2] = False
    assert float(losses.matching(positive, wild, is_valid)) < 100


def test_hidden_words_cost_their_cross_entropy_and_none_costs_zero_with_a_graph():
    torch.manual_seed(10)
    logits = torch.randn(2, 3, 5, requires_grad=True)
    words = torch.tensor([[4, -100, 0], [-100, -100, 2]])
    total, count = losses.masked_words(logits, words)
    slow = -sum(
        logits.detach()[b, k].log_softmax(-1)[words[b, k]].item()
        for b, k in ((0, 0), (0, 2), (1, 2))
    )
    assert int(count) == 3 and total.item() == pytest.approx(slow, abs=1e-5)
    total, count = losses.masked_words(logits, torch.full((2, 3), -100))
    total.backward()
    assert total.item() == 0 and int(count) == 0 and float(logits.grad.abs().sum()) == 0


def test_localization_of_attention_is_that_of_its_logits():
    cosine, target = cosines_and_targets()
    weights = (3.0 * cosine).softmax(-1)[:, None].expand(-1, 4, -1, -1)  # four equal heads
    found, count = losses.localization_of_attention(weights, target)
    want, same = losses.localization_ce(cosine, target, torch.tensor(3.0))
    assert int(count) == int(same) == 3
    assert float(found) == pytest.approx(float(want), abs=1e-5)
