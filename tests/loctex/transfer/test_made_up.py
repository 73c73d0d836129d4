"""Labels of made-up folders and files: each picture counts under its own class, or is named."""

import csv
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

import datasets
import pytest

from loctex.records.images import decode_image
from loctex.transfer import label_files
from tests.loctex.made_up import (
    CLASSES,
    COLORS,
    FORMATS,
    STEMS,
    class_folders,
    class_name,
    color_of,
    encoded,
    spelled,
)

SEEDS = [range(20), pytest.param(range(20, 220), marks=pytest.mark.slow)]


def num_named(left_out: dict[str, str]) -> int:
    """How many things the sentences say were not read."""
    return sum(int(re.search(r"\d+", why)[0]) for why in left_out.values())


def shown(tables) -> dict[str, set[str]]:
    """Image -> classes, of the tables to train and to test on; none is in both."""
    classes: dict[str, set[str]] = {}
    for labels in tables:
        for image, values in zip(labels.images, labels.values, strict=True):
            assert image not in classes
            classes[image] = {
                name for name, value in zip(labels.classes, values, strict=True) if value > 0
            }
    return classes


def pictures(tables) -> dict[str, object]:
    return {
        image: picture
        for labels in tables
        for image, picture in zip(labels.images, labels.pictures, strict=True)
    }


def color_seen(picture) -> str | None:
    """None where it cannot be read, which whoever encodes it says by name."""
    try:
        return color_of(decode_image(picture.read_bytes()))
    except (ValueError, OSError):
        return None


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_file_of_class_folders_counts_under_its_class_or_is_named(
    tmp_path: Path, seeds: range
) -> None:
    for seed in seeds:
        made = class_folders(tmp_path / str(seed) / "labels", seed)
        left_out: dict[str, str] = {}
        tables = label_files.read(made.root, left_out=left_out)
        classes = shown(tables)
        assert classes == {
            name: {one} for name, one in made.class_of.items() if name not in made.idle
        }, seed
        assert num_named(left_out) == len(made.uncounted) + len(made.idle), (seed, left_out)
        for name, picture in pictures(tables).items():
            expected = made.color_of_class[made.class_of[name]]
            assert color_seen(picture) == (None if name in made.broken else expected), (seed, name)


# --- CSV


def written(rng: Random, name: str, folder: Path) -> str:
    """A path as some program writes it."""
    way = rng.randrange(8)
    if way == 0:
        return "./" + name
    if way == 1:
        return name.replace("/", "\\")
    if way == 2:
        return spelled(rng, name)
    if way == 3:
        return name.upper()
    if way == 4:
        return str(folder / name)
    return name


def made_up_csv(root: Path, seed: int) -> tuple[Path, list[dict], int]:
    """The file, its lines that name a picture, and how many of them have no label or split."""
    rng = Random(seed)
    classes = rng.sample(CLASSES, 3)
    colors = dict(zip(classes, rng.sample(list(COLORS), 3), strict=True))
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    if encoding == "cp1252":
        classes = [name for name in classes if is_western(name)]
    lines, names = [], set()
    splits = rng.choice([None, ("train", "test"), ("Training", "dev"), ("train", "val", "test")])
    for serial in range(rng.randint(8, 20) if classes else 0):
        stem = rng.choice(STEMS)
        suffix = rng.choice([suffix for suffix in FORMATS if suffix])
        name = rng.choice(["", "a/", "b/", "A b/"]) + spelled(rng, f"{stem}{serial}") + suffix
        if encoding == "cp1252" and not is_western(name):
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shown_class = rng.choice(classes)
        is_there = rng.random() > 0.05
        if is_there:
            content = encoded(colors[shown_class], FORMATS[suffix], mark=serial)
            (root / name).write_bytes(content)
        split = rng.choice(splits) if splits else ""
        names.add(name)
        lines.append(
            {
                "path": written(rng, name, root),
                "class": shown_class,
                "split": split,
                "color": colors[shown_class] if is_there else None,
                "others": [],
            }
        )
    oddity = rng.randrange(6)
    if oddity == 0 and len(lines) > 4 and splits:
        lines[2]["split"] = ""  # one line says nothing
    elif oddity == 1 and splits:
        lines[-1]["split"] = "unsupervised"
    elif oddity == 2 and len(lines) > 2:
        lines[1]["others"] = [classes[0]]

    text = io.StringIO()
    delimiter = rng.choice(",;\t|")
    quoting = rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
    writer = csv.writer(
        text, delimiter=delimiter, quoting=quoting, lineterminator=rng.choice(["\n", "\r\n"])
    )
    has_index = rng.random() < 0.4
    header = [rng.choice(["image", "file_name", "Path"]), rng.choice(["label", "Class"])]
    header += ["split"] if splits else []
    writer.writerow(([""] if has_index else []) + header)
    for number, line in enumerate(lines):
        cells = [line["path"], ";".join([line["class"], *line["others"]])]
        cells += [line["split"]] if splits else []
        writer.writerow(([number] if has_index else []) + cells)
        if rng.random() < 0.1:
            writer.writerow([""] * (len(cells) + has_index))
    file = root / "labels.csv"
    root.mkdir(parents=True, exist_ok=True)
    is_sure = encoding != "cp1252" or is_western(text.getvalue())
    file.write_bytes(text.getvalue().encode(encoding if is_sure else "utf-8"))
    return file, lines


