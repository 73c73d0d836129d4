"""False captions of rendered scenes, each a true one with one thing changed. Ours.

    python -m data_tools.scene_foils --data SNAPSHOT --split val --to foils.jsonl [--seed N]

writes a line for each caption and kind: dataset_id, image_id, caption, foil, kind. The kinds are
`attribute` (one thing has another color or shape wherever it is named, as no thing has) and
`relation` (left and right, or above and below, change places in one phrase). loctex.foils scores
a model on them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_tools.scenes import NAMES
from data_tools.simulation.scene_captions import RELATIONS
from data_tools.simulation.scene_pictures import COLORS
from loctex.records.files import write_whole
from loctex.records.items import Region, Split
from loctex.records.narrative import Narrative
from loctex.records.snapshot import Snapshot

EXCLUSIVE = "; ".join(
    (  # words of scenes that exclude each other, for `data.exclusive_words`
        " ".join(COLORS),
        " ".join(NAMES),
        "disc box triangle star hoop cross heart diamond",
        "left right",
        "above below",
        "over under",
        "higher lower",
        "top bottom",
        "upper lower",
        "big small",
        "large little",
    )
)
OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}
_SIDES = {phrase: side for side, phrases in RELATIONS.items() for phrase in phrases}
_RELATION = re.compile("|".join(sorted(_SIDES, key=len, reverse=True)))
_SHAPES = {name: shape for shape, names in NAMES.items() for name in names}


def attribute_foil(
    caption: str, namings: list[tuple[int, int]], random: np.random.Generator
) -> str | None:
    """The caption with one thing's color or shape changed to that of no thing named, wherever it is
    named; None where no name has a color.

    namings: characters [start, end) of each "red circle", or "circle" where it is the only one.
    """
    named = []
    for start, end in namings:
        color, _, noun = caption[start:end].rpartition(" ")
        if color in {"", *COLORS} and noun in _SHAPES:
            named.append((start, end, color, _SHAPES[noun]))

    present = {thing[2:] for thing in named if thing[2]}
    if not present:
        return None

    color, shape = sorted(present)[random.integers(len(present))]
    free = [(c, shape) for c in COLORS if (c, shape) not in present]
    free += [(color, s) for s in NAMES if (color, s) not in present]
    new_color, new_shape = free[random.integers(len(free))]

    for start, end, color_said, kind in sorted(named, reverse=True):
        if kind == shape and color_said in ("", color):
            name = f"{new_color if color_said else ''} {NAMES[new_shape][0]}".strip()
            caption = _with_articles(f"{caption[:start]}{name}{caption[end:]}", start, name)
    return caption


def _with_articles(text: str, start: int, name: str) -> str:
    """ "a orange" -> "an orange", and back, before the changed name at `start`."""
    before = re.sub(r"\b([aA])n? $", r"\1n " if name[0] in "aeio" else r"\1 ", text[:start])
    return before + text[start:]


def relation_foil(
    caption: str, namings: list[tuple[int, int]], random: np.random.Generator
) -> str | None:
    """The caption with one relation between two things turned round; None if it has none."""
    matches = [
        m
        for m in _RELATION.finditer(caption)
        if not any(start < m.end() and m.start() < end for start, end in namings)
        and re.match(r" (the|an?|it)\b", caption[m.end() :])
    ]

    if not matches:
        return None

    match = matches[random.integers(len(matches))]
    options = RELATIONS[OPPOSITES[_SIDES[match.group()]]]
    twin = options[RELATIONS[_SIDES[match.group()]].index(match.group()) % len(options)]
    return caption[: match.start()] + twin + caption[match.end() :]


def foils(split: Split, seed: int = 0) -> Iterator[dict[str, str]]:
    """The lines of a split, a function of the seed and the image's number."""
    for number in range(len(split)):
        item = split[number]
        for narrative, regions in zip(item.narratives, item.regions, strict=True):
            yield from _lines(narrative, regions, np.random.default_rng((seed, number)))


def _lines(
    narrative: Narrative, regions: tuple[Region, ...], random: np.random.Generator
) -> Iterator[dict[str, str]]:
    namings = [(region.start, region.end) for region in regions]
    for kind, change in (("attribute", attribute_foil), ("relation", relation_foil)):
        foil = change(narrative.caption, namings, random)
        if foil is not None:
            yield {
                "dataset_id": narrative.dataset_id,
                "image_id": narrative.image_id,
                "caption": narrative.caption,
                "foil": foil,
                "kind": kind,
            }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.scene_foils",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    parser.add_argument("--data", type=Path, required=True, help="a snapshot of rendered scenes")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument("--to", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=0, help="another number, other foils")

    options = parser.parse_args(arguments)
    try:
        lines = list(foils(Snapshot.open(options.data).split(options.split), options.seed))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")

    if not lines:
        sys.exit(
            f"error: {options.data} names no colored shapes; use a snapshot of rendered scenes"
        )

    write_whole(options.to, "".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} false captions in {options.to}")


if __name__ == "__main__":
    main()
