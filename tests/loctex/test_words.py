import warnings

import numpy as np
import pytest

from loctex.records import words
from loctex.records.narrative import Word, read_jsonl


def test_utterances_of_several_words_and_without_length_find_their_characters():
    said = [Word("In this", 0, 1), Word("image", 1, 1), Word("there's", 1, 2), Word("a cat.", 2, 3)]
    caption = "In this image  there's a cat."
    found = [caption[a:b] for a, b in words.spans(caption, said)]
    assert found == ["In this", "image", "there's", "a cat."]


def test_every_real_record_maps_without_a_warning(shared_data):
    for name in ("ln_sample/coco_val_212166_49.jsonl", "vidln/vidln_as_ln.jsonl"):
        for narrative in read_jsonl(shared_data / name):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                spans = words.spans(narrative.caption, narrative.words)
            for word, (start, end) in zip(narrative.words, spans, strict=True):
                assert "".join(narrative.caption[start:end].split()) == "".join(word.text.split())


def test_a_caption_without_utterances_has_no_spans_and_no_warning():
    assert words.spans("a dog", []) == [] and words.windows([], 0.2).shape == (0, 2)


def test_where_utterances_differ_the_rest_is_mapped_with_a_warning():
    said = [Word("a", 0, 1), Word("dog", 1, 2), Word("runs", 2, 3)]
    with pytest.warns(UserWarning, match="'dog'"):
        spans = words.spans("a cat runs", said)
    assert spans == [(0, 1), (0, 0), (6, 10)]


def test_a_word_without_length_lasts_until_the_next_start():
    said = [Word("a", 0, 1), Word("b", 1, 1), Word("c", 1, 1.5), Word("d", 3, 3)]
    np.testing.assert_allclose(
        words.windows(said, 0.25), [[-0.25, 1.25], [0.75, 3.25], [0.75, 1.75], [2.75, 3.25]]
    )


