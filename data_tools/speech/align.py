"""When was each word of a caption said? Forced alignment of typed words to a voice, offline.

Typed words are never exactly the spoken ones, and forced alignment of a whole caption then finds
nothing. So, as Localized Narratives did with its automatic transcription (Pont-Tuset et al., ECCV
2020, section 3): recognize the voice, align what was recognized monotonically to what was typed,
and give the rest the time between. Ours: the recognizer knows only the caption's words and their
order (pocketsphinx, whose English model lies in its wheel), and words between two anchors are
force-aligned there.
"""

import math
import re
import tempfile
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, groupby, pairwise
from pathlib import Path

import numpy as np
import pocketsphinx

from data_tools.speech.numbers import spelled
from data_tools.speech.voices import RATE, read_voice

QUIET = 0.2  # seconds of silence put around a voice: the models begin and end with it
NOISE = 100  # of 32,768: root mean square of a quiet room
SHORTEST = 0.03  # seconds a letter: no voice is faster
WINDOW = 30  # seconds that Whisper hears at a time
TRUST = 0.8  # weight of the caption's own word order against any order of its words
LEAST_ENGLISH = 0.5  # share of the words that must stand in the dictionary
FORCED = 0.5  # confidence of what was not recognized, but fits between what was
MARGIN = 0.03  # seconds by which a gap reaches into its neighbors when it is aligned


@dataclass(frozen=True)
class SpokenWord:
    """A word of the caption and when it was said, in seconds.

    confidence: 0 to 1, of the recognizer; 0 where is_guessed, that is, where the word was not
    found and takes its share of the gap between its neighbors.
    """

    text: str
    start: float
    end: float
    confidence: float
    is_guessed: bool = False


def align(caption: str, voice: np.ndarray | Path) -> tuple[SpokenWord, ...]:
    """The times of the caption's words, in order; their texts are caption.split().

    voice: (S,) int16 samples at 16 kHz, or a file that soundfile reads. ValueError: no words, an
    empty voice, or a caption that is not English.
    """
    samples = voice if isinstance(voice, np.ndarray) else read_voice(voice)
    texts = caption.split()
    if not texts or not len(samples):
        raise ValueError("There is nothing to align: it takes a voice and the words it says.")

    forms = [spoken_form(text) for text in texts]  # for each word what is said, none or several
    tokens = [token for form in forms for token in form]
    pronounceable = {token for token in tokens if pronunciations(token)}

    if sum(token in pronounceable for token in tokens) < LEAST_ENGLISH * max(1, len(tokens)):
        raise ValueError(
            "These words are not English, and only English can be aligned to a voice. "
            "Use Type or Trace, whose times come from typing or pointing."
        )

    with tempfile.TemporaryDirectory() as folder:
        listener = _Listener(tokens, pronounceable, Path(folder))
        placed = _anchors(tokens, listener.recognize(samples))
        placed |= _aligned_gaps(tokens, pronounceable, placed, listener, samples)

    return _fill(texts, forms, placed, len(samples) / RATE)


@dataclass(frozen=True)
class _HeardWord:
    text: str
    start: float
    end: float
    confidence: float


class _Listener:
    """pocketsphinx with the words of one caption."""

    def __init__(self, tokens: Sequence[str], pronounceable: set[str], folder: Path) -> None:
        dictionary, model = folder / "words.dict", folder / "words.lm"
        lines = [
            f"{name} {phones}\n"
            for t in sorted(pronounceable)
            for name, phones in pronunciations(t)
        ]
        dictionary.write_text("".join(lines))
        self._decoder = pocketsphinx.Decoder(
            dict=str(dictionary), lm=None, loglevel="FATAL", cmn="batch"
        )
        model.write_text(language_model([token for token in tokens if token in pronounceable]))
        self._decoder.add_lm_file("caption", str(model))

    def recognize(self, samples: np.ndarray) -> list[_HeardWord]:
        self._decoder.activate_search("caption")
        return self._listen(samples)

    def force(
        self, tokens: Sequence[str], samples: np.ndarray, start: float, end: float
    ) -> list[_HeardWord]:
        """The tokens in just this order, from start to end; empty where they do not fit."""
        start = max(0.0, start)
        if end - start < SHORTEST * sum(map(len, tokens)):
            return []
        self._decoder.set_align_text(" ".join(tokens))
        heard = self._listen(samples[round(start * RATE) : round(end * RATE)])
        if [word.text for word in heard] != list(tokens):
            return []
        return [_HeardWord(w.text, w.start + start, w.end + start, FORCED) for w in heard]

    def _listen(self, samples: np.ndarray) -> list[_HeardWord]:
        decoder = self._decoder
        decoder.start_utt()
        decoder.process_raw(_in_a_room(samples).tobytes(), full_utt=True)
        decoder.end_utt()

        length = len(samples) / RATE
        return [
            _HeardWord(
                re.sub(r"\(\d+\)$", "", segment.word),
                min(length, max(0.0, segment.start_frame / 100 - QUIET)),
                min(length, max(0.0, (segment.end_frame + 1) / 100 - QUIET)),
                min(1.0, segment.prob),
            )
            for segment in (decoder.seg() if decoder.hyp() else ())
            if segment.word[0] not in "<[+("
        ]


