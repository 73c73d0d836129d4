"""Made-up COCO files, Pascal VOC's XML and narratives: each picture is told of as its labels say,
or left out by name."""

import io
import json
import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from data_tools import coco
from data_tools.exchange.importing import import_file
from data_tools.pictures import find_picture
from data_tools.simulation.nouns import plural, spoken
from data_tools.store import Store
from loctex.records.images import decode_image
from loctex.records.narrative import read_jsonl
from tests.loctex.made_up import COLORS, FORMATS, STEMS, color_of, encoded, spelled

SEEDS = [range(20), pytest.param(range(20, 220), marks=pytest.mark.slow)]
COLOR_OF = {"dog": "red", "cat": "blue", "bus": "yellow"}  # on green
NAMES = list(COLOR_OF)
SIZE = (60, 40)


def painted(box: tuple[int, int, int, int], name: str, orientation: int, mark: int) -> bytes:
    """A JPEG of green, stored pixels, with a box in the category's color."""
    pixels = np.full((SIZE[1], SIZE[0], 3), COLORS["green"], np.uint8)
    pixels[:4, :4] = mark * 10  # another file
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = COLORS[COLOR_OF[name]]
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=95, subsampling=0, exif=exif)
    return content.getvalue()


def outline_of(rng: Random, box: tuple[int, int, int, int]) -> object:
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[y : y + height, x : x + width] = 1
    columns = mask.T.reshape(-1)
    ends = [*(np.flatnonzero(np.diff(columns)) + 1).tolist(), columns.size]
    runs = [0] * int(columns[0]) + np.diff([0, *ends]).tolist()  # the first is of zeros
    return rng.choice([None, [], [polygon], {"size": [SIZE[1], SIZE[0]], "counts": runs}])


DEGENERATE = ([[]], [1, 2, 3, 4], [[1, 2, 3, 4]], {"size": None, "counts": None}, [["x"] * 6])