def test_tokens_of_one_utterance_share_its_window_and_special_tokens_have_none():
    offsets = np.array([[0, 0], [0, 2], [2, 5], [6, 9], [0, 0]])
    seconds = words.token_windows(offsets, [(0, 5), (6, 9)], np.array([[0.0, 1.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(np.isnan(seconds[:, 0]), [True, False, False, False, True])
    np.testing.assert_allclose(seconds[1:4], [[0, 1], [0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a bright left-over on the left", "a bright left-over on the right"),
        ("Left of the LEFT one", "Right of the RIGHT one"),
        (
            "the left-hand side, the rightmost, upright",
            "the right-hand side, the leftmost, upright",
        ),
        ("left", "right"),
        ("no side at all", "no side at all"),
        ("the man on the left has left the room", "the man on the right has left the room"),
        ("right behind the left tree", "right behind the right tree"),
        ("a dog on the right behind the tree", "a dog on the left behind the tree"),
        ("All right, right now nothing is left", "All right, right now nothing is left"),
        (
            "there is nothing left over, a car has left",
            "there is nothing left over, a car has left",
        ),
        ("the food left over on the right", "the food left over on the left"),
        ("left and right in the picture", "right and left in the picture"),
        ("it has left and right mirrors", "it has right and left mirrors"),
        ("a dog facing left in the grass", "a dog facing right in the grass"),
        (
            "a cup left of the plate, right in the middle",
            "a cup right of the plate, right in the middle",
        ),
        ("from left to right there are trees", "from right to left there are trees"),
        ("at the bottom right on a chair", "at the bottom left on a chair"),
        ("to the left, in the back right corner", "to the right, in the back left corner"),
    ],
)
def test_mirror_swaps_whole_words_only_and_twice_is_the_identity(before, after):
    assert words.mirror(before)[0] == after
    assert words.mirror(after)[0] == before


@pytest.mark.parametrize(
    ("caption", "can_mirror"),
    [
        ("Links steht ein Hund, rechts ein Baum.", False),
        ("Un chien est assis \u00e0 gauche.", False),
        ("Un perro a la izquierda del \u00e1rbol", False),
        ("Un cane a destra", False),
        ("Um c\u00e3o \u00e0 direita da casa", False),
        ("Een hond aan de linkse kant", False),
        ("Ein Hund im Gras", True),
        ("In this picture we can see two links of the chain", True),
        ("On the left there is the Rive Gauche", True),
    ],
)
def test_a_side_named_in_another_language_is_not_mirrored(caption, can_mirror):
    assert words.can_mirror(caption) == can_mirror


def test_spans_follow_the_mirrored_text():
    caption = "the left dog and right cat left"
    said = words.estimate(caption)
    mirrored, spans = words.mirror(caption, words.spans(caption, said))
    assert [mirrored[a:b] for a, b in spans] == "the right dog and left cat right".split()


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("\u090f\u0915 \u0915\u0941\u0924\u094d\u0924\u093e", 2),  # Hindi: vowels are marks
        ("\u0643\u064e\u0644\u0652\u0628\u064c \u0635\u063a\u064a\u0631", 2),  # Arabic
        ("cafe\u0301 re\u0301sume\u0301", 2),  # é as two characters
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06a9\u062a\u0627\u0628",
            2,
        ),  # a joiner
        ("it's a well-known dog", 4),
        ("\U0001f468\u200d\U0001f469 * \u0301 -", 0),
    ],
)
def test_a_word_of_any_script_is_one_with_its_marks(caption, expected):
    pieces = [match.group() for match in words.WORD.finditer(caption)]
    assert len(pieces) == expected
    if expected == 2:
        assert pieces == caption.split()
        tokens = [(i, i + 1) for i in range(len(caption))]
        numbers = words.numbers(caption, np.array(tokens)).tolist()
        space = caption.index(" ")
        assert numbers == [0] * space + [-1] + [1] * (len(caption) - space - 1)


def test_the_estimated_clock_has_a_word_every_third_of_a_second():
    said = words.estimate("one two  three")
    assert [word.text for word in said] == ["one", "two", "three"]
    assert said[-1].end == pytest.approx(3 * words.SECONDS_PER_WORD)


SENTENCES = [  # what is one word is parted by |
    ("一只黑色的狗在红色汽车旁边。", "一|只|黑|色|的|狗|在|红|色|汽|车|旁|边"),
    ("青いトラックの左に人がいます", "青|い|トラック|の|左|に|人|が|い|ま|す"),
    ("らーめんを食べる人々", "らー|め|ん|を|食|べ|る|人|々"),
    ("แมวสีดำนั่งบนเก้าอี้", "แม|ว|สี|ดำ|นั่|ง|บ|น|เก้า|อี้"),
    ("ແມວດຳ", "ແມ|ວ|ດຳ"),
    ("ឆ្មាខ្មៅ", "ឆ្មា|ខ្មៅ"),
    ("我的iPhone12在3个well-known盒子里", "我|的|iPhone12|在|3|个|well-known|盒|子|里"),
    ("빨간 자동차 옆의 개", "빨간|자동차|옆의|개"),  # Korean has spaces
    ("एक कुत्ता", "एक|कुत्ता"),
    ("the dog's left-hand side", "the|dog's|left-hand|side"),
]


@pytest.mark.parametrize(("caption", "expected"), SENTENCES)
def test_a_word_of_a_script_without_spaces_is_a_character_or_a_syllable(caption, expected):
    assert [match.group() for match in words.WORD.finditer(caption)] == expected.split("|")
    offsets = np.array([match.span() for match in words.WORD.finditer(caption)])
    assert words.numbers(caption, offsets).tolist() == list(range(len(offsets)))


@pytest.mark.parametrize(("caption", "expected"), SENTENCES)
def test_the_estimated_clock_times_each_of_them_and_the_caption_is_whole(caption, expected):
    said = words.estimate(caption)
    assert "".join(word.text for word in said) == "".join(caption.split())
    if " " not in caption:
        assert len(said) == len(expected.split("|")) and said[-1].text.startswith(
            expected.split("|")[-1]
        )
    else:
        assert [word.text for word in said] == caption.split()
    spans = words.spans(caption, said)
    assert [caption[a:b] for a, b in spans] == [word.text for word in said]
