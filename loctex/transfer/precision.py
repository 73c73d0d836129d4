"""Average precision of detections by pycocotools, for boxes and for masks."""

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from loctex.transfer.instances import Instances, Photo

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def detections(
    instances: Instances, photo: Photo, prediction: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """What a detector says of one image, as COCO's results file has it.

    prediction: boxes (n, 4) x0, y0, x1, y1 in pixels, labels (n,), scores (n,), and masks
    (n, 1, H, W) as probabilities where it gives any.
    """
    keys = list(instances.categories)
    masks = (
        prediction["masks"][:, 0] if "masks" in prediction else [None] * len(prediction["labels"])
    )

    columns = zip(
        prediction["boxes"], prediction["labels"], prediction["scores"], masks, strict=True
    )

    rows = []
    for box, label, score, mask in columns:
        x0, y0, x1, y1 = (float(side) for side in box)
        row = {
            "image_id": photo.id,
            "category_id": keys[int(label) - 1],
            "score": float(score),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
        }

        if mask is not None:
            row["segmentation"] = encode((mask > 0.5).cpu().numpy())
        rows.append(row)
    return rows


def encode(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) bool -> run lengths as text."""
    coded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": coded["size"], "counts": coded["counts"].decode()}


def score(instances: Instances, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """box_ap, box_ap50, ... and mask_ap, ... of results on all images of `instances`.

    Fractions; -1 where the images hold nothing of a size. Everything is 0 without a detection.
    """

    values: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        truth = COCO()
        truth.dataset = _dataset(instances)
        truth.createIndex()

        kinds = {"box": "bbox", "mask": "segm"} if instances.has_masks else {"box": "bbox"}
        for name, kind in kinds.items():
            drop = "bbox" if kind == "segm" else "segmentation"
            rows = [{k: v for k, v in row.items() if k != drop} for row in results]

            if not rows:
                values |= {f"{name}_{key}": 0.0 for key in NAMES}
                continue

            judge = COCOeval(truth, truth.loadRes(rows), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            values |= {f"{name}_{key}": float(judge.stats[i]) for i, key in enumerate(NAMES)}
    return values


def _dataset(instances: Instances) -> dict[str, Any]:
    """The file as it is, of the images that count; what pycocotools needs is filled in.

    Annotations are numbered from 1: pycocotools writes the id of the matched one into zeros, so
    that a detection matched to annotation 0 would count as unmatched.
    """
    counted = {photo.id for photo in instances.photos}
    rows: list[dict[str, Any]] = []
    for item in instances.content["annotations"]:
        if item["image_id"] not in counted:
            continue

        x, y, width, height = item["bbox"]
        area = item.get("area")
        is_area = type(area) in (int, float) and math.isfinite(area)

        row = dict(item) | {"id": len(rows) + 1, "iscrowd": int(bool(item.get("iscrowd", 0)))}
        row["area"] = area if is_area else width * height
        if instances.has_masks and not item.get("segmentation"):  # a crowd of which a box is known
            corners = (x, y), (x + width, y), (x + width, y + height), (x, y + height)
            row["segmentation"] = [list(sum(corners, ()))]
        rows.append(row)

    images = [item for item in instances.content["images"] if item["id"] in counted]
    return {"images": images, "annotations": rows, "categories": instances.content["categories"]}
