"""Pairs of equal captions, and copies of one picture, are nobody's negatives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from loctex.loading import augment, tokenization
from loctex.loading.augment import Augmentation
from loctex.loading.collate import Collate, caption_key, content_key
from loctex.loading.mixture import Mixture
from loctex.model import build, fusion_losses, losses
from loctex.model.momentum import MomentumEncoders
from loctex.records.snapshot import Snapshot
from loctex.scoring import metrics
from loctex.training import step
from tests.loctex.small import small
from tests.loctex.test_losses import embeddings
from tests.loctex.test_matching import batch, model_for


def slow_info_nce(query, candidates, scale, keys, candidate_keys):
    """One query at a time; candidate i is query i's own, its other twins are left out."""
    total = 0.0
    for i, row in enumerate(query):
        terms = []
        for j, other in enumerate(candidates):
            pairs = zip(keys[i].tolist(), candidate_keys[j].tolist(), strict=True)
            is_twin = any(mine == theirs >= 0 for mine, theirs in pairs)
            if i == j or not is_twin:
                terms.append(math.exp(scale * float(row @ other)))
        total -= math.log(math.exp(scale * float(row @ candidates[i])) / sum(terms))
    return total / len(query)


def test_pairs_of_one_picture_or_of_one_caption_are_not_each_others_negatives():
    image, text = (values.float() for values in embeddings(1))
    keys = torch.tensor([[3, 10], [1, 11], [3, 12], [2, 11], [0, 13], [5, 13], [6, 10]])
    queue_image, queue_text = (values.float() for values in embeddings(2, size=4))
    queue_keys = torch.tensor([[3, 20], [8, 11], [-1, -1], [9, 13]])

    fast = losses.contrastive(image, text, torch.tensor(4.0), keys)
    slow = slow_info_nce(image, text, 4.0, keys, keys) + slow_info_nce(text, image, 4.0, keys, keys)
    assert float(fast) == pytest.approx(slow / 2, abs=1e-6)

    both = losses.Candidates(
        torch.cat((image, queue_image)),
        torch.cat((text, queue_text)),
        torch.cat((keys, queue_keys)),
    )
    fast = losses.contrastive(image, text, torch.tensor(4.0), keys, both)
    slow = slow_info_nce(image, both.text, 4.0, keys, both.keys)
    slow += slow_info_nce(text, both.image, 4.0, keys, both.keys)
    assert float(fast) == pytest.approx(slow / 2, abs=1e-6)


def test_an_oracle_of_captions_that_repeat_reaches_loss_0_and_recall_1():
    """24 pictures, 8 captions, three pictures to each: an embedding says which caption it is."""
    caption = torch.arange(24) % 8
    oracle = torch.eye(8)[caption]
    keys = torch.stack((torch.arange(24), caption), dim=1)
    for temperature in (0.07, 0.01):  # where training starts, and the least that it may become
        scale = torch.tensor(1 / temperature)
        reached = losses.contrastive(oracle, oracle, scale, keys)
        limit = math.log1p(21 * math.exp(-1 / temperature))  # 1.3e-5 and 7.8e-43
        assert float(reached) == pytest.approx(limit, abs=1e-6)
        apart = losses.contrastive(oracle, oracle, scale, keys[:, :1])
        assert float(apart) == pytest.approx(math.log(3), abs=1e-4)

    similarity = (oracle @ oracle.T).numpy()
    said = [f"A  picture of\tnumber {number}" for number in caption.tolist()]
    said[3] = said[3].upper()
    scores = metrics.retrieval(similarity, captions=said)
    assert scores["image_to_text_r1"] == scores["text_to_image_r1"] == 1
    assert scores["image_to_text_median_rank"] == scores["text_to_image_median_rank"] == 1
    assert metrics.retrieval(similarity)["image_to_text_r1"] == 0