def is_western(text: str) -> bool:
    try:
        return bool(text.encode("cp1252"))
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_line_of_a_csv_counts_under_its_classes_or_is_named(
    tmp_path: Path, seeds: range
) -> None:
    num_read = 0
    for seed in seeds:
        file, lines = made_up_csv(tmp_path / str(seed), seed)
        left_out: dict[str, str] = {}
        try:
            tables = label_files.read(file, left_out=left_out)
        except ValueError as error:
            assert str(file) in str(error), seed
            continue
        num_read += 1
        classes, files = shown(tables), pictures(tables)
        for line in lines:
            name = line["path"].strip()
            if name not in classes:
                continue
            expected = {class_name(one) for one in [line["class"], *line["others"]]}
            assert classes[name] == expected, (seed, name)
            assert color_seen(files[name]) in (line["color"], None), (seed, name)
            assert (color_seen(files[name]) is None) == (not files[name].is_file()), (seed, name)
        assert set(classes) <= {line["path"].strip() for line in lines}, seed
        assert len(classes) + num_named(left_out) == len(lines), (seed, left_out)
    assert num_read > 0.6 * len(seeds)


# --- COCO, saved datasets, Pascal VOC


def as_written_id(rng: Random, number: int, style: str) -> object:
    """An id as a number, as text, or now so and now so."""
    return str(number) if style == "text" or (style == "mixed" and rng.random() < 0.5) else number


