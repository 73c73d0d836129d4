from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from loctex.loading import augment, tokenization
from loctex.loading.collate import Collate
from loctex.loading.mixture import Mixture
from loctex.loading.word_masking import hide_words
from loctex.records import words
from loctex.records.snapshot import Snapshot
from loctex.settings import DataSettings

MASK, FIRST = 3, 4


def hidden(tokens, numbers, share=0.15, seed=0):
    return hide_words(
        tokens, numbers, share, np.random.default_rng(seed), mask=MASK, vocabulary=range(4, 50)
    )


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 999),
)
def test_words_are_hidden_whole_by_the_share_and_nothing_else_changes(lengths, share, seed):
    numbers = np.concatenate([[-1], np.repeat(np.arange(len(lengths)), lengths), [-1, -1]])
    tokens = np.arange(100, 100 + len(numbers))
    found, places = hidden(tokens, numbers, share, seed)
    chosen = np.unique(numbers[places])
    assert len(chosen) == max(1, round(share * len(lengths)))
    assert set(places) == set(np.flatnonzero(np.isin(numbers, chosen)))
    assert (np.diff(places) > 0).all() and not (numbers[places] < 0).any()
    rest = np.setdiff1d(np.arange(len(tokens)), places)
    np.testing.assert_array_equal(found[rest], tokens[rest])
    for word in chosen:  # one fate for all its tokens
        part = numbers == word
        fates = {bool((found[part] == MASK).all()), bool((found[part] != MASK).all())}
        assert True in fates


def test_eighty_percent_are_masked_ten_replaced_ten_kept():
    numbers = np.arange(2000)
    tokens = np.full(2000, 99)
    found, places = hidden(tokens, numbers, 0.9)
    shares = [np.mean(found[places] == MASK), np.mean(found[places] == 99)]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=0.02)


def test_a_caption_without_words_hides_nothing():
    found, places = hidden(np.arange(5), np.full(5, -1))
    assert len(places) == 0 and found.tolist() == [0, 1, 2, 3, 4]


def test_tokens_know_their_word_and_stop_words_can_be_left_out():
    caption = "The left-hand cat's toy, on a (red) mat."
    vocabulary = tokenization.train([caption] * 3, 300, 64)
    _, offsets = tokenization.encode(vocabulary, [caption], 64)
    numbers = words.numbers(caption, offsets[0])
    named = {}
    for number, (a, b) in zip(numbers, offsets[0], strict=True):
        named[number] = named.get(number, "") + caption[a:b]
    assert named.pop(-1) == ",()."
    assert list(named.values()) == ["The", "left-hand", "cat's", "toy", "on", "a", "red", "mat"]
    kept = words.numbers(caption, offsets[0], skips_stop_words=True)
    assert {number for number in kept if number >= 0} == set(range(5))
    assert (kept[numbers == 0] == -1).all() and (kept[numbers == 4] == -1).all()


def batch(snapshot, **values):
    split = Snapshot.open(snapshot).split("train")
    wanted = replace(DataSettings(image_size=64, max_tokens=96), **values)
    vocabulary = tokenization.train(split.captions(), 300, 96)
    mixture = Mixture([split], [1.0], 0)
    examples = mixture.examples(mixture.order(0)[:8], augment.uniforms(0, 0, 0, 8), wanted)
    collate = Collate(tokenizer=vocabulary, settings=wanted, grid=(4, 4), hides_words=True)
    return collate(examples), vocabulary


def test_a_batch_hides_about_the_share_of_its_words_and_the_same_ones_each_time(snapshot):
    made, vocabulary = batch(snapshot)
    again, _ = batch(snapshot)
    assert torch.equal(made.hidden, again.hidden)
    places = torch.zeros_like(made.tokens, dtype=torch.bool).scatter_(1, made.hidden_at, True)
    places[:, 0] = False
    changed = made.hidden != made.tokens
    assert not changed[~places].any()
    share = changed.sum() / (made.word >= 0).sum()
    assert 0.08 < float(share) < 0.25
    assert (made.hidden[changed] == vocabulary.mask_token_id).float().mean() > 0.5
    assert (made.target.flatten(2).sum(-1) > 0)[changed].any()


def test_words_hidden_from_all_losses_are_not_localized_nor_are_stop_words(snapshot):
    made, _ = batch(snapshot, mask_captions=True, skip_stop_words=True)
    grounded = made.target.flatten(2).sum(-1) > 0
    assert grounded.any()
    assert not grounded[made.hidden != made.tokens].any()
    assert not grounded[made.word < 0].any()


def test_a_sentence_without_spaces_is_hidden_by_the_character_or_syllable():
    for caption in ("一只黑色的狗在红色汽车旁边", "青いトラックの左に人がいます", "แมวสีดำนั่งบนเก้าอี้"):
        offsets = np.array([(0, 0), *((i, i + 1) for i in range(len(caption))), (0, 0)])
        numbers = words.numbers(caption, offsets)
        num_words = len({*numbers.tolist()} - {-1})
        assert num_words > 9 and (numbers[1:-1] >= 0).all()
        _, places = hidden(np.arange(100, 100 + len(offsets)), numbers, 0.2)
        hidden_words = np.unique(numbers[places])
        assert len(hidden_words) == round(0.2 * num_words), "not all of the sentence"
        assert set(places) == set(np.flatnonzero(np.isin(numbers, hidden_words)))
