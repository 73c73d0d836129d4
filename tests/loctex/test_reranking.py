"""Re-ranking and false captions; a stand-in for the matching head where its answer is known."""

import json

import numpy as np
import pytest
import torch

from loctex.jobs.run import Run
from loctex.loading import tokenization
from loctex.loading.changed_words import WordSwaps
from loctex.model import build
from loctex.records.snapshot import Snapshot
from loctex.scoring import false_captions, metrics, score
from loctex.scoring.reranking import Reranker
from loctex.training.loop import train
from tests.loctex.small import small


@pytest.fixture
def matching_model():
    torch.manual_seed(0)
    wanted = small("none", loss__matching_weight=1.0, train__precision="fp32")
    return build.build(wanted, 300, 0).eval()


@torch.inference_mode()
def reranker_of(model, images=6, captions=9):
    torch.manual_seed(1)
    image = model.encode_image(torch.rand(images, 3, 64, 64))
    tokens = torch.randint(4, 300, (captions, 7))
    for row in range(captions):
        tokens[row, 3 + row % 5 :] = 0
    text = model.encode_text(tokens)
    reranker = Reranker(model)
    reranker.add(image=image.select([0, 1, 2]))
    reranker.add(image=image.select([3, 4, 5]), text=text)
    return reranker, image, tokens, (image.embedding @ text.embedding.T).numpy()


def test_pairs_are_matched_as_one_by_one(matching_model):
    reranker, image, tokens, _ = reranker_of(matching_model)
    pairs = torch.tensor([[0, 8], [5, 0], [2, 2], [2, 4], [4, 4]])
    with torch.inference_mode():
        found = reranker.match(pairs)
        for value, (i, k) in zip(found, pairs.tolist(), strict=True):
            text = matching_model.encode_text(tokens[k : k + 1])
            want = float(matching_model.match(image.select([i]), text))
            assert value == pytest.approx(want, abs=1e-5)


def test_only_the_top_candidates_change_places(matching_model, monkeypatch):
    reranker, _, _, similarity = reranker_of(matching_model)
    image_of = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2])
    plain = metrics.retrieval(similarity, image_of)
    answers = {tuple(p): float(p[0] == image_of[p[1]]) for p in np.ndindex(6, 9)}
    monkeypatch.setattr(
        reranker,
        "match",
        lambda pairs: np.array([20 * answers[tuple(pair)] for pair in pairs.tolist()]),
    )
    with torch.inference_mode():
        perfect = reranker.retrieval(similarity, image_of, top=9)
        assert perfect["image_to_text_r1_reranked_alone"] == 1
        assert perfect["text_to_image_r1_reranked_alone"] == 1
        some = reranker.retrieval(similarity, image_of, top=1)
    for name in ("image_to_text_r1", "text_to_image_r1"):
        assert some[f"{name}_reranked_alone"] == plain[name]  # one candidate stays the first
        assert some[f"{name}_reranked"] == plain[name]


def trained(snapshot, run, **values):
    """A model of two steps with a matching head, its tokenizer, and the pictures it did not see."""
    values |= {"loss__matching_weight": 1.0, "loss__changed_captions": True, "train__steps": 2}
    train(small(snapshot, **values), Run(run))
    split = Snapshot.open(snapshot).split("val")
    return build.load(run / "last"), tokenization.load(run / "last"), split


def test_evaluation_reports_both_rankings_and_grad_cam(snapshot, tmp_path):
    model, words, split = trained(snapshot, tmp_path / "run", loss__soft_mask_weight=1.0)
    scores = score.score(model, words, split).metrics
    names = {
        "image_to_text_r1",
        "image_to_text_r1_reranked",
        "text_to_image_r5_reranked_alone",
        "pointing_region_gradcam",
        "energy_gradcam",
    }
    assert names <= set(scores)
    none = score.score(model, words, split, rerank=0).metrics
    assert set(scores) - set(none) == {name for name in scores if "_reranked" in name}
    rows = [
        {
            "dataset_id": split[0].dataset_id,
            "image_id": split[0].image_id,
            "kind": "color",
            "caption": "a red circle",
            "foil": "a blue circle",
        }
    ]
    found = false_captions.score(model, words, split, rows)
    assert found["color_count"] == 1 and found["color_accuracy"] in (0, 0.5, 1)
    other = rows[0] | {"dataset_id": split[1].dataset_id, "image_id": split[1].image_id}
    other |= {"kind": "other"}
    both = false_captions.score(model, words, split, [*rows, other])  # each sees the other's image
    alone = [false_captions.score(model, words, split, [row]) for row in (rows[0], other)]
    assert both["color_choice_matching"] == alone[0]["color_choice_matching"]
    assert both["color_choice_blind"] == alone[1]["other_choice_matching"]
    assert both["other_choice_blind"] == alone[0]["color_choice_matching"]
    same = false_captions.score(model, words, split, [rows[0] | {"foil": "a red circle"}])
    assert same["color_choice_matching"] == same["color_choice_contrastive"] == 0.5
    assert "color_word_found" not in found
    with pytest.raises(ValueError, match="none of the images"):
        false_captions.score(model, words, split, [rows[0] | {"image_id": "elsewhere"}])


def test_a_file_of_foils_names_the_line_that_does_not_fit(tmp_path):
    file = tmp_path / "foils.jsonl"
    good = dict.fromkeys(false_captions.KEYS, "x")
    file.write_text(json.dumps(good) + "\n" + json.dumps({"caption": "x"}) + "\n")
    with pytest.raises(ValueError, match=":2: needs dataset_id"):
        false_captions.read(file)


