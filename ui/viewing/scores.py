"""The numbers beside a picture: model against person, and how well a sentence fits."""

from __future__ import annotations

import numpy as np

from loctex.loading.changed_words import DOUBTED
from loctex.records import trace, words
from loctex.records.narrative import Narrative
from loctex.scoring import metrics
from ui.viewing.models import ModelAnswer

LOW = 0.9  # a true sentence fits better than most; of wrong ones nine in ten are below
Row = dict[str, str]  # name, value, help; note: a line below; is_low: "yes" where it is bad


def against(answer: ModelAnswer, narrative: Narrative) -> tuple[list[bool | None], list[Row]]:
    """Model against person, as loctex.evaluate does it: a hit or miss per word (None: no trace),
    and the scores of the sentence."""
    attention = answer.attention
    windows = words.windows(narrative.words, answer.margin)
    target = trace.rasterize(narrative.strokes, windows, attention.maps.shape[1:])
    grounded = np.logical_and(target.any(axis=(1, 2)), attention.maps.any(axis=(1, 2)))
    cells = metrics.trace_cells(target)

    hits = metrics.pointing(attention.maps, cells)
    is_hit = [
        bool(hit > 0.5) if is_known else None for hit, is_known in zip(hits, grounded, strict=True)
    ]
    if not grounded.any():
        return is_hit, []

    chance = metrics.pointing_chance(cells[grounded]).sum()
    truth = trace.boxes(narrative.strokes, windows)
    costs = [metrics.lbm(attention.boxes, truth, window) for window in (0, 1)]

    return is_hit, [
        row(
            "Words that agree",
            f"{hits[grounded].sum():.0f} of {grounded.sum()}",
            "The model's strongest cell meets the person's trace of the word (pointing_trace). "
            "Where they differ, the line under the word is dashed.",
            f"a cell drawn at random: {chance:.1f}",
        ),
        row(
            "Distance of the paths",
            f"{costs[0]:.4f}",
            "Local bipartite matching (LBM, k = 0 and k = 1) of the model's boxes with the "
            "person's: 0 is the same path, in fractions of the picture.",
            f"k = 0; {costs[1]:.4f} for k = 1",
        ),
    ]


def match(answer: ModelAnswer, other_texts: np.ndarray | None) -> Row:
    """The cosine, and how many of other pictures' sentences, (N, D), fit this picture less."""
    attention = answer.attention
    match_row = row(
        "Match",
        f"{attention.score:.2f}",
        "Cosine of picture and sentence, from -1 to 1, "
        "beside sentences that were said of other pictures.",
    )

    if other_texts is not None:
        share = float((other_texts @ attention.image < attention.score).mean())
        match_row["note"] = f"fits better than {share:.0%} of {len(other_texts):,} other sentences"
        if share < LOW:
            match_row |= {
                "note": "low: " + match_row["note"].replace("better than", "better than only"),
                "is_low": "yes",
            }

    if answer.match is not None:
        head_note = f"matching head: {answer.match:.0%}"
        match_row["note"] = (
            f"{match_row['note']} · {head_note}" if "note" in match_row else head_note
        )

    return match_row


def doubts(answer: ModelAnswer) -> list[Row]:
    """The words that the model finds untrue of the picture, the worst first."""
    if answer.doubt is None:
        return []
    worst = [
        n for n in np.argsort(-answer.doubt, kind="stable").tolist() if answer.doubt[n] > DOUBTED
    ]

    texts = [
        f"{answer.attention.words[n].text.strip(',.;:')} {answer.doubt[n]:.0%}" for n in worst[:3]
    ]

    doubt_row = row(
        "Words in doubt",
        ", ".join(texts) or "none",
        "Words that the model finds untrue of "
        "the picture, and how sure it is; learned from captions with one word changed.",
        f"and {len(worst) - 3} more" if len(worst) > 3 else "",
    )
    return [doubt_row | ({"is_low": "yes"} if worst else {})]


def words_read(answer: ModelAnswer) -> list[Row]:
    """How many words were read, where the caption was cut."""
    maps = answer.attention.maps
    num_read = int(maps.any(axis=(1, 2)).sum())
    if num_read == len(maps):
        return []
    return [
        row(
            "Words read",
            f"{num_read} of {len(maps)}",
            "The model cuts long captions; the pale words came after the cut.",
        )
    ]


def row(name: str, value: str, help: str, note: str = "") -> Row:
    return {"name": name, "value": value, "help": help} | ({"note": note} if note else {})
