import math

import pytest
import torch
import torch.nn.functional as F

from loctex import losses


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
    fast = losses.contrastive(image, text, torch.tensor(4.0), keys)
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
        slow += sum((c / norm - float(q) / length) ** 2
                    for c, q in zip(positive, target[b, t], strict=True))  # fmt: skip
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


def test_attention_has_mass_one_in_both_forms():
    torch.manual_seed(3)
    cosine = torch.rand(2, 3, 9) * 2 - 1
    for form in losses.ATTENTION.values():
        maps = form(cosine, torch.tensor(10.0))
        assert float((maps.sum(-1) - 1).abs().max()) < 1e-5
