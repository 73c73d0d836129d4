"""Made-up pictures and folders as people have them, with the truth beside them.

A picture's color is its class, so that a label on the wrong picture is seen in the pixels.
"""

import io
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

COLORS = {
    "red": (210, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 60, 210),
    "yellow": (220, 200, 40),
    "black": (20, 20, 20),
    "white": (240, 240, 240),
}
FORMATS = {
    ".jpg": "JPEG",
    ".JPG": "JPEG",
    ".jpeg": "JPEG",
    ".JPE": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".PNG": "PNG",
    ".tif": "TIFF",
    ".TIFF": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
    "": "PNG",  # only its bytes say that it is one
}
STEMS = (
    *("IMG_0001", "1", "01", "a b", "x.y", "café", "cafe\u0301s", "図", "кот", "ลูกแมว", "ไฟล์ 2"),
    *("UPPER", "100%", "semi'colon", "#1", "long " * 30, "猫" * 40),
)
CLASSES = ("cat", "Dog", "猫", "café", "มะม่วง", "n0144", "a b", "हिन्दी", "x & y", "très long " * 5)
HIDDEN = ("._x.jpg", ".DS_Store", ".ipynb_checkpoints/x.jpg", "__MACOSX/x.jpg")


def encoded(
    color: str, form: str = "PNG", size: tuple[int, int] = (12, 10), mark: int = 0
) -> bytes:
    """A picture of one color; mark: 0 to 120, makes another file of the same color."""
    shade = np.array(COLORS[color]) + np.array((mark % 11 - 5, mark // 11 - 5, 0))
    pixels = np.full((size[1], size[0], 3), shade.clip(0, 255), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


def color_of(pixels: np.ndarray) -> str:
    """The name of the nearest color of (..., 3) RGB."""
    mean = pixels.reshape(-1, 3).mean(axis=0)
    return min(COLORS, key=lambda name: float(np.abs(mean - COLORS[name]).sum()))


def broken(rng: Random, color: str) -> bytes:
    """What is called an image and cannot be read."""
    sound = encoded(color, "JPEG", (60, 50))
    return rng.choice([b"", sound[: len(sound) // 3], b"<html>not there</html>", b"\xff\xd8\xff"])


def spelled(rng: Random, name: str) -> str:
    """The name as macOS or Linux writes it."""
    return unicodedata.normalize(rng.choice(["NFC", "NFD"]), name)


def class_name(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip())


@dataclass
class MadeUpFolder:
    """A folder of files, and what each of them is."""

    root: Path
    rng: Random
    color_of_class: dict[str, str] = field(default_factory=dict)
    class_of: dict[str, str] = field(default_factory=dict)  # pictures, by path in the root
    broken: set[str] = field(default_factory=set)  # of those, the unreadable ones
    uncounted: list[str] = field(default_factory=list)  # seen, and no picture of a class
    idle: set[str] = field(default_factory=set)  # to validate on, where others are to test on
    num_pictures: int = 0

    def write(self, name: str, content: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)

    def add_picture(self, name: str, shown_class: str) -> None:
        suffix = Path(name).suffix if Path(name).suffix in FORMATS else ""
        color = self.color_of_class[class_name(shown_class)]
        self.num_pictures += 1
        if self.rng.random() < 0.06 and suffix:
            self.write(name, broken(self.rng, color))
            self.broken.add(name)
        else:
            self.write(name, encoded(color, FORMATS[suffix], mark=self.num_pictures))
        self.class_of[name] = class_name(shown_class)


def class_folders(root: Path, seed: int) -> MadeUpFolder:
    """CLASS/image, perhaps below train and test; nested, with what systems leave beside them."""
    rng = Random(seed)
    made = MadeUpFolder(root, rng)
    classes = rng.sample(CLASSES, rng.randint(2, 4))
    made.color_of_class = dict(
        zip(map(class_name, classes), rng.sample(list(COLORS), 4), strict=False)
    )
    splits = rng.choice([("",), ("",), ("train/", "test/"), ("Training/", "dev/"), ("train/",)])
    if splits == ("train/",) and rng.random() < 0.5:
        made.write("unlabeled/x.png", encoded("red", mark=100))
        made.uncounted.append("unlabeled/x.png")
    if len(splits) > 1 and rng.random() < 0.4:
        splits = (*splits, "val/")  # beside test, nobody trains or tests on it
    for split in splits:
        for name in classes:
            folder = split + spelled(rng, name)
            _fill(made, folder, name)
        if rng.random() < 0.4:
            made.write(f"{split}beside.png", encoded("red", mark=101))
            if split != "train/" or len(splits) > 1:
                made.uncounted.append(f"{split}beside.png")
            else:  # then train is a class as well as the others
                (made.root / f"{split}beside.png").unlink()
    if "test/" in splits:
        made.idle = {name for name in made.class_of if name.startswith("val/")}
    return made


def _fill(made: MadeUpFolder, folder: str, shown_class: str) -> None:
    rng = made.rng
    for _ in range(rng.randint(3, 7)):
        nested = rng.choice(["", "", "", "sub/", "sub/2/", "日/"])
        name = folder + "/" + nested + spelled(rng, rng.choice(STEMS)) + rng.choice([*FORMATS])
        if not (made.root / name).exists():
            made.add_picture(name, shown_class)
        if rng.random() < 0.2:  # the same stem with another suffix
            twin = str(Path(name).with_suffix(".bmp" if Path(name).suffix != ".bmp" else ".png"))
            if not (made.root / twin).exists():
                made.add_picture(twin, shown_class)
    for name in HIDDEN:
        if rng.random() < 0.3:
            made.write(f"{folder}/{name}", encoded("red", mark=102))
    for name in ("Thumbs.db", "notes.txt", "x.svg", "README", "x.pdf"):
        if rng.random() < 0.2:
            made.write(f"{folder}/{name}", b"no picture that is read here")
            made.uncounted.append(f"{folder}/{name}")
    if rng.random() < 0.15:
        (made.root / folder / "link.jpg").symlink_to("nowhere.jpg")
        made.uncounted.append(f"{folder}/link.jpg")
    if rng.random() < 0.15:
        (made.root / folder / "linked").symlink_to(made.root.parent, target_is_directory=True)
        made.uncounted.append(f"{folder}/linked")