def made_up_coco(root: Path, seed: int) -> tuple[Path, dict[str, str], int]:
    """The file; the category of each picture that is there; how many images it lists."""
    rng = Random(seed)
    style, first = rng.choice(["number", "text", "mixed"]), rng.choice([0, 1, 70])

    def key(number: int) -> object:
        is_text = style == "text" or (style == "mixed" and rng.random() < 0.5)
        return str(number) if is_text else number

    images: list[dict] = []
    annotations: list[dict] = []
    truth: dict[str, str] = {}
    for number in range(rng.randint(8, 14)):
        name, orientation = rng.choice(NAMES), rng.choice([1, 1, 1, 3, 6, 8])
        file = (
            rng.choice(["", "a/", "b/"])
            + f"{rng.choice(STEMS)}{number // 2}"
            + rng.choice([".jpg", ".JPG", ".jfif", ".jpeg"])
        )
        if any(file.casefold() == other["on disk"].casefold() for other in images):
            continue
        box = (rng.randint(0, 20), rng.randint(0, 12), rng.randint(15, 35), rng.randint(12, 25))
        oddity = rng.random()
        width, height = SIZE
        if orientation >= 5 and rng.random() < 0.5:  # told as it is seen
            turn = Image.Transpose.ROTATE_270 if orientation == 6 else Image.Transpose.ROTATE_90
            mask = Image.new("L", SIZE)
            mask.paste(255, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
            x0, y0, x1, y1 = mask.transpose(turn).getbbox()
            box, (width, height) = (x0, y0, x1 - x0, y1 - y0), (height, width)
            outline = None
            content = painted_seen(box, name, orientation, number)
        else:
            outline = outline_of(rng, box)
            content = painted(box, name, orientation, number)
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        if oddity > 0.05:
            (root / file).write_bytes(content if oddity > 0.1 else content[:300])
            truth[file] = name
        sizes = {"width": width, "height": height}
        if 0.1 < oddity < 0.2:
            sizes = rng.choice([{"width": 55, "height": 55}, {"width": None, "height": 40}, {}])
        written = spelled(rng, file).replace("/", rng.choice("/\\"))
        written = rng.choice(["", "", "images/", "C:\\mine\\"]) + written
        images.append({"id": key(first + number), "file_name": written, "on disk": file} | sizes)
        things = [(name, list(box), outline)] if oddity < 0.9 else []
        other = rng.choice([one for one in NAMES if one != name])
        if rng.random() < 0.3:  # would be told wrong if it were used
            things.append((other, [0, 0, 50, 38], rng.choice(DEGENERATE)))
        if rng.random() < 0.1:
            things.append((other, rng.choice([[0, 0, 0, 9], [90, 90, 5, 5]]), None))
        for one, its_box, segmentation in things:
            annotations.append(
                {
                    "id": len(annotations) * rng.choice([0, 1]),
                    "image_id": key(first + number),
                    "category_id": key(NAMES.index(one)),
                    "bbox": its_box,
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": key(number), "name": name} for number, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = root / "instances_train.json"
    file.write_bytes(json.dumps(content).encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"])))
    return file, truth, len(images)


def painted_seen(box: tuple[int, int, int, int], name: str, orientation: int, mark: int) -> bytes:
    """As `painted`, the box as the turned picture is seen."""
    seen = Image.new("L", (SIZE[1], SIZE[0]))
    seen.paste(255, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    back = Image.Transpose.ROTATE_90 if orientation == 6 else Image.Transpose.ROTATE_270
    x0, y0, x1, y1 = seen.transpose(back).getbbox()
    return painted((x0, y0, x1 - x0, y1 - y0), name, orientation, mark)


def counted(report: coco.ConversionReport) -> int:
    """Images that the report says were left out."""
    return (
        report.num_without_picture
        + report.num_without_name
        + report.num_without_labels
        + report.num_without_caption
        + len(report.refused)
        + sum(" has no width and height there" in one for one in report.labels.unusable)
    )


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_image_of_a_coco_file_is_told_of_as_its_pixels_show_or_left_out_by_name(
    tmp_path: Path, seeds: range
) -> None:
    num_told = 0
    for seed in seeds:
        root = tmp_path / str(seed)
        file, truth, num_images = made_up_coco(root, seed)
        report = coco.write_simulated(root / "to", [file], root)
        narratives = list(read_jsonl(root / "to/narratives.jsonl"))
        regions = (root / "to/regions.jsonl").read_text().splitlines()
        assert len({one.image_id for one in narratives}) == len(narratives), seed
        assert len(narratives) + counted(report) == num_images, (seed, report)
        for sentence in report.refused:
            assert re.search(r"\.(jpe?g|jfif)\b", sentence, re.IGNORECASE), (seed, sentence)
        for line in map(json.loads, regions):
            picture = find_picture(root, line["dataset_id"], line["image_id"])
            assert picture is not None
            name = truth[picture.relative_to(root).as_posix()]
            phrase = line["caption"][line["start"] : line["end"]]
            assert any(word in phrase for noun in spoken(name) for word in (noun, plural(noun)))
            pixels = decode_image(picture)
            height, width = pixels.shape[:2]
            x0, y0, x1, y1 = (
                round(side * length)
                for side, length in zip(line["box"], (width, height) * 2, strict=True)
            )
            inside = pixels[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]
            assert color_of(inside) == COLOR_OF[name], (seed, picture.name)
            num_told += 1
    assert num_told > 3 * len(seeds)


@pytest.mark.parametrize("seeds", SEEDS)
def test_captions_are_told_of_their_own_picture_or_it_is_left_out_by_name(
    tmp_path: Path, seeds: range
) -> None:
    for seed in seeds:
        root, rng = tmp_path / str(seed), Random(seed)
        file, truth, num_images = made_up_coco(root, seed)
        content = json.loads(file.read_text(encoding=encoding_of(file)))
        content["annotations"] = [
            {"image_id": image["id"], "caption": f"it is {truth.get(image['on disk'], 'gone')} {k}"}
            for image in content["images"]
            for k in range(rng.choice([0, 1, 2]))
        ]
        captions = root / "captions_train.json"
        captions.write_text(json.dumps(content))
        report = coco.write_captions(root / "captions", [captions], root)
        told = set()
        for one in read_jsonl(root / "captions/narratives.jsonl"):
            picture = find_picture(root, one.dataset_id, one.image_id)
            assert picture is not None
            name = truth[picture.relative_to(root).as_posix()]
            assert one.caption.startswith(f"it is {name}"), (seed, one)
            told.add(one.image_id)
        assert len(told) + counted(report) == num_images, (seed, report)

        # spoken beside the labels, whose file may write the same paths otherwise
        for image in content["images"]:
            image["file_name"] = image["on disk"]
        captions.write_text(json.dumps(content))
        report = coco.write_simulated(root / "both", [file], root, [captions])
        of_labels = coco.write_simulated(root / "labels", [file], root)
        spoken_ids = {
            one.image_id
            for one in read_jsonl(root / "both/narratives.jsonl")
            if one.caption.startswith("it is")
        }
        assert report.num_narratives > of_labels.num_narratives or not spoken_ids
        for one in read_jsonl(root / "both/narratives.jsonl"):
            if one.caption.startswith("it is"):
                picture = find_picture(root, one.dataset_id, one.image_id)
                assert picture is not None
                assert truth[picture.relative_to(root).as_posix()] in one.caption


def encoding_of(file: Path) -> str:
    return "utf-16" if file.read_bytes()[:2] == b"\xff\xfe" else "utf-8-sig"


def test_two_files_of_captions_are_both_spoken_and_what_no_labels_name_is_counted(
    tmp_path: Path,
) -> None:
    for name, color in (("x.jpg", "dog"), ("y.jpg", "cat")):
        (tmp_path / name).write_bytes(painted((10, 10, 30, 20), color, 1, 0))
    image = {"id": 5, "file_name": "images\\x.jpg", "width": 60, "height": 40}
    thing = {"image_id": 5, "category_id": 0, "bbox": [10, 10, 30, 20]}
    categories = [{"id": 0, "name": "dog"}]
    labels = {"images": [image], "annotations": [thing], "categories": categories}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    for number, caption in enumerate(("a dog here", "the dog there")):
        content = {
            "images": [{"id": 1, "file_name": "x.jpg"}, {"id": 2, "file_name": "y.jpg"}],
            "annotations": [{"image_id": 1, "caption": caption}, {"image_id": 2, "caption": "y"}],
        }
        (tmp_path / f"captions{number}.json").write_text(json.dumps(content))
    captions = [tmp_path / f"captions{number}.json" for number in range(2)]
    report = coco.write_simulated(tmp_path / "to", [tmp_path / "labels.json"], tmp_path, captions)
    told = {one.caption for one in read_jsonl(tmp_path / "to/narratives.jsonl")}
    assert {"a dog here", "the dog there"} <= told and report.num_narratives == 3
    assert "2 images with captions that no labels name" in report.left_out(tmp_path)


# --- Pascal VOC's XML


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_xml_is_told_of_as_its_pixels_show_or_left_out_by_name(
    tmp_path: Path, seeds: range
) -> None:
    num_told = 0
    for seed in seeds:
        rng, root = Random(seed), tmp_path / str(seed)
        for folder in ("Annotations", "JPEGImages"):
            (root / folder).mkdir(parents=True)
        truth = {}
        for number in range(8):
            stem = spelled(rng, f"{rng.choice(STEMS[:-2])}{number}")
            name, box = rng.choice(NAMES), (5 + number, 6, 30, 25)
            suffix = rng.choice([".jpg", ".JPG", ".jfif"])
            if rng.random() > 0.1:
                content = painted(box, name, 1, number)
                (root / "JPEGImages" / f"{spelled(rng, stem)}{suffix}").write_bytes(content)
            x, y, width, height = box
            boxes = [(name, (x + 1, y + 1, x + width, y + height))]
            if rng.random() < 0.3:
                boxes.append((NAMES[NAMES.index(name) - 1], (9, 9, 8, 8)))
            objects = "".join(
                f"<object><name>{one}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
                f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
                for one, (x0, y0, x1, y1) in boxes
            )
            size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
            (root / f"Annotations/{stem}.xml").write_text(
                f"<annotation>{size}{objects}</annotation>", encoding="utf-8"
            )
            (root / f"Annotations/._{stem[:20]}.xml").write_bytes(b"\0\5\x16\7")
            truth[stem] = name
        images = root / "JPEGImages"
        report = coco.write_simulated(root / "to", [root / "Annotations"], images)
        lines = (root / "to/regions.jsonl").read_text().splitlines()
        told = {one.image_id for one in read_jsonl(root / "to/narratives.jsonl")}
        assert len(told) + counted(report) == len(truth), (seed, report)
        for line in map(json.loads, lines):
            picture = find_picture(images, line["dataset_id"], line["image_id"])
            assert picture is not None
            pixels = decode_image(picture)
            x0, y0, x1, y1 = (
                round(side * length) for side, length in zip(line["box"], SIZE * 2, strict=True)
            )
            name = truth[line["image_id"]]
            assert color_of(pixels[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1]) == COLOR_OF[name], seed
            num_told += 1
    assert num_told > 3 * len(seeds)


# --- narratives


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_narrative_is_imported_with_its_own_picture_or_left_out_by_name(
    tmp_path: Path, seeds: range
) -> None:
    store = Store(f"sqlite:///{tmp_path / 'studio.db'}", tmp_path / "images")
    for seed in seeds:
        rng, root = Random(seed), tmp_path / str(seed)
        root.mkdir()
        lines, colors, spoiled = [], {}, set()
        for number in range(rng.randint(8, 14)):
            suffix = rng.choice([suffix for suffix in FORMATS if suffix])
            stem, color = f"{rng.choice(STEMS)}{number // 2}", rng.choice(list(COLORS))
            folder = rng.choice(["", "", "a/", "b/"])
            image_id = spelled(rng, folder.replace("/", "%2F") + stem)
            if image_id in colors:
                continue
            colors[image_id] = color
            (root / folder).mkdir(exist_ok=True)
            content = encoded(color, FORMATS[suffix], mark=number)
            fate = rng.random()
            if fate < 0.9:
                whole = content if fate > 0.1 else content[:20]
                (root / f"{folder}{spelled(rng, stem)}{suffix}").write_bytes(whole)
            if rng.random() < 0.2:
                (root / f"{folder}._{stem[:60]}{suffix}").write_bytes(b"hidden")
            record = {
                "dataset_id": "album",
                "image_id": image_id,
                "annotator_id": 1,
                "caption": f"it is {color} {number}",
            }
            if rng.random() < 0.1:
                record.pop("caption")
                spoiled.add(image_id)
            lines.append(json.dumps(record, ensure_ascii=rng.random() < 0.5))
        text = rng.choice(["\n", "\r\n", "\n\n"]).join(lines)
        file = root / "narratives.jsonl"
        file.write_bytes(text.encode(rng.choice(["utf-8", "utf-8-sig"])))
        report = import_file(store, file, root, f"collection {seed}")

        (collection,) = [one for one in store.collections() if one.name == f"collection {seed}"]
        rows = imported(store, collection.id)
        assert len(rows) == report.num_imported
        for image_id, (caption, content) in rows.items():
            assert caption.split()[2] == colors[image_id] == color_of(decode_image(content)), seed
        num_named = len(report.problems) + report.num_missing_images
        assert len(rows) + num_named == len(lines), (seed, report)
        assert sum(report.reasons.values()) == num_named
    store.close()


def imported(store: Store, collection_id: int) -> dict[str, tuple[str, bytes]]:
    """Caption and bytes of the picture, by image id."""
    return {
        row.image_id: (narrative.caption, row.path.read_bytes())
        for row, narrative in store.each_narrative(collection_id)
    }
