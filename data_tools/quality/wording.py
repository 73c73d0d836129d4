"""Mending the words of a narrative while the recorded times stay."""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from loctex.records.narrative import Narrative, Word


def reworded(narrative: Narrative, caption: str) -> Narrative:
    """The narrative with another caption: words that stay keep their times, one that replaces
    others takes theirs, and a new one takes the gap between its neighbors, as METHOD 5 describes
    for typed words. ValueError: the caption has no words."""
    texts = caption.split()
    if not texts:
        raise ValueError("A narrative needs words.")

    old = [piece for word in narrative.words for piece in _pieces(word)]
    matcher = SequenceMatcher(None, _plain(old), _plain(texts), autojunk=False)

    words: list[Word] = []
    for kind, i, j, first, last in matcher.get_opcodes():
        if kind == "equal":
            words += [
                Word(text, was.start, was.end)
                for was, text in zip(old[i:j], texts[first:last], strict=True)
            ]
        elif first < last:
            start = old[i].start if i < j else old[i - 1].end if i else 0.0
            end = old[j - 1].end if i < j else old[i].start if i < len(old) else start
            words += _spread(texts[first:last], start, max(start, end))

    return replace(narrative, caption=" ".join(texts), words=tuple(words))


def _pieces(word: Word) -> list[Word]:
    """An utterance of several words, one by one."""
    texts = word.text.split()
    return [word] if len(texts) == 1 else _spread(texts, word.start, word.end)


def _spread(texts: Sequence[str], start: float, end: float) -> list[Word]:
    """Words that share a time, each as long as its letters."""
    total, passed, words = sum(map(len, texts)), 0, []
    for text in texts:
        begin = start + (end - start) * passed / total
        passed += len(text)
        words.append(Word(text, begin, start + (end - start) * passed / total))
    return words


def _plain(words: Sequence[Word | str]) -> list[str]:
    texts = (word if isinstance(word, str) else word.text for word in words)
    return [re.sub(r"\W", "", text.lower()) or text for text in texts]
