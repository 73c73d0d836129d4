"""Whole words of a caption hidden, to be guessed from the rest and the image. Numpy only.

Of the words chosen, 80 % become the mask token, 10 % other words, 10 % stay (BERT; METHOD 2).
"""

import numpy as np

MASKED, REPLACED = 0.8, 0.1  # shares of the chosen words; the rest stays


def hide_words(
    tokens: np.ndarray,
    words: np.ndarray,
    share: float,
    random: np.random.Generator,
    *,
    mask: int,
    vocabulary: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) tokens and the number of each one's word (-1: none) -> hidden tokens and their places.

    `share` of the words is chosen, at least one; all tokens of a word share its fate. mask: the
    mask token. vocabulary: tokens that may stand in. The places, (K,), are those of all tokens
    of chosen words, rising: also of those that stay.
    """
    numbers = np.unique(words[words >= 0])
    count = min(len(numbers), max(1, round(share * len(numbers))))

    hidden, places = tokens.copy(), np.zeros(len(tokens), dtype=bool)
    for word in random.choice(numbers, count, replace=False) if count else ():
        place = words == word
        places |= place

        fate = random.random()
        if fate < MASKED:
            hidden[place] = mask
        elif fate < MASKED + REPLACED:
            hidden[place] = random.choice(vocabulary, place.sum())

    return hidden, np.flatnonzero(places)
