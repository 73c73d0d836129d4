"""Word times against speech that espeak-ng made, whose word starts are known."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from data_tools.speech.align import align, language_model, match, spoken_form, transcribe
from tests.data_tools.espeak import speak

SENTENCES = Path(__file__).with_name("sentences.txt").read_text().splitlines()
FEW = pytest.param(SENTENCES[:8], id="8")
ALL = pytest.param(SENTENCES, id="20", marks=pytest.mark.slow)


def errors_of(typed: str, said: list[int | None], voice: np.ndarray, starts: dict) -> list[float]:
    """Seconds by which each right word's start is wrong. said: typed word -> spoken word."""
    words = align(typed, voice)
    assert [word.text for word in words] == typed.split()
    assert all(a.start <= b.start for a, b in zip(words, words[1:], strict=False))
    return [
        abs(word.start - starts[place])
        for word, place in zip(words, said, strict=True)
        if place in starts
    ]


def mistyped(words: list[str], draw: random.Random) -> list[tuple[str, int | None]]:
    """10 % of the words inserted, missing or swapped: (typed word, the spoken one it is)."""
    typed: list[tuple[str, int | None]] = [(word, i) for i, word in enumerate(words)]
    for _ in range(max(1, round(0.1 * len(words)))):
        place = draw.randrange(len(typed) - 1)
        wrong = (draw.choice(["lamp", "many", "horse", "orange", "very", "the"]), None)
        match draw.choice(["inserted", "missing", "swapped"]):
            case "inserted":
                typed.insert(place, wrong)
            case "missing":
                typed.pop(place)
            case "swapped":
                typed[place] = wrong
    return typed


@pytest.mark.parametrize("sentences", [FEW, ALL])
def test_starts_of_exact_words(sentences):
    errors = []
    for text in sentences:
        assert 8 <= len(text.split()) <= 40
        voice, starts = speak(text)
        errors += errors_of(text, list(range(len(text.split()))), voice, starts)
    median, late = np.percentile(errors, (50, 95))
    print(f"{len(errors)} words: median {median * 1000:.0f} ms, 95 % {late * 1000:.0f} ms")
    assert len(errors) > 12 * len(sentences) and median <= 0.08 and late <= 0.25


@pytest.mark.parametrize("sentences", [FEW, ALL])
def test_words_mistyped_an_um_and_an_unknown_word_leave_the_right_ones_in_place(sentences):
    errors = []
    for seed, text in enumerate(sentences):
        draw, words = random.Random(seed), text.split()
        um = draw.randrange(1, len(words))
        voice, starts = speak(" ".join([*words[:um], "um", *words[um:]]))
        typed = mistyped(words, draw)
        typed.insert(draw.randrange(len(typed)), ("zorblax", None))
        said = [i if i is None or i < um else i + 1 for _, i in typed]
        errors += errors_of(" ".join(word for word, _ in typed), said, voice, starts)
    share = np.mean(np.array(errors) <= 0.25)
    print(f"{len(errors)} right words: {share:.1%} within 250 ms")
    assert len(errors) > 9 * len(sentences) and share >= 0.9


def test_an_unknown_word_takes_the_gap_and_is_marked():
    voice, starts = speak("a small cat is sleeping on the sofa")
    words = align("a small cat is zorblaxing on the sofa!", voice)
    assert [word.is_guessed for word in words] == [False] * 4 + [True] + [False] * 3
    unknown = words[4]
    assert unknown.confidence == 0 and words[3].end <= unknown.start < unknown.end <= words[5].start
    assert abs(words[2].start - starts[2]) < 0.1 and 0 < words[2].confidence <= 1
    assert words[-1].text == "sofa!"


def test_digits_are_aligned_as_they_are_said():
    voice, starts = speak("there are 21 cows behind 3 trees")
    words = align("there are 21 cows behind 3 trees.", voice)
    assert abs(words[2].start - starts[2]) < 0.1 and not words[2].is_guessed
    assert words[2].end - words[2].start > 0.3


def test_other_languages_are_told_where_to_go():
    voice, _ = speak("a small cat")
    with pytest.raises(ValueError, match="Use Type or Trace"):
        align("маленькая кошка спит на диване", voice)
    with pytest.raises(ValueError, match="nothing to align"):
        align(" ", voice)


def test_silence_and_noise_place_every_word_as_a_guess_or_in_order():
    for voice in (np.zeros(32000, np.int16), np.random.default_rng(0).integers(-99, 99, 32000)):
        words = align("a red ball", voice.astype(np.int16))
        starts = [word.start for word in words]
        assert starts == sorted(starts) and words[-1].end <= 2.0


def test_what_is_said_for_what_is_typed():
    assert spoken_form("blue-green,") == ["blue", "green"]
    assert (
        spoken_form("(2nd)") == ["second"]
        and spoken_form("1,200") == "one thousand two hundred".split()
    )
    assert spoken_form("man’s") == ["man's"] and spoken_form("--") == []


def test_a_monotone_alignment_prefers_runs():
    assert match("a b c".split(), "a x b c".split()) == [(0, 0), (1, 2), (2, 3)]
    spoken, typed = "the cat".split(), "the big the cat".split()
    assert match(spoken, typed) == [(0, 2), (1, 3)]


def test_the_probabilities_of_the_language_model_sum_to_at_most_one():
    lines = language_model("the dog and the cat".split()).split("\n")
    singles = lines[lines.index("\\1-grams:") + 1 : lines.index("\\2-grams:") - 1]
    total = sum(10 ** float(line.split()[0]) for line in singles if "<s>" not in line)
    assert total == pytest.approx(1, abs=1e-3)
    after_the = [line for line in lines if line.split()[1:2] == ["the"] and len(line.split()) == 3]
    doubles = lines[lines.index("\\2-grams:") + 1 : lines.index("\\3-grams:") - 1]
    follows = sum(10 ** float(line.split()[0]) for line in doubles if line.split()[1] == "the")
    assert 0.7 < follows <= 1 and after_the


def test_a_whisper_checkpoint_proposes_words(tmp_path):
    from tests.data_tools.whisper import tiny_whisper

    tiny_whisper(tmp_path)
    voice, _ = speak("a small cat")
    proposed = transcribe(voice, tmp_path)
    assert proposed == transcribe(voice, tmp_path) and isinstance(proposed, str)
    assert re.fullmatch("(a|small|cat| )+", proposed)
    with pytest.raises(ValueError, match="holds no Whisper checkpoint"):
        transcribe(voice, tmp_path / "nowhere")