def _in_a_room(samples: np.ndarray) -> np.ndarray:
    """With faint noise, and QUIET seconds of it on both sides: beside digital silence the model
    takes much of a clean voice for a pause (10 % of the words were misplaced, with noise 1 %)."""
    padded = np.pad(samples.astype(np.float64), round(QUIET * RATE))
    noise = np.random.default_rng(0).normal(0, NOISE, len(padded))
    return np.clip(padded + noise, -32768, 32767).astype(np.int16)


def _anchors(tokens: Sequence[str], heard: Sequence[_HeardWord]) -> dict[int, _HeardWord]:
    """Token index -> where it was heard: the cheapest monotone alignment that changes no word."""
    places = match([word.text for word in heard], tokens)
    return {token: heard[word] for word, token in places}


def match(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """The longest common subsequence as pairs of indices; among equals the one in fewest runs."""
    n, m = len(first), len(second)
    score = np.zeros((n + 1, m + 1))  # of first[i:], second[j:]
    joined = np.zeros((n + 1, m + 1))  # the same, where the pair before them was taken
    bonus = 0.5 / (1 + min(n, m))

    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            skipped = max(score[i + 1, j], score[i, j + 1])
            is_same = first[i] == second[j]
            matched = 1 + joined[i + 1, j + 1] if is_same else -1.0
            score[i, j] = max(skipped, matched)
            joined[i, j] = max(skipped, matched + bonus)

    pairs, i, j, is_joined = [], 0, 0, False
    while i < n and j < m:
        best = joined[i, j] if is_joined else score[i, j]
        matched = 1 + joined[i + 1, j + 1] + (bonus if is_joined else 0)
        if first[i] == second[j] and matched >= best - 1e-9:
            pairs.append((i, j))
            i, j, is_joined = i + 1, j + 1, True
        elif score[i + 1, j] >= score[i, j + 1]:
            i, is_joined = i + 1, False
        else:
            j, is_joined = j + 1, False

    return pairs


def _aligned_gaps(
    tokens: Sequence[str],
    pronounceable: set[str],
    placed: dict[int, _HeardWord],
    listener: _Listener,
    samples: np.ndarray,
) -> dict[int, _HeardWord]:
    """What forced alignment finds, between anchors, of runs of tokens that were not recognized."""
    result: dict[int, _HeardWord] = {}
    length = len(samples) / RATE

    for first, last in _runs(len(tokens), placed):
        start = placed[first - 1].end if first else 0.0
        end = placed[last].start if last < len(tokens) else length
        if pronounceable.issuperset(tokens[first:last]):
            heard = listener.force(tokens[first:last], samples, start - MARGIN, end + MARGIN)
            result |= dict(enumerate(heard, first))

    return result


def _runs(num: int, placed: Container[int]) -> list[tuple[int, int]]:
    """[first, last) of each run of indices below num that are not in found."""
    groups = groupby(range(num), key=lambda i: i in placed)
    runs = [list(indices) for is_found, indices in groups if not is_found]
    return [(run[0], run[-1] + 1) for run in runs]


def _fill(
    texts: Sequence[str],
    forms: Sequence[Sequence[str]],
    placed: dict[int, _HeardWord],
    length: float,
) -> tuple[SpokenWord, ...]:
    """Words of what was heard of their tokens; the others share the gaps by their letters."""
    bounds = [0, *accumulate(map(len, forms))]
    words: dict[int, SpokenWord] = {}

    for i, (low, high) in enumerate(pairwise(bounds)):
        heard = [placed[token] for token in range(low, high) if token in placed]
        if heard:
            confidence = sum(word.confidence for word in heard) / (high - low)
            words[i] = SpokenWord(texts[i], heard[0].start, heard[-1].end, confidence)

    for first, last in _runs(len(texts), words):
        begin = words[first - 1].end if first else 0.0
        end = words[last].start if last < len(texts) else length
        shares = np.cumsum([0, *(len(text) for text in texts[first:last])])
        times = begin + max(0.0, end - begin) * shares / shares[-1]
        for i, (start, end) in enumerate(pairwise(times.tolist()), first):
            words[i] = SpokenWord(texts[i], start, end, 0.0, is_guessed=True)

    return _in_order([words[i] for i in range(len(texts))])


def _in_order(words: Sequence[SpokenWord]) -> tuple[SpokenWord, ...]:
    """Starts never fall, no word ends before it starts; milliseconds."""
    result, before = [], 0.0
    for word in words:
        start = max(before, round(word.start, 3))
        result.append(
            replace(
                word,
                start=start,
                end=max(start, round(word.end, 3)),
                confidence=round(word.confidence, 3),
            )
        )
        before = start

    return tuple(result)


def transcribe(voice: np.ndarray | Path, checkpoint: Path) -> str:
    """What a local Whisper checkpoint (a folder of transformers) hears, as a proposal to mend.

    voice: as in `align`. Nothing is downloaded. ValueError: there is no checkpoint.
    """
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    if not (Path(checkpoint) / "config.json").is_file():
        raise ValueError(f"{checkpoint} holds no Whisper checkpoint: name a folder of transformers")
    processor = WhisperProcessor.from_pretrained(checkpoint, local_files_only=True)
    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, local_files_only=True)
    samples = voice if isinstance(voice, np.ndarray) else read_voice(voice)
    texts = []
    for start in range(0, len(samples), WINDOW * RATE):
        window = samples[start : start + WINDOW * RATE].astype(np.float32) / 32768
        features = processor(window, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            tokens = model.generate(features)
        texts += processor.batch_decode(tokens, skip_special_tokens=True)
    return " ".join(" ".join(texts).split())


# --- words as they are said


def spoken_form(text: str) -> list[str]:
    """What is said for one typed word: "2nd," -> ["second"], "blue-green" -> ["blue", "green"]."""
    pieces = re.findall(r"\d+(?:,\d{3})+|\d+(?:st|nd|rd|th)?|[^\W\d_]+(?:['’][^\W\d_]+)*", text)
    words: list[str] = []
    for piece in pieces:
        plain = piece.lower().replace("’", "'").replace(",", "")
        words += spelled(plain) if plain[0].isdigit() else [plain]
    return words


@cache
def _dictionary() -> dict[str, tuple[tuple[str, str], ...]]:
    """word -> (its name in the dictionary, its phones), each pronunciation."""
    path = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
    result: dict[str, list[tuple[str, str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, phones = line.partition(" ")
        result.setdefault(re.sub(r"\(\d+\)$", "", name), []).append((name, phones))
    return {word: tuple(entries) for word, entries in result.items()}


def pronunciations(token: str) -> tuple[tuple[str, str], ...]:
    """(name, phones) of each; none for a word that the dictionary does not have."""
    return _dictionary().get(token, ())


def language_model(tokens: Sequence[str]) -> str:
    """A trigram model of one sentence in the ARPA format: its order with weight TRUST, the rest
    goes to shorter contexts, down to its words in any order."""
    sentence = ["<s>", *tokens, "</s>"]
    unigrams = Counter(sentence[1:])
    bigrams, trigrams = (
        Counter(pairwise(sentence)),
        Counter(zip(sentence, sentence[1:], sentence[2:], strict=False)),
    )
    before, total = Counter(sentence[:-1]), unigrams.total()

    def single(word: str) -> float:
        return unigrams[word] / total

    def double(a: str, b: str) -> float:
        return TRUST * bigrams[a, b] / before[a] + (1 - TRUST) * single(b)

    def triple(a: str, b: str, c: str) -> float:
        return TRUST * trigrams[a, b, c] / bigrams[a, b] + (1 - TRUST) * double(b, c)

    back = math.log10(1 - TRUST)
    log = math.log10
    lines = [
        "\\data\\",
        f"ngram 1={len(unigrams) + 1}",
        f"ngram 2={len(bigrams)}",
        f"ngram 3={len(trigrams)}",
    ]
    lines += ["", "\\1-grams:", f"-99 <s> {back:.4f}"]
    lines += [f"{log(single(a)):.4f} {a} {back:.4f}" for a in unigrams]
    lines += ["", "\\2-grams:"]
    lines += [f"{log(double(a, b)):.4f} {a} {b} {back:.4f}" for a, b in bigrams]
    lines += ["", "\\3-grams:"]
    lines += [f"{log(triple(a, b, c)):.4f} {a} {b} {c}" for a, b, c in trigrams]
    return "\n".join([*lines, "", "\\end\\", ""])
