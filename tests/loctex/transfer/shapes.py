"""A COCO data set of rectangles and disks, whose boxes and masks are known to the pixel."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle

CATEGORIES = [{"id": 7, "name": "rectangle"}, {"id": 3, "name": "disk"}]  # not in order, with gaps
WIDTH, HEIGHT = 96, 80


def write(root: Path, num_images: int = 6) -> Path:
    """ROOT/labels.json and ROOT/images: each with a rectangle and a disk; the path of the file."""
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for k in range(num_images):
        random = np.random.default_rng(k)
        pixels = random.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        x, y = int(random.integers(4, 20)), int(random.integers(4, 40))
        rectangle = np.zeros((HEIGHT, WIDTH), np.uint8)
        rectangle[y : y + 24, x : x + 20] = 1
        disk = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(disk, (int(random.integers(62, 78)), int(random.integers(20, 60))), 13, 1, -1)
        pixels[rectangle > 0], pixels[disk > 0] = (230, 60, 40), (50, 90, 240)
        Image.fromarray(pixels).save(root / "images" / f"{k}.png")
        images.append({"id": 50 + k, "file_name": f"{k}.png", "width": WIDTH, "height": HEIGHT})
        polygon = [[x, y, x + 20, y, x + 20, y + 24, x, y + 24]]
        annotations += [thing(images[-1], 7, rectangle, polygon), thing(images[-1], 3, disk)]
    for i, annotation in enumerate(annotations):
        annotation["id"] = 1000 + i
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "labels.json").write_text(json.dumps(content))
    return root / "labels.json"


def thing(image: dict, category: int, mask: np.ndarray, polygon: list | None = None) -> dict:
    coded = rle.encode(np.asfortranarray(mask))
    coded["counts"] = coded["counts"].decode()
    return {
        "image_id": image["id"],
        "category_id": category,
        "iscrowd": 0,
        "area": int(mask.sum()),
        "bbox": tight(mask),
        "segmentation": polygon or coded,
    }


def tight(mask: np.ndarray) -> list[float]:
    """x, y, width, height of the pixels that are set."""
    y, x = np.nonzero(mask)
    sides = x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()
    return [float(side) for side in sides]


def change(file: Path, **lists) -> Path:
    """The same file with other lists: a function of the old one each."""
    content = json.loads(file.read_text())
    for name, function in lists.items():
        content[name] = function(content[name])
    changed = file.with_name(f"changed-{len(list(file.parent.iterdir()))}.json")
    changed.write_text(json.dumps(content))
    return changed