def made_up_coco(root: Path, seed: int) -> tuple[Path, dict[str, tuple[str, set[str]]], str]:
    """The file, of each picture its color and classes, and the reason to refuse it, or ""."""
    rng = Random(seed)
    classes = rng.sample(CLASSES, 3)
    style, first = rng.choice(["number", "text", "mixed"]), rng.choice([0, 1, 70])
    images, annotations, truth = [], [], {}
    for number in range(rng.randint(10, 16)):
        color = rng.choice(list(COLORS))
        suffix = rng.choice([suffix for suffix in FORMATS if suffix])
        name = rng.choice(["", "a/", "b/"]) + f"{rng.choice(STEMS)}{number // 2}{suffix}"
        if name in truth or (root / name).exists():
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(color, FORMATS[suffix], mark=number))
        written_name = spelled(rng, name).replace("/", rng.choice("/\\"))
        key = as_written_id(rng, first + number, style)
        images.append({"id": key, "file_name": written_name, "width": 12, "height": 10})
        its_classes = set() if number % 5 == 4 else {rng.choice(classes)}
        for one in its_classes:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": as_written_id(rng, first + number, style),
                    "category_id": as_written_id(rng, classes.index(one), style),
                    "bbox": rng.choice([[0, 0, 5, 5], [0, 0, 0, 0]]),
                    "segmentation": rng.choice([[], [[]], None, [[1, 2, 3, 4]]]),
                }
            )
        truth[written_name] = (color, {class_name(one) for one in its_classes})

    oddity, reason = seed % 6, ""
    if oddity == 0:
        images.append(dict(images[0]) | {"file_name": "other.png"})
        reason = "twice"
    elif oddity == 1:
        annotations.append({"id": 99, "image_id": 12_345, "category_id": 0, "bbox": [0, 0, 1, 1]})
        reason = "12345, which is not there"
    elif oddity == 2:
        images.append({"id": 999, "file_name": "./" + images[0]["file_name"]})
        reason = "twice"
    categories = [
        {"id": as_written_id(rng, number, style), "name": spelled(rng, name)}
        for number, name in enumerate(classes)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = root / "labels.json"
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5)
    file.write_bytes(text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"])))
    return file, truth, reason


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_image_of_a_coco_file_counts_with_its_classes_or_the_file_is_refused_by_name(
    tmp_path: Path, seeds: range
) -> None:
    refusals = Counter[str]()
    for seed in seeds:
        file, truth, reason = made_up_coco(tmp_path / str(seed), seed)
        refusals[reason] += 1
        if reason:
            with pytest.raises(ValueError, match=re.escape(reason)) as error:
                label_files.read(file)
            assert str(file) in str(error.value)
            continue
        tables = label_files.read(file)
        assert shown(tables) == {name: classes for name, (_, classes) in truth.items()}, seed
        for name, picture in pictures(tables).items():
            assert color_seen(picture) == truth[name][0], (seed, name)
    assert len(refusals) == 3 and refusals[""] > 0.3 * len(seeds)


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_row_of_a_saved_dataset_counts_with_its_label_or_is_named(
    tmp_path: Path, seeds: range
) -> None:
    refusals = 0
    for seed in seeds:
        rng, folder = Random(seed), tmp_path / str(seed)
        classes = rng.sample(CLASSES, 3)
        form = rng.choice(["class", "text", "number", "many"])
        color_of_class = dict(zip(classes, rng.sample(list(COLORS), 3), strict=True))
        names = rng.choice(
            [["train", "test"], ["Train", "dev"], ["train"], ["train", "validation"]]
        )
        names += rng.choice([[], [], ["unsupervised"], ["val"], ["extra"], ["half"]])
        names = list(dict.fromkeys(names))
        splits, truth, idle = {}, {}, 0
        for name in names:
            rows = []
            for serial in range(rng.randint(6, 12)):
                one = rng.choice(classes)
                content = encoded(color_of_class[one], mark=serial)
                labels = {"class": classes.index(one), "number": classes.index(one)}
                label = labels.get(form, [one] if form == "many" else one)
                rows.append({"image": {"bytes": content, "path": None}, "label": label})
                shown_name = str(classes.index(one)) if form == "number" else class_name(one)
                truth[f"{name}/{serial:07d}"] = (shown_name, color_of_class[one])
            idle += len(rows) * (name == "unsupervised" or (name == "val" and "test" in names))
            kinds = {"class": datasets.ClassLabel(names=classes), "number": datasets.Value("int64")}
            text = datasets.Value("string")
            kind = kinds.get(form, datasets.List(text) if form == "many" else text)
            features = datasets.Features({"image": datasets.Image(), "label": kind})
            splits[name] = datasets.Dataset.from_list(rows, features=features)
        datasets.DatasetDict(splits).save_to_disk(str(folder))

        left_out: dict[str, str] = {}
        if {"extra", "half"} & set(names):
            refusals += 1
            with pytest.raises(ValueError, match="split '(extra|half)' is neither") as error:
                label_files.read(folder, left_out=left_out)
            assert str(folder) in str(error.value)
            continue
        tables = label_files.read(folder, left_out=left_out)
        classes_of, files = shown(tables), pictures(tables)
        for name, picture in files.items():
            assert (classes_of[name], color_seen(picture)) == ({truth[name][0]}, truth[name][1])
        assert len(files) + num_named(left_out) == len(truth), (seed, left_out)
        assert num_named(left_out) == idle
    assert refusals < 0.6 * len(seeds)


@pytest.mark.parametrize(
    ("labels", "kind", "sentence"),
    [
        ([[0, 1], [1, 0]], datasets.List(datasets.Value("int64")), "label holds 2 zeros and ones"),
        (["cat", ""], datasets.Value("string"), "row/0000001 has no label; remove it"),
        ([1.0, float("nan")], datasets.Value("float64"), "row/0000001 has no label; remove it"),
    ],
)
def test_what_would_be_a_class_of_its_own_by_mistake_is_refused(tmp_path, labels, kind, sentence):
    rows = [
        {"image": {"bytes": encoded("red", mark=k), "path": None}, "label": one}
        for k, one in enumerate(labels)
    ]
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ValueError, match=sentence) as error:
        label_files.read(tmp_path / "saved")
    assert str(tmp_path / "saved") in str(error.value)


