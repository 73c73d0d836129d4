"""regions.jsonl: the known masks and boxes of what captions name. Read by evaluation only.

A line: {"dataset_id", "image_id", "start", "end"} (caption characters), with "box" [x0, y0, x1, y1]
(fractions) or "rle" {"size": [h, w], "counts"} or both; "annotator_id" and "caption" say which
narrative is meant where an image has several.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loctex.records.narrative import Narrative, numbered_lines

Key = tuple[str, str]  # dataset_id, image_id


def read_regions(path: Path) -> dict[Key, list[dict[str, Any]]]:
    """The lines of each image; ValueError "FILE:LINE: field: what is wrong"."""
    regions = defaultdict(list)
    for number, line in numbered_lines(path):
        try:
            region = json.loads(line)
            _check(region)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from error
        regions[region["dataset_id"], str(region["image_id"])].append(region)
    return dict(regions)


def assign(
    regions: Sequence[dict[str, Any]], narratives: Sequence[Narrative]
) -> list[list[dict[str, Any]]]:
    """The regions of each narrative of one image.

    A region whose narrative is not there is left out. ValueError: several are meant, or the
    region ends beyond the caption.
    """
    assigned: list[list[dict[str, Any]]] = [[] for _ in narratives]
    for region in regions:
        meant = [
            i
            for i, narrative in enumerate(narratives)
            if region.get("annotator_id") in (None, narrative.annotator_id)
            and region.get("caption") in (None, narrative.caption)
        ]

        where = f"region of image {region['image_id']!r}"
        if len(meant) > 1:
            raise ValueError(f"{where} fits {len(meant)} narratives: add annotator_id or caption")

        for i in meant:
            if region["end"] > len(narratives[i].caption):
                raise ValueError(f"{where}: end {region['end']} lies beyond its caption")
            assigned[i].append(region)

    return assigned


def _check(region: Any) -> None:
    if not isinstance(region, dict):
        raise ValueError("record: must be a JSON object")
    for key, kinds in (("dataset_id", str), ("image_id", (str, int)), ("start", int), ("end", int)):
        if not isinstance(region.get(key), kinds):
            raise ValueError(f"{key}: is missing or of the wrong kind, got {region.get(key)!r}")

    if not 0 <= region["start"] < region["end"]:
        raise ValueError(f"end: must lie after start, got {region['start']} to {region['end']}")

    box, rle = region.get("box"), region.get("rle")
    if box is None and rle is None:
        raise ValueError("box: is missing, and so is rle")
    if box is not None and not _is_box(box):
        raise ValueError(f"box: must be four fractions x0 <= x1, y0 <= y1, got {box!r}")
    if rle is not None and not _is_rle(rle):
        raise ValueError("rle: must hold size [height, width] and counts, a text")


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4:
        return False
    if not all(type(side) in (int, float) and math.isfinite(side) for side in box):
        return False
    return box[0] <= box[2] and box[1] <= box[3]


def _is_rle(rle: Any) -> bool:
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), str):
        return False
    size = rle.get("size")
    return isinstance(size, list) and [type(side) for side in size] == [int, int] and min(size) > 0