def test_retrieval_with_equal_captions_equals_counting_rivals_one_by_one():
    random = np.random.default_rng(3)
    image_of = np.array([0, 0, 1, 2, 2, 3, 5, 6, 6, 7])  # image 4 has no caption
    said = ["a", "b", "B ", "c", "d", "a", "e", "f", "c", "g"]
    plain = ["a", "b", "b", "c", "d", "a", "e", "f", "c", "g"]
    similarity = random.integers(0, 8, (8, 10))
    own = {(image_of[k], j) for k in range(10) for j in range(10) if plain[j] == plain[k]}

    def rank(values: dict, mine: set) -> float:
        best = max(values[key] for key in mine)
        rivals = [value for key, value in values.items() if key not in mine]
        return 1 + sum(r > best for r in rivals) + sum(r == best for r in rivals) / 2

    image_ranks, text_ranks = [], []
    for i in set(image_of.tolist()):
        mine = {k for k in range(10) if (i, k) in own}
        image_ranks.append(rank(dict(enumerate(similarity[i])), mine))
    for k in range(10):
        mine = {i for i in range(8) if (i, k) in own}
        text_ranks.append(rank(dict(enumerate(similarity[:, k])), mine))
    scores = metrics.retrieval(similarity, image_of, said)
    for name, ranks in (("image_to_text", image_ranks), ("text_to_image", text_ranks)):
        assert scores[f"{name}_r1"] == np.mean(np.array(ranks) <= 1)
        assert scores[f"{name}_r5"] == np.mean(np.array(ranks) <= 5)
        assert scores[f"{name}_median_rank"] == np.median(ranks)
    assert len(image_ranks) == 7


def test_hard_negatives_are_never_twins_by_caption():
    model, settings = model_for(loss__soft_mask_weight=0.0)
    made = replace(batch(4), key=torch.arange(4), caption_key=torch.tensor([5, 5, 5, 6]))
    output = step.forward(model, made, settings, (0,))
    true_pair = fusion_losses.FusionInput(
        output.hidden, made.tokens > 0, model.fusion.cells(output.last)
    )
    for _ in range(20):  # the first three have one pair that is no twin: the last
        (captions, images), is_valid = fusion_losses.negatives(true_pair, output, made, model)
        assert torch.equal(captions.hidden[:3], output.hidden[3:].expand(3, -1, -1))
        assert torch.equal(images.cells[:3], true_pair.cells[3:].expand(3, -1, -1))
        assert is_valid.all()
    made = replace(made, caption_key=torch.full((4,), 5))
    assert not fusion_losses.negatives(true_pair, output, made, model)[1].any()


def test_a_queue_of_an_older_run_loads_and_its_captions_equal_nothing():
    model = build.build(small("none"), 300, 0)
    width = model.config.embedding
    filled, rows = MomentumEncoders(model, size=4, decay=0.9), torch.eye(4, width)
    filled.candidates(rows, rows, torch.tensor([[1, 11], [2, 12], [3, 13], [4, 14]]))
    state = filled.state_dict()
    keys = torch.tensor([[1, 30], [9, 12]])
    for is_old, twins in (
        (False, [[True, False, False, False], [False, True, False, False]]),
        (True, [[True, False, False, False], [False, False, False, False]]),
    ):
        momentum = MomentumEncoders(model, size=4, decay=0.9)
        momentum.load_state_dict(
            {name: value for name, value in state.items() if not (is_old and "caption" in name)}
        )
        seen = momentum.candidates(rows[:2], rows[:2], keys)
        assert losses.twins(keys, seen.keys)[:, 2:].tolist() == twins
        assert momentum.caption_keys.tolist()[:2] == [30, 12] and momentum.place == 2


def test_copies_of_a_picture_in_two_snapshots_share_a_key_and_mirrored_captions_theirs(snapshot):
    split = Snapshot.open(snapshot).split("train")
    mixture = Mixture([split, split], [1.0, 1.0], seed=0)
    data = small(snapshot).data
    places = np.array([(0, 3), (1, 3), (0, 5)])
    examples = mixture.examples(places, augment.uniforms(0, 0, 0, 3), data)
    assert len({example.key for example in examples}) == 3  # features are found by these
    captions = ["A dog on the  LEFT", "a dog on the right", "a dog on the left"]
    for i, caption in enumerate(captions):
        narrative = replace(examples[i].narrative, caption=caption, words=(), strokes=())
        what = Augmentation(is_flipped=i == 0)
        examples[i] = replace(examples[i], narrative=narrative, augmentation=what)

    tokenizer = tokenization.train(captions, 300, 96)
    batch = Collate(tokenizer=tokenizer, settings=data, grid=(4, 4))(examples)
    copy, other = content_key(split[3].image), content_key(split[5].image)
    right, left = caption_key("a dog on the right"), caption_key("a dog on the left")
    expected = [[copy, right], [copy, right], [other, left]]
    assert sorted(batch.keys.tolist()) == sorted(expected) and copy != other and left != right
    assert losses.twins(batch.keys, batch.keys).sum() == 5  # two of each other, each of itself
    assert 0 <= min(batch.key.tolist()) and max(batch.key.tolist()) < 2**63
