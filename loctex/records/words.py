"""From utterances to caption characters to tokens to time windows. Numpy only.

Public utterances may hold several words ("In this"), may have no length (start == end), and
concatenate to the caption up to spaces; so they are matched by characters, not by counting.

A word is a run of letters, digits and their marks (WORD). Scripts that put no space between words
are cut where every reader of them would agree, without a dictionary: Chinese and Japanese by the
character, katakana by its run, Thai, Lao, Khmer and Burmese by the written syllable, a consonant
with its vowels and marks. What hides, changes or scores one word hides, changes or scores that.
"""

import re
import warnings
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import accumulate, chain
from operator import itemgetter

import numpy as np
import regex

from loctex.records.narrative import Word

Span = tuple[int, int]

SECONDS_PER_WORD = 0.35  # the pace of an estimated clock; people narrate at about 2.5 words/s
STOP_WORDS = frozenset(
    "a an the and or but of in on at to from with by for is are was were be been it its this that "
    "these those there here which who i we you he she they can see image picture also".split()
)
_KATAKANA = r"\p{Katakana}\u30fc\uff70\uff9e\uff9f"  # with the marks of length and voice
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}" + _KATAKANA
UNSPACED = regex.compile(f"[{_UNSPACED}]")  # a letter of a script that writes words without spaces
# regex's \w, unlike re's, holds marks and joiners: Hindi vowels, Arabic ones, é as two characters
_SPACED = rf"[\w--[{_UNSPACED}]]"
WORD = regex.compile(
    rf"(?:[[\p{{L}}\p{{N}}_]--[{_UNSPACED}]]{_SPACED}*(?:['’-]{_SPACED}+)*)"
    rf"|[{_KATAKANA}]+"
    r"|[\u0e40-\u0e44\u0ec0-\u0ec4]?[\p{Thai}\p{Lao}&&\p{L}]\p{M}*"  # vowels before it and behind
    r"[\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3]?\p{M}*"
    r"|[\p{Khmer}\p{Myanmar}&&\p{L}]\p{M}*(?:(?<=[\u17d2\u1039])\p{L}\p{M}*)*"  # stacked
    rf"|[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]][\p{{M}}\u30fc]*",
    regex.VERSION1,
)
_SIDE = re.compile(
    r"(?<![\w-])(left|right)(?=(?:-?most|-hand|-sided?|wards?)?(?![\w-]))", re.IGNORECASE
)
# "left" and "right" are a side unless what stands beside them says otherwise. The lists serve both
# words, so that a caption mirrored twice is itself again.
_SIDE_AFTER = frozenset(  # "on the right behind it", "facing left in the rain": a side in any case
    "the a his her its their my our your to from on at far top bottom upper lower front back rear "
    "middle center centre extreme immediate very more further facing faces face turn turns turned "
    "turning look looks looking pointing heading going moving leaning toward towards".split()
)
_NO_SIDE_AFTER = frozenset("all been being nothing none".split())  # "all right", "nothing left"
_NO_SIDE_BEFORE = frozenset(  # "right behind", "right now", "left the room", "left over"
    "behind beside besides by next in inside on at above below under underneath over between "
    "before after against near outside across along around through beyond opposite now away here "
    "there then up down out off open alone empty unattended overs "
    "the a an his her its their him them it".split()
)
_GONE = frozenset("has have had having".split())
_BESIDE = re.compile(r"(?:(\w+)\s+)?(\w+)\s+$")
_NEXT = re.compile(r"\s+(\w+)")

# "Left" and "right" in the other languages that captions are written in.
_FOREIGN_SIDE = re.compile(
    r"\b(?:links|rechts|linke[nmrs]?|rechte[nmrs]?|linkse|rechtse"  # German, Dutch
    r"|gauche|droite|izquierd[ao]|derech[ao]|sinistr[ao]|destr[ao]"  # French, Spanish, Italian
    r"|esquerd[ao]|direit[ao])\b",  # Portuguese
    re.IGNORECASE,
)
_ENGLISH = frozenset(
    "the and with this that there are has have his her which from to they we can see it".split()
)


def plain(caption: str) -> str:
    """Lower-cased, single spaces: captions that are equal so say the same (METHOD 3)."""
    return " ".join(caption.lower().split())


