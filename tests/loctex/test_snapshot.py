"""Opening a snapshot, and decoding pictures of strangers."""

import io
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as rle

from loctex.records.images import decode_image
from loctex.records.items import ROW, Region
from loctex.records.snapshot import Snapshot

ROOT = Path(__file__).parents[2]


def write(folder: Path, rows: list[dict], split: str = "train") -> Path:
    """A snapshot of one split by hand, as the format is written down."""
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, ROW), folder / f"data/{split}-00000-of-00001.parquet")
    manifest = {"hash": "0" * 64, "splits": {split: {"images": len(rows)}}}
    (folder / "snapshot.json").write_text(json.dumps(manifest))
    return folder


def row(number: int, num_narratives: int = 1, num_points: int = 330) -> dict:
    jpeg = cv2.imencode(".jpg", np.full((288, 384, 3), number % 256, np.uint8))[1].tobytes()
    x = np.linspace(0, 1, num_points, dtype=np.float32).tolist()
    said = [
        {
            "dataset_id": "album",
            "annotator_id": 7 + k,
            "caption": f"image {number} narrative {k}",
            "word_text": ["image", f"{number}", f"narrative {k}"],
            "word_start": [0.0, 0.1, 0.7],
            "word_end": [0.1, 0.1, 2.0],
            "stroke_lengths": [num_points - 30, 30] if num_points else [],
            "x": x,
            "y": x[::-1],
            "t_us": list(range(0, num_points * 8000, 8000)),
            "regions": [
                {"start": 0, "end": 5, "box": [0.0, 0.25, 0.5, 1.0]},
            ],
        }
        for k in range(num_narratives)
    ]
    return {
        "dataset_id": "album",
        "image_id": f"{number:05d}",
        "width": 800,
        "height": 600,
        "image": jpeg,
        "narratives": said,
    }


def test_an_item_holds_what_the_row_says(tmp_path):
    write(tmp_path / "s", [row(0), row(1, 2), row(2, 1, num_points=0)])
    snapshot = Snapshot.open(tmp_path / "s")
    assert (snapshot.splits, snapshot.hash) == (("train",), "0" * 64)
    split = snapshot.split("train")
    assert len(split) == 3 and [split.num_narratives(i) for i in range(3)] == [1, 2, 1]
    assert list(split.captions()) == [
        "image 0 narrative 0",
        "image 1 narrative 0",
        "image 1 narrative 1",
        "image 2 narrative 0",
    ]
    item = split[1]
    assert (item.dataset_id, item.image_id, item.width, item.height) == ("album", "00001", 800, 600)
    assert decode_image(item.image).shape == (288, 384, 3)
    assert [n.annotator_id for n in item.narratives] == [7, 8] and len(item.regions) == 2
    said = item.narratives[1]
    assert [(w.text, w.start, w.end) for w in said.words][2] == ("narrative 1", 0.7, 2.0)
    assert [(s.shape, s.dtype) for s in said.strokes] == [((300, 3), "f8"), ((30, 3), "f8")]
    assert said.strokes[1][-1].tolist() == [1.0, 0.0, 329 * 0.008]
    assert split[2].narratives[0].strokes == () and split[-1].image_id == "00002"
    with pytest.raises(IndexError, match="image 3 of 3"):
        split[3]


@pytest.mark.timed
def test_an_item_is_read_in_well_under_a_millisecond(tmp_path):
    split = Snapshot.open(write(tmp_path / "s", [row(i) for i in range(300)])).split("train")
    order = np.random.default_rng(0).permutation(300)
    seconds = []
    for i in order:
        began = time.thread_time()  # of the processor: other programs may be busy
        assert split[i].narratives[0].num_points == 330
        seconds.append(time.thread_time() - began)
    assert np.median(seconds) < 0.0008


OPEN = """
import socket, sys
def refuse(*_): raise SystemExit("went to the network")
socket.socket.connect = refuse
from loctex.records.snapshot import Snapshot
assert "datasets" not in sys.modules
print(len(Snapshot.open(sys.argv[1]).split("train")))
"""


def test_opening_is_silent_offline_and_writes_only_beside_the_snapshot(tmp_path):
    write(tmp_path / "s", [row(0), row(1)])
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: v for key, v in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    command = [sys.executable, "-c", OPEN, str(tmp_path / "s")]
    opened = subprocess.run(
        command, cwd=ROOT, env=kept | {"HOME": str(home)}, capture_output=True, text=True
    )
    assert (opened.returncode, opened.stdout, opened.stderr) == (0, "2\n", "")
    assert list(home.iterdir()) == [] and (tmp_path / "s/.cache").is_dir()