def test_a_word_gives_way_to_one_seen_between_the_same_neighbors():
    said = ["a red circle above it", "a blue circle below it", "a red star above it", "the image"]
    exchange = WordSwaps(said)
    random = np.random.default_rng(0)
    found = {exchange.change("A red circle above it.", random).caption for _ in range(60)}
    assert found == {"A blue circle above it.", "A red circle below it.", "A red star above it."}
    assert exchange.change("nothing known", random) == ("nothing known", [], [], [])
    assert all("image" not in words for words in exchange.options.values())  # a stop word


@pytest.mark.parametrize(
    ("captions", "sets", "expected"),
    [
        (("红色的圆在左边", "蓝色的圆在右边"), "", {"蓝色的圆在左边", "红色的圆在右边"}),
        (("红色的圆在左边", "蓝色的圆在右边"), "左 右", {"红色的圆在右边"}),
        (("丸の左に人がいる", "丸の右に人がいる"), "", {"丸の右に人がいる"}),
        (("แมวสีดำ", "แมวสีฟ้า"), "", {"แมวสีฟ้า"}),
    ],
)
def test_in_scripts_without_spaces_a_character_or_syllable_changes(captions, sets, expected):
    exchange = WordSwaps(captions, sets)
    random = np.random.default_rng(0)
    changes = [exchange.change(captions[0], random) for _ in range(40)]
    assert {one.caption for one in changes} == expected
    for one in changes:
        (new,) = one.new
        assert 0 < new[1] - new[0] < 4, "a word of it, not the sentence"


def test_a_foil_without_spaces_differs_in_one_word_of_many():
    row = {"caption": "红色的圆在左边", "foil": "蓝色的圆在左边"}
    offsets = np.array([(i, i + 1) for i in range(7)])
    doubts = np.full(7, 0.1)
    of_foil = np.where(np.arange(7) == 0, 0.99, 0.1)
    scores = false_captions._words(row, (doubts, offsets), (of_foil, offsets), "")
    assert scores[:2] == (1.0, pytest.approx(1 / 7))


def test_only_words_that_exclude_each_other_change_wherever_the_same_thing_is_named():
    said = [
        "a red circle above it",
        "a blue circle over it",
        "the red circle",
        "the green circle",
        "a green circle below it",
        "a red square",
    ]
    exchange = WordSwaps(said, "RED green blue; above below")
    random = np.random.default_rng(0)
    caption = "A red circle above it, a red square. The red circle."
    changes = [exchange.change(caption, random) for _ in range(60)]
    assert {one.caption for one in changes} == {
        "A blue circle above it, a red square. The blue circle.",  # over is nothing else than above
        "A green circle above it, a red square. The green circle.",
        "A red circle below it, a red square. The red circle.",
    }
    for one in changes:
        pairs = [
            (new.strip(".,"), old.strip(".,"))
            for new, old in zip(one.caption.split(), caption.split(), strict=True)
            if old.strip(".,") in exchange.excludes
        ]
        changed, kept = ([one.caption[a:b] for a, b in spans] for spans in (one.new, one.kept))
        assert changed == [new for new, old in pairs if new != old]
        assert kept == [new for new, old in pairs if new == old]
        assert [caption[a:b] for a, b in one.true] == [old for _, old in pairs]
        ((new, old),) = {pair for pair in pairs if pair[0] != pair[1]}
        assert new in exchange.excludes[old]
    assert exchange.change("a square over it", random).true == []
    assert exchange.can_change and WordSwaps(said).can_change
    for sets in ("red; green; blue", "cat dog", "above red"):
        assert not WordSwaps(said, sets).can_change


def test_the_word_doubted_most_is_looked_for_among_those_that_can_be_asked_about():
    row = {"caption": "A red circle is left of it.", "foil": "A blue circle is left of it."}
    offsets = np.array([(0, 0), (0, 1), (2, 4), (4, 6), (7, 13), (14, 16), (17, 21), (0, 0)])
    doubts = np.array([1, 0.99, 0.1, 0.95, 0.5, 0.99, 0.3, 1])  # "bl" and "ue" are two tokens
    true = (np.array([0.2, 0.92, 0.91]), np.array([(2, 5), (6, 12), (16, 20)]))
    sets = "red blue; circle star; left right"
    expected = pytest.approx((1, 1 / 3, 1, 0, 2 / 3))
    assert false_captions._words(row, true, (doubts, offsets), sets) == expected
    assert (
        false_captions._words(row, true, (doubts, offsets), "") == expected
    )  # "a", "is": stop words
    doubts[4] = 0.97
    found = false_captions._words(row, true, (doubts, offsets), sets)
    assert found == pytest.approx((0, 1 / 3, 1, 1 / 2, 2 / 3))
    other = row | {"foil": "A big blue circle is left of it."}
    assert np.isnan(false_captions._words(other, true, (doubts, offsets), sets)).all()
    assert np.isnan(false_captions._words(row, true, (doubts, offsets), "left right")).all()


def test_foils_say_how_often_the_changed_word_is_the_one_in_doubt(snapshot, tmp_path):
    model, words, split = trained(snapshot, tmp_path / "run", loss__changed_word_weight=1.0)
    rows = [
        {
            "dataset_id": split[0].dataset_id,
            "image_id": split[0].image_id,
            "kind": "color",
            "caption": "a red circle",
            "foil": f"a {color} circle",
        }
        for color in ("blue", "green")
    ]
    found = false_captions.score(model, words, split, rows)
    assert found["color_word_found"] in (0, 0.5, 1) and found["color_word_chance"] == 0.5
    assert {f"color_{name}" for name in false_captions.WORDS} <= set(found)