def spans(caption: str, words: Sequence[Word]) -> list[Span]:
    """The caption characters [start, end) of each utterance.

    Where the utterances do not spell the caption, what matches is mapped, the others get an
    empty span, and a warning names the first one that differs.
    """
    if not words:
        return []
    texts = [word.text for word in words]
    if " ".join(texts) == caption == " ".join(caption.split()):  # as nearly all are
        ends = accumulate(len(text) + 1 for text in texts)
        return [(end - 1 - len(text), end - 1) for text, end in zip(texts, ends, strict=True)]
    position = [i for i, letter in enumerate(caption) if not letter.isspace()]
    spoken = ["".join(text.split()) for text in texts]
    if "".join(spoken) != "".join(caption.split()):
        return _matched(caption, position, spoken)
    return [
        (position[end - len(text)], position[end - 1] + 1) if text else (0, 0)
        for text, end in zip(spoken, accumulate(map(len, spoken)), strict=True)
    ]


def _matched(caption: str, position: list[int], spoken: list[str]) -> list[Span]:
    """`spans` where the utterances do not spell the caption."""
    written = "".join(caption.split())
    place = np.full(sum(map(len, spoken)), -1)
    matcher = SequenceMatcher(None, "".join(spoken), written, autojunk=False)
    for block in matcher.get_matching_blocks():
        place[block.a : block.a + block.size] = block.b + np.arange(block.size)
    positions = np.split(place, np.cumsum(list(map(len, spoken))))[:-1]
    odd = next(
        (text for text, p in zip(spoken, positions, strict=True) if (p < 0).any()), "the end"
    )
    warnings.warn(f"utterances differ from the caption {caption!r:.60} at {odd!r}", stacklevel=3)
    positions = [places[places >= 0] for places in positions]
    return [(position[p[0]], position[p[-1]] + 1) if len(p) else (0, 0) for p in positions]


def windows(words: Sequence[Word], margin: float) -> np.ndarray:
    """(W, 2) start and end of each utterance in seconds, widened by `margin` on both sides.

    An utterance of no length lasts until the next start.
    """
    return all_windows([words], margin)


def all_windows(narrated: Sequence[Sequence[Word]], margin: float) -> np.ndarray:
    """(all words, 2): the `windows` of many narratives, one after the other."""
    times = map(itemgetter(1, 2), chain.from_iterable(narrated))
    result = np.fromiter(chain.from_iterable(times), np.float64).reshape(-1, 2)
    start = result[:, 0].tolist()
    have_no_length = np.flatnonzero(result[:, 1] <= result[:, 0])
    ends = np.cumsum(list(map(len, narrated)))  # of the narratives
    ends = ends[np.searchsorted(ends, have_no_length, side="right")].tolist()
    for i, end in zip(have_no_length.tolist(), ends, strict=True):
        result[i, 1] = next((t for t in start[i + 1 : end] if t > start[i]), start[i])
    return result + (-margin, margin)


def token_windows(
    offsets: np.ndarray, word_spans: np.ndarray | Sequence[Span], word_windows: np.ndarray
) -> np.ndarray:
    """(..., T, 2) caption characters of tokens -> (..., T, 2) seconds; NaN where no utterance
    covers one.

    word_spans: (..., W, 2) characters, word_windows: (..., W, 2) seconds of the utterances.
    All tokens of an utterance share its window; a token over several takes them all.
    """
    covers = overlaps(offsets, word_spans)  # (..., T, W)
    bounds = word_windows[..., None, :, :]
    start = np.where(covers, bounds[..., 0], np.inf).min(axis=-1, initial=np.inf)
    end = np.where(covers, bounds[..., 1], -np.inf).max(axis=-1, initial=-np.inf)
    is_covered = np.asarray(covers.any(axis=-1))
    return np.where(is_covered[..., None], np.stack((start, end), axis=-1), np.nan)


def overlaps(first: np.ndarray | Sequence[Span], second: np.ndarray | Sequence[Span]) -> np.ndarray:
    """(..., A, 2) and (..., B, 2) character spans -> (..., A, B) bool: do they share a character?

    A span that ends where it starts shares none.
    """
    a, b = (np.asarray(spans, dtype=np.int64) for spans in (first, second))
    a, b = (spans if spans.ndim > 1 else spans.reshape(-1, 2) for spans in (a, b))
    a, b = a[..., :, None, :], b[..., None, :, :]
    return np.minimum(a[..., 1], b[..., 1]) > np.maximum(a[..., 0], b[..., 0])


