"""Features of a frozen backbone, kept in the run's folder: a second protocol costs seconds.

An encoder is the backbone of a run's checkpoint, the same backbone with random weights, or any
pre-trained timm model. Its feature of an image is the global average pool of the last stage,
l2-normalised (METHOD section 4), in float32.
"""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from tqdm import tqdm

from loctex.jobs import checkpoint_files
from loctex.loading import augment
from loctex.model import build, pretrained
from loctex.model.backbones import Backbone
from loctex.model.model import LocTexConfig
from loctex.records.files import write_whole
from loctex.records.images import decode_image


class Picture(Protocol):
    """An image file, or what behaves like one."""

    @property
    def name(self) -> str: ...
    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Crop:
    """The short side is brought to `short` pixels, then the center square of `size` is cut out."""

    short: int = 256
    size: int = 224

    @classmethod
    def of(cls, size: int) -> "Crop":
        """The square of `size` pixels, with the border of 256 around 224."""
        return cls(short=round(size * 256 / 224), size=size)


def fingerprint(picture: Picture) -> str:
    """What stands for the file's content: its SHA-256. ValueError where it cannot be read."""
    return hashlib.sha256(_read(picture)).hexdigest()


def read_square(picture: Picture, crop: Crop) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a file: gray, CMYK, transparent or turned by EXIF.

    ValueError says that it is missing, truncated or no image; whoever asked names the file.
    """
    return center_square(decode_image(_read(picture)), crop)


def _read(picture: Picture) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def center_square(image: np.ndarray, crop: Crop) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3): scaled by the short side, the middle cut out."""
    height, width = image.shape[:2]
    scale = crop.short / min(height, width)
    height, width = round(height * scale), round(width * scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (width, height), interpolation=how)
    y, x = (height - crop.size) // 2, (width - crop.size) // 2
    return scaled[y : y + crop.size, x : x + crop.size]


BATCH = 64  # images encoded at once
THREADS = 4  # that decode


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen backbone and the pixels it expects. name: how its row is called in a table."""

    name: str
    backbone: Backbone
    crop: Crop = Crop()
    mean: tuple[float, ...] = augment.MEAN
    std: tuple[float, ...] = augment.STD

    @cached_property
    def key(self) -> str:
        """Changes with any weight and any setting of the pixels."""
        digest = hashlib.sha256(repr((self.crop, self.mean, self.std)).encode())
        for name, value in self.backbone.state_dict().items():
            digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def __call__(self, squares: np.ndarray, device: torch.device | str) -> np.ndarray:
        """(B, size, size, 3) uint8 -> (B, C) float32, each row of length 1."""
        pixels = torch.from_numpy(squares).to(device).float() / 255
        pixels = (pixels - pixels.new_tensor(self.mean)) / pixels.new_tensor(self.std)
        backbone = self.backbone.to(device).eval()
        pooled = backbone(pixels.permute(0, 3, 1, 2))[-1].mean(dim=(2, 3))
        return F.normalize(pooled, dim=1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Features:
    """rows: (N, C) float32, one per image asked for, NaN where it has none; problems: why.

    contents: what each image's file holds, as a fingerprint; None where it cannot be read.
    """

    rows: np.ndarray
    problems: dict[int, str]
    contents: tuple[str | None, ...]


def from_run(run: Path | str, checkpoint_name: str = "best") -> Encoder:
    """The backbone of a run's checkpoint, or of a folder of save_pretrained."""
    folder = checkpoint_files.find(run, checkpoint_name)
    model = build.load(folder)
    kind = "" if model.config.localized else ", contrastive only"
    name = folder.parents[1].name if folder.parent.name == "checkpoints" else folder.name
    mean, std = tuple(model.config.pixel_mean), tuple(model.config.pixel_std)
    return Encoder(f"{name}{kind}", model.backbone, _crop(model.config), mean, std)


def from_random(run: Path | str, checkpoint_name: str = "best", seed: int = 0) -> Encoder:
    """The same architecture as the run's, never trained."""
    config = LocTexConfig.from_pretrained(checkpoint_files.find(run, checkpoint_name))
    assert isinstance(config, LocTexConfig)
    return _untrained(config.backbone, config.backbone_options, seed, _crop(config))


def _untrained(name: str, options: dict, seed: int, crop: Crop = Crop()) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Backbone(name=name, num_scales=1, options=options)
    return Encoder("random initialization", backbone, crop)