def devkit(root: Path, seed: int) -> tuple[dict[str, set[str]], dict[str, str], int]:
    """Folders as Pascal VOC's: classes of each image of a used set, its color, unused images."""
    rng = Random(seed)
    classes = rng.sample(CLASSES, 3)
    sets = rng.choice(
        [("trainval", "test"), ("train", "val"), ("train", "test"), ("train", "val", "test")]
    )
    truth, colors, num_unused = {}, {}, rng.choice([0, 0, 3])
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name in sets:
        ids = [f"{rng.choice(STEMS[:4]).replace(' ', '_')}{name}{k}" for k in range(6)]
        for serial, image in enumerate(ids):
            shown_class, color = rng.choice(classes), rng.choice(list(COLORS))
            (root / f"JPEGImages/{image}.jpg").write_bytes(encoded(color, "JPEG", mark=serial))
            xml = f"<annotation><object><name> {escape(shown_class)} </name></object></annotation>"
            content = xml.encode(rng.choice(["utf-8", "utf-8-sig"]))
            (root / f"Annotations/{image}.xml").write_bytes(content)
            if name == "val" and "test" in sets:
                num_unused += 1
            else:
                truth[image], colors[image] = {shown_class.strip()}, color
        text = rng.choice(["\n", "\r\n"]).join(ids)
        (root / f"ImageSets/Main/{name}.txt").write_bytes(text.encode())
    for k in range(num_unused - 6 * (len(sets) == 3)):
        (root / f"JPEGImages/unused{k}.jpg").write_bytes(encoded("red", "JPEG", mark=k))
        (root / f"JPEGImages/._unused{k}.jpg").write_bytes(b"hidden")
    return truth, colors, num_unused


@pytest.mark.parametrize("seeds", SEEDS)
def test_every_image_of_a_devkit_counts_with_its_classes_or_is_named(
    tmp_path: Path, seeds: range
) -> None:
    for seed in seeds:
        root = tmp_path / str(seed)
        truth, colors, num_unused = devkit(root, seed)
        left_out: dict[str, str] = {}
        tables = label_files.read(root, left_out=left_out)
        assert shown(tables) == truth, seed
        assert num_named(left_out) == num_unused, (seed, left_out)
        for name, picture in pictures(tables).items():
            assert color_seen(picture) == colors[name], (seed, name)


def test_a_devkit_without_its_sets_is_not_taken_for_classes(tmp_path: Path) -> None:
    devkit(tmp_path, 0)
    shutil.rmtree(tmp_path / "ImageSets")
    with pytest.raises(ValueError, match="is no VOCdevkit: it has no VOC2007/ImageSets/Main"):
        label_files.read(tmp_path)


def test_a_line_with_more_columns_than_the_first_one_is_refused_by_number(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\na.png,cat\nb, c.png,dog\n")
    with pytest.raises(ValueError, match="labels.csv:3: has more columns than the first line"):
        label_files.read(tmp_path / "labels.csv")


def test_what_two_sources_left_out_is_said_of_each(tmp_path: Path) -> None:
    for source, count in (("one", 3), ("two", 1)):
        for name in ("cat", "dog"):
            for k in range(3):
                (tmp_path / source / name).mkdir(parents=True, exist_ok=True)
                content = encoded("red", mark=k)
                (tmp_path / source / name / f"{k}.png").write_bytes(content)
        for k in range(count):
            (tmp_path / source / "cat" / f"{k}.txt").write_text("notes")
    left_out: dict[str, str] = {}
    label_files.read(tmp_path / "one", test=tmp_path / "two", left_out=left_out)
    assert left_out == {"files .txt": "3 not read", "to test on: files .txt": "1 not read"}