def test_what_is_no_snapshot_says_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a snapshot .*python -m data_tools.snapsh"):
        Snapshot.open(tmp_path)
    folder = write(tmp_path / "s", [row(0)])
    with pytest.raises(ValueError, match="has no split 'val', only train"):
        Snapshot.open(folder).split("val")
    next((folder / "data").iterdir()).unlink()
    with pytest.raises(ValueError, match=r"train-\*.parquet is gone: freeze again"):
        Snapshot.open(folder)
    for text, message in (("{", "is damaged"), ("[]", "no hash and splits")):
        (folder / "snapshot.json").write_text(text)
        with pytest.raises(ValueError, match=f"{message}.*freeze again"):
            Snapshot.open(folder)


def test_the_mask_of_a_region_is_its_box_or_its_rle_on_any_grid():
    box = Region(0, 1, box=np.array([0.0, 0.25, 0.5, 1.0]))
    assert box.mask(4, 4).astype(int).tolist() == [[0] * 4] + [[1, 1, 0, 0]] * 3
    full = np.zeros((60, 80), bool)
    full[15:, :40] = True
    encoded = rle.encode(np.asfortranarray(full, np.uint8))
    exact = Region(0, 1, rle={"size": [60, 80], "counts": encoded["counts"].decode()})
    assert (exact.mask(60, 80) == full).all() and (exact.mask(4, 4) == box.mask(4, 4)).all()
    assert exact.mask(120, 160).sum() == 4 * full.sum()


# --- decode_image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind, size", [("JPEG", (300, 250)), ("PNG", (1200, 1000))])
def test_a_large_jpeg_is_decoded_as_small_as_is_enough(kind, size):
    across = np.linspace(0, 255, 1200).astype(np.uint8)
    whole = np.tile(across[:, None], (1000, 1, 3))
    small = decode_image(encoded(Image.fromarray(whole), kind), at_least=240)
    assert small.shape == (size[1], size[0], 3)
    expected = across[None, :: 1200 // size[0], None]
    assert np.abs(small.astype(int) - expected).max() <= 3  # the same picture


def test_exif_orientation_turns_the_image_upright():
    image = np.zeros((30, 50, 3), np.uint8)
    image[:15] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    upright = decode_image(encoded(Image.fromarray(image), "JPEG", exif=exif))
    assert upright.shape == (50, 30, 3) and upright.dtype == np.uint8
    assert upright[:, -5:].min() > 250 and upright[:, :5].max() < 5 and upright.flags.writeable


@pytest.mark.parametrize(
    "image, kind, expected",
    [
        (Image.new("L", (4, 3), 100), "PNG", 100),
        (Image.fromarray(np.full((3, 4), 100 * 256, np.uint16)), "PNG", 100),
        (Image.new("RGBA", (4, 3), (0, 0, 0, 0)), "PNG", 255),
        (Image.new("P", (4, 3), 0), "GIF", 0),
        (Image.new("CMYK", (4, 3), (0, 0, 0, 0)), "JPEG", 255),
        (Image.new("RGB", (4, 3), (200, 200, 200)), "WEBP", 200),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(image, kind, expected):
    pixels = decode_image(encoded(image, kind))
    assert pixels.shape == (3, 4, 3) and abs(pixels.astype(int) - expected).max() <= 2


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    size = width.to_bytes(4) + height.to_bytes(4)
    body = chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", zlib.compress(bytes(9)))
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.timed
@pytest.mark.parametrize("size", [(20_000, 20_000), (10_001, 10_000)])
def test_a_huge_image_is_refused_by_its_header(size):
    began = time.thread_time()
    with pytest.raises(ValueError, match="is larger than 100 megapixels, scale it down"):
        decode_image(png_header(*size))
    assert time.thread_time() - began < 0.1  # 1.2 GB of pixels take seconds


def test_text_and_cut_pictures_are_refused_by_name(tmp_path):
    (tmp_path / "note.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match="^note.jpg: is not an image; the studio reads JPEG, PNG"):
        decode_image(tmp_path / "note.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        whole = encoded(Image.fromarray(noise), kind)
        for share in (0.3, 0.6, 0.95):
            (tmp_path / "cut.jpg").write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(ValueError, match="^cut.jpg: is "):
                decode_image(tmp_path / "cut.jpg")