def from_timm(name: str) -> Encoder:
    """Pre-trained weights that this machine has: "resnet50", or "resnet50=FILE".

    Nothing is downloaded. ValueError says what to do where the weights are missing.
    """
    name, _, file = name.partition("=")
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; timm.list_models() names those it has")

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None:
        raise ValueError(f"timm knows no weights for {name}; name a run, or another model")

    path = pretrained.weights_file(name, file, f"timm:{name}=FILE")
    weights = pretrained.load_weights(name, path)
    try:
        backbone = Backbone(name=name, num_scales=1, weights=weights)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} holds no weights of {name}: {error}") from error

    size = cfg.input_size[-1]
    crop = Crop.of(size if cfg.fixed_input_size else min(224, size))
    return Encoder(f"timm {name}", backbone, crop, tuple(cfg.mean), tuple(cfg.std))


def from_name(name: str, seed: int = 0) -> Encoder:
    """An encoder as the command line names it: "timm:MODEL", "timm:MODEL=FILE", "random:RUN",
    "random:MODEL" (a timm model's architecture), or a run."""
    kind, _, argument = name.partition(":")
    if kind == "timm" and argument:
        return from_timm(argument)
    if kind == "random" and argument:
        return (
            from_random(argument, seed=seed)
            if Path(argument).exists()
            else _untrained(argument, {}, seed)
        )
    return from_run(name)


def extract(
    encoder: Encoder,
    paths: Sequence[Picture],
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    has_progress: bool = False,
) -> Features:
    """The features of these image files; each different content is computed once, ever.

    cache: the folder that keeps them, one file per (weights, set of images).
    """
    with ThreadPoolExecutor(THREADS) as pool:
        marks = list(pool.map(lambda path: _or_problem(fingerprint, path), paths))
    place = {mark: path for mark, path in zip(marks, paths, strict=True) if isinstance(mark, str)}
    content = hashlib.sha256("".join(sorted(place)).encode()).hexdigest()
    file = cache / f"{encoder.key[:16]}-{content[:16]}.npz"
    features = _load(file)
    missing = {mark: path for mark, path in place.items() if mark not in features}
    computed = _compute(encoder, list(missing.values()), device, has_progress)
    features |= dict(zip(missing, computed, strict=True))
    if missing:
        _save(file, features)

    rows = np.full((len(paths), encoder.backbone.channels[-1]), np.nan, dtype=np.float32)
    problems = {}
    for i, mark in enumerate(marks):
        row = features[mark] if isinstance(mark, str) else mark
        if isinstance(row, ValueError):
            problems[i] = str(row)
        else:
            rows[i] = row
    contents = tuple(mark if isinstance(mark, str) else None for mark in marks)
    return Features(rows, problems, contents)


@torch.inference_mode()
def _compute(
    encoder: Encoder, paths: Sequence[Picture], device: torch.device | str, has_progress: bool
) -> list[np.ndarray | ValueError]:
    """A feature, or what is wrong, for each path; the next batch is decoded meanwhile."""
    computed: list[np.ndarray | ValueError] = []
    batches = [paths[i : i + BATCH] for i in range(0, len(paths), BATCH)]
    with ThreadPoolExecutor(THREADS) as pool, _bar(encoder, len(paths), has_progress) as bar:

        def start(batch):
            return pool.map(lambda path: _or_problem(read_square, path, encoder.crop), batch)

        ahead = start(batches[0] if batches else [])
        for following in [*batches[1:], []][: len(batches)]:
            squares, ahead = list(ahead), start(following)
            good = [square for square in squares if not isinstance(square, ValueError)]
            rows = iter(encoder(np.stack(good), device) if good else ())
            computed += [s if isinstance(s, ValueError) else next(rows) for s in squares]
            bar.update(len(squares))
    return computed


def _bar(encoder: Encoder, total: int, has_progress: bool) -> tqdm:
    return tqdm(total=total, desc=encoder.name, unit="image", disable=not (has_progress and total))


def _or_problem(function, *arguments):
    """What the function returns, or the ValueError it raises."""
    try:
        return function(*arguments)
    except ValueError as error:
        return error


def _load(file: Path) -> dict[str, np.ndarray | ValueError]:
    if not file.exists():
        return {}
    with np.load(file) as arrays:
        return dict(zip(arrays["images"].tolist(), arrays["features"], strict=True))


def _save(file: Path, features: dict[str, np.ndarray | ValueError]) -> None:
    good = {mark: row for mark, row in features.items() if not isinstance(row, ValueError)}
    content = io.BytesIO()
    np.savez(content, images=list(good), features=list(good.values()))
    write_whole(file, content.getvalue())


def _crop(config: LocTexConfig) -> Crop:
    """224 pixels; the model's own size where it is smaller, or where it takes no other."""
    cfg = timm.get_pretrained_cfg(config.backbone)
    is_fixed = cfg is not None and cfg.fixed_input_size
    return Crop.of(config.image_size if is_fixed else min(224, config.image_size))