def numbers(caption: str, offsets: np.ndarray, skips_stop_words: bool = False) -> np.ndarray:
    """(T, 2) caption characters of tokens -> (T,) number of the word each belongs to.

    -1 for what is no word: start, end, padding, punctuation, and stop words where they are skipped.
    """
    word_spans = [
        m.span()
        for m in WORD.finditer(caption)
        if not (skips_stop_words and m.group().lower() in STOP_WORDS)
    ]
    if not word_spans:
        return np.full(len(offsets), -1)
    covers = overlaps(offsets, word_spans)  # (T, W)
    return np.where(covers.any(axis=1), covers.argmax(axis=1), -1)


def mirror(caption: str, word_spans: Sequence[Span] = ()) -> tuple[str, list[Span]]:
    """Whole words left and right swapped, as a mirrored image needs; spans follow the text.

    "left-hand", "leftmost", "leftwards" follow; "left-over" and "bright" stay, and what is no side:
    "has left the room", "right behind it", "all right", "right now", "left over" (`_is_side`).
    """
    sides = [match for match in _SIDE.finditer(caption) if _is_side(caption, match)]
    if not sides:
        return caption, list(word_spans)
    pieces, new_place, end, length = [], np.zeros(len(caption) + 1, dtype=np.int64), 0, 0
    for match in sides:
        pieces += [caption[end : match.start()], _other_side(match.group())]
        new_place[end : match.start()] = length + np.arange(match.start() - end)
        length += match.start() - end
        new_place[match.start() : match.end()] = length
        length += len(pieces[-1])
        end = match.end()
    pieces.append(caption[end:])
    new_place[end:] = length + np.arange(len(caption) - end + 1)
    return "".join(pieces), [(int(new_place[a]), int(new_place[b])) for a, b in word_spans]


def _is_side(caption: str, match: re.Match) -> bool:
    """Does this "left" or "right" name a side, by the words before and after it?"""
    beside = _BESIDE.search(caption[max(0, match.start() - 60) : match.start()])
    earlier, before = [(word or "").lower() for word in beside.groups()] if beside else ["", ""]
    following = _NEXT.match(caption, match.end())
    after = following.group(1).lower() if following else ""

    if caption[match.end() : match.end() + 1].isalpha() or caption.startswith("-", match.end()):
        return True  # "rightmost", "left-hand"
    if before in ("and", "or", "to") and earlier in ("left", "right"):
        return True  # "left and right in the picture"
    if before in _SIDE_AFTER:
        return True
    if before in ("is", "are", "was", "were") and earlier in _NO_SIDE_AFTER:
        return False  # "nothing is left"
    if before in _GONE:  # "has left." and "has left for work", but "has left and right mirrors"
        return after not in ("", "for", "to", "from", "already", *_NO_SIDE_BEFORE)
    return before not in _NO_SIDE_AFTER and after not in _NO_SIDE_BEFORE


def can_mirror(caption: str) -> bool:
    """False for a caption in another language that names a side, which `mirror` would leave wrong.

    The rule: a side word of German, French, Spanish, Italian, Portuguese or Dutch, and less than
    one word in ten is a common English one ("the", "and", "with", ...).
    """
    if _FOREIGN_SIDE.search(caption) is None:
        return True
    said = caption.lower().split()
    return 10 * sum(word.strip(".,;:!?") in _ENGLISH for word in said) >= len(said)


def _other_side(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    return other.upper() if word.isupper() else other.title() if word[0].isupper() else other


def pieces(caption: str) -> list[Span]:
    """The caption characters of each word with the punctuation beside it, as a recorder times them.

    What stands between spaces; where a script has none, each WORD of it.
    """
    spans: list[Span] = []
    for run in regex.finditer(r"\S+", caption):
        begin, end = run.span()
        starts = [begin]
        if UNSPACED.search(run.group()):
            starts += [word.start() for word in WORD.finditer(caption, begin, end)][1:]
        spans += zip(starts, [*starts[1:], end], strict=True)
    return spans


def estimate(caption: str) -> tuple[Word, ...]:
    """The words of a caption without recording, on a steady clock (ours): a third of a second for
    each of its `pieces`."""
    timed = enumerate(caption[start:end] for start, end in pieces(caption))
    pace = SECONDS_PER_WORD
    return tuple(Word(text, number * pace, (number + 1) * pace) for number, text in timed)
