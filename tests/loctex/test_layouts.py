"""Labels from elsewhere, as tools unzip them: each layout is named and read right, or refused."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.coco import main as simulate
from data_tools.exchange.sources import Files
from loctex.records.annotations import UnusedLabels
from loctex.records.layouts.recognition import Layout, count, recognise
from loctex.records.narrative import read_jsonl
from loctex.transfer import label_files

NAMES = ("cat", "traffic light")
WIDTH, HEIGHT = 80, 40


@dataclass(frozen=True)
class Truth:
    """One picture: its split, and its boxes (class, x0, y0, x1, y1) in pixels."""

    name: str
    split: str
    boxes: tuple[tuple[int, int, int, int, int], ...]


TRUTH = (
    Truth("a.jpg", "train", ((0, 8, 4, 40, 20), (1, 40, 0, 80, 40))),
    Truth("b 1.jpg", "train", ((0, 0, 0, 20, 20),)),
    Truth("c.png", "train", ()),
    Truth("d.jpg", "val", ((1, 16, 8, 32, 16), (1, 40, 8, 48, 12), (0, 60, 20, 76, 36))),
)
FOLDER_OF = {"train": "train", "val": "valid"}


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 60)).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def yolo_lines(truth: Truth) -> str:
    lines = []
    for key, x0, y0, x1, y1 in truth.boxes:
        middle = (x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT
        lines.append(f"{key} {middle[0]} {middle[1]} {(x1 - x0) / WIDTH} {(y1 - y0) / HEIGHT}")
    return "\n".join(lines)


def stem(truth: Truth) -> str:
    return Path(truth.name).stem


# --- the layouts, as each tool unzips them


def roboflow_yolo(root: Path) -> None:
    for truth in TRUTH:
        folder = root / FOLDER_OF[truth.split]
        write_picture(folder / "images" / truth.name)
        write(folder / "labels" / f"{stem(truth)}.txt", yolo_lines(truth))
    write(root / "README.roboflow.txt", "made by Roboflow\n")
    write(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['cat', 'traffic light']\n\nroboflow:\n  workspace: me\n",
    )


def ultralytics_yolo(root: Path) -> None:
    for truth in TRUTH:
        write_picture(root / "images" / truth.split / truth.name)
        if truth.boxes:
            write(root / "labels" / truth.split / f"{stem(truth)}.txt", yolo_lines(truth))
    write(
        root / "pets.yaml",
        "path: ../datasets/pets\ntrain: images/train\nval: images/val\n"
        "names:\n  0: cat\n  1: traffic light\n",
    )


def cvat_ultralytics(root: Path) -> None:
    """CVAT's "Ultralytics YOLO Detection 1.0": lists of pictures."""
    for truth in TRUTH:
        write_picture(root / "images" / "default" / truth.name)
        write(root / "labels" / "default" / f"{stem(truth)}.txt", yolo_lines(truth))
    for split in ("train", "val"):
        names = [f"data/images/default/{truth.name}" for truth in TRUTH if truth.split == split]
        write(root / f"{split}.txt", "\n".join(names) + "\n")
    write(
        root / "data.yaml",
        "names:\n  0: cat\n  1: traffic light\npath: .\ntrain: train.txt\nval: val.txt\n",
    )


def cvat_yolo(root: Path) -> None:
    """CVAT's "YOLO 1.1", Darknet's own."""
    for truth in TRUTH:
        folder = root / {"train": "obj_train_data", "val": "obj_valid_data"}[truth.split]
        write_picture(folder / truth.name)
        write(folder / f"{stem(truth)}.txt", yolo_lines(truth))
    write(root / "obj.names", "cat\ntraffic light\n")
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(root / "train.txt", "data/obj_train_data/a.jpg\n")


def label_studio_yolo(root: Path) -> None:
    for truth in TRUTH:
        write_picture(root / "images" / f"1a2b3c4d-{truth.name}")
        write(root / "labels" / f"1a2b3c4d-{stem(truth)}.txt", yolo_lines(truth))
    write(root / "classes.txt", "cat\ntraffic light\n")
    write(root / "notes.json", json.dumps({"categories": [{"id": 0, "name": "cat"}], "info": {}}))


def coco_of(truths: tuple[Truth, ...], first_category: int = 1) -> dict:
    boxes = [(k, box) for k, truth in enumerate(truths) for box in truth.boxes]
    return {
        "info": {},
        "licenses": [],
        "categories": [
            {"id": first_category + k, "name": name, "supercategory": ""}
            for k, name in enumerate(NAMES)
        ],
        "images": [
            {"id": k, "file_name": truth.name, "width": WIDTH, "height": HEIGHT}
            for k, truth in enumerate(truths)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": k,
                "category_id": first_category + key,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "segmentation": [],
                "iscrowd": 0,
            }
            for number, (k, (key, x0, y0, x1, y1)) in enumerate(boxes)
        ],
    }


def cvat_coco(root: Path) -> None:
    for split in ("train", "val"):
        truths = tuple(truth for truth in TRUTH if truth.split == split)
        for truth in truths:
            write_picture(root / "images" / split / truth.name)
        write(root / f"annotations/instances_{split}.json", json.dumps(coco_of(truths)))


def roboflow_coco(root: Path) -> None:
    for split, folder in FOLDER_OF.items():
        truths = tuple(truth for truth in TRUTH if truth.split == split)
        for truth in truths:
            write_picture(root / folder / truth.name)
        write(root / folder / "_annotations.coco.json", json.dumps(coco_of(truths)))
    write(root / "README.dataset.txt", "pets\n")


def official_coco(root: Path) -> None:
    """With captions, and with the files of key points, which show the same pictures again."""
    for split in ("train", "val"):
        truths = tuple(truth for truth in TRUTH if truth.split == split)
        content = coco_of(truths)
        for truth in truths:
            write_picture(root / f"{split}2017" / truth.name)
        for name in ("instances", "person_keypoints"):
            write(root / f"annotations/{name}_{split}2017.json", json.dumps(content))
        texts = [{"id": k, "image_id": k, "caption": "a cat"} for k in range(len(truths))]
        captions = {"images": content["images"], "annotations": texts}
        write(root / f"annotations/captions_{split}2017.json", json.dumps(captions))


def roboflow_boxes(root: Path) -> None:
    for split, folder in FOLDER_OF.items():
        lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for truth in TRUTH:
            if truth.split == split:
                write_picture(root / folder / truth.name)
                for key, *corners in truth.boxes:
                    cells = [truth.name, WIDTH, HEIGHT, NAMES[key], *corners]
                    lines.append(",".join(map(str, cells)))
        write(root / folder / "_annotations.csv", "\n".join(lines) + "\n")


def voc_of(truth: Truth) -> str:
    things = "".join(
        f"<object><name>{NAMES[key]}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for key, x0, y0, x1, y1 in truth.boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>{truth.name}</filename>{size}{things}</annotation>"


def voc(root: Path) -> None:
    for truth in TRUTH:
        write_picture(root / "JPEGImages" / truth.name)
        write(root / "Annotations" / f"{stem(truth)}.xml", voc_of(truth))
    for split in ("train", "val"):
        names = [stem(truth) for truth in TRUTH if truth.split == split and " " not in truth.name]
        write(root / f"ImageSets/Main/{split}.txt", "\n".join(names) + "\n")


def roboflow_voc(root: Path) -> None:
    for truth in TRUTH:
        write_picture(root / FOLDER_OF[truth.split] / truth.name)
        write(root / FOLDER_OF[truth.split] / f"{stem(truth)}.xml", voc_of(truth))


def studio_value(box: tuple[int, int, int, int, int]) -> dict:
    key, x0, y0, x1, y1 = box
    return {
        "x": 100 * x0 / WIDTH,
        "y": 100 * y0 / HEIGHT,
        "width": 100 * (x1 - x0) / WIDTH,
        "height": 100 * (y1 - y0) / HEIGHT,
        "rotation": 0,
        "rectanglelabels": [NAMES[key]],
    }


def label_studio_json(root: Path) -> None:
    sizes = {"original_width": WIDTH, "original_height": HEIGHT}
    tasks = []
    for number, truth in enumerate(TRUTH):
        write_picture(root / "images" / truth.name)
        results = [
            sizes
            | {"type": "rectanglelabels", "from_name": "label", "to_name": "image"}
            | {"value": studio_value(box)}
            for box in truth.boxes
        ]
        canceled = {"was_cancelled": True, "result": results + results}
        done = {"was_cancelled": False, "result": results}
        data = {"image": f"/data/upload/1/0123abcd-{truth.name}".replace(" ", "%20")}
        tasks.append({"id": number, "data": data, "annotations": [canceled, done]})
    tasks.append({"id": 9, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": []})
    write(root / "project-1-at-2026.json", json.dumps(tasks))


def studio_rows(root: Path) -> list[dict]:
    rows = []
    for number, truth in enumerate(TRUTH):
        write_picture(root / "images" / truth.name)
        values = [
            studio_value(box) | {"original_width": WIDTH, "original_height": HEIGHT}
            for box in truth.boxes
        ]
        rows.append(
            {
                "image": f"/data/local-files/?d=pets/{truth.name}",
                "id": number,
                "label": values,
                "annotator": 1,
                "annotation_id": number,
                "created_at": "2026-01-01",
                "lead_time": 3.5,
            }
        )
    return rows


def label_studio_min(root: Path) -> None:
    rows = [row for row in studio_rows(root) if row["label"]]
    write(root / "project-1.json", json.dumps(rows))


def label_studio_csv(root: Path) -> None:
    rows = [row for row in studio_rows(root) if row["label"]]
    with open(root / "project-1.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": json.dumps(row["label"])} for row in rows)


def imagefolder(root: Path) -> None:
    for split in ("train", "val"):
        lines = []
        for truth in TRUTH:
            if truth.split == split:
                write_picture(root / split / truth.name)
                boxes = [[x0, y0, x1 - x0, y1 - y0] for _, x0, y0, x1, y1 in truth.boxes]
                names = [NAMES[key] for key, *_ in truth.boxes]
                record = {"file_name": truth.name, "objects": {"bbox": boxes, "categories": names}}
                lines.append(json.dumps(record))
        write(root / split / "metadata.jsonl", "\n".join(lines) + "\n")


def open_images(root: Path) -> None:
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated"
    for split, name in (("train", "oidv6-train"), ("val", "validation")):
        lines = [header + ",IsGroupOf,IsDepiction,IsInside", "ffff,xclick,/m/0,1,0,1,0,1,0,0,0,0,0"]
        for truth in TRUTH:
            if truth.split == split:
                write_picture(root / name.removeprefix("oidv6-") / truth.name)
            for key, x0, y0, x1, y1 in truth.boxes if truth.split == split else ():
                sides = [x0 / WIDTH, x1 / WIDTH, y0 / HEIGHT, y1 / HEIGHT]
                cells = [stem(truth), "xclick", f"/m/{key}", 1, *sides, 0, 0, 0, 0, 0]
                lines.append(",".join(map(str, cells)))
        write(root / f"{name}-annotations-bbox.csv", "\n".join(lines) + "\n")
    write(root / "class-descriptions-boxable.csv", "/m/0,cat\n/m/1,traffic light\n")


LAYOUTS: dict[str, tuple[str, Callable[[Path], None], dict[str, int]]] = {
    # name of the kind, writer, what it cannot say: pictures without boxes, splits
    "Roboflow YOLO": ("YOLO", roboflow_yolo, {}),
    "Ultralytics YOLO": ("YOLO", ultralytics_yolo, {}),
    "CVAT Ultralytics YOLO": ("YOLO", cvat_ultralytics, {}),
    "CVAT YOLO 1.1": ("YOLO", cvat_yolo, {}),
    "Label Studio YOLO": ("YOLO", label_studio_yolo, {"splits": 0}),
    "CVAT COCO": ("COCO", cvat_coco, {}),
    "Roboflow COCO": ("COCO", roboflow_coco, {}),
    "COCO": ("COCO", official_coco, {"captions": 4}),
    "Roboflow CSV": ("Roboflow CSV", roboflow_boxes, {"pictures": 3}),
    "Pascal VOC": ("Pascal VOC", voc, {"splits": 3}),
    "Roboflow VOC": ("Pascal VOC", roboflow_voc, {}),
    "Label Studio JSON": ("Label Studio", label_studio_json, {"splits": 0}),
    "Label Studio JSON_MIN": ("Label Studio", label_studio_min, {"pictures": 3, "splits": 0}),
    "Label Studio CSV": ("Label Studio", label_studio_csv, {"pictures": 3, "splits": 0}),
    "imagefolder": ("imagefolder with metadata", imagefolder, {}),
    "Open Images": ("Open Images CSV", open_images, {"pictures": 3}),
}


def found(root: Path) -> Layout:
    layout = recognise(root)
    assert layout is not None
    return layout


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_named_and_every_box_of_it_read_where_it_lies(name, tmp_path):
    kind, writer, lacks = LAYOUTS[name]
    writer(tmp_path)
    contents = count(found(tmp_path))
    num_pictures = lacks.get("pictures", 4)
    assert (contents.kind, contents.num_pictures, contents.num_missing) == (kind, num_pictures, 0)
    assert contents.classes == {"cat": 3, "traffic light": 3} and contents.num_boxes == 6
    assert contents.num_captions == lacks.get("captions", 0)
    assert sum(contents.splits.values()) == lacks.get("splits", num_pictures)

    truth_of = {stem(truth): truth for truth in TRUTH}
    for picture in found(tmp_path).pictures():
        assert picture.file is not None and picture.file.is_file()
        truth = truth_of[picture.file.stem.removeprefix("1a2b3c4d-")]
        boxes = sorted((NAMES.index(thing.name), *thing.box) for thing in picture.instances)
        sides = np.array([1, WIDTH, HEIGHT, WIDTH, HEIGHT])
        expected = np.array(sorted(truth.boxes), float).reshape(-1, 5) / sides
        assert np.allclose(np.array(boxes).reshape(-1, 5), expected, rtol=0, atol=1e-6)
        if picture.split is not None:
            assert picture.split == truth.split
        assert picture.annotations("pets").width == WIDTH


def test_a_yolo_folder_is_never_one_class_of_the_name_images(tmp_path):
    roboflow_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(ValueError, match="nothing says what class 0 is called: put data.yaml"):
        count(found(tmp_path))
    write(tmp_path / "data.yaml", "train: a\nnames: [cat]\n")
    with pytest.raises(ValueError, match=r"a.txt:2: class 1 has no name; there are 1"):
        count(found(tmp_path))


def test_outlines_and_key_points_of_yolo(tmp_path):
    write_picture(tmp_path / "images/1.jpg")
    write(tmp_path / "labels/1.txt", "0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.5 0.5 0.2 0.2 0.9\n")
    write(tmp_path / "data.yaml", "names: [cat, dog]\ntrain: images\n")
    (picture,) = found(tmp_path).pictures()
    outline, box = picture.instances
    assert outline.box == pytest.approx((0.1, 0.1, 0.5, 0.5))
    assert list(outline.outline[0]) == pytest.approx([8, 4, 40, 4, 40, 20])
    assert box.outline is None and box.box == pytest.approx((0.4, 0.4, 0.6, 0.6))
    write(tmp_path / "data.yaml", "names: [cat]\ntrain: images\nkpt_shape: [2, 2]\n")
    write(tmp_path / "labels/1.txt", "0 0.5 0.5 0.2 0.2 0.1 0.1 0.2 0.2\n")
    (picture,) = found(tmp_path).pictures()
    (box,) = picture.instances
    assert box.outline is None and box.box == pytest.approx((0.4, 0.4, 0.6, 0.6))


def test_what_label_studio_draws_beside_boxes(tmp_path):
    write_picture(tmp_path / "a.jpg")
    place = {"original_width": WIDTH, "original_height": HEIGHT}
    values = [
        ("polygonlabels", {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["cat"]}),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["o"]}),
        ("choices", {"choices": ["indoor", "night"]}),
        ("textarea", {"text": ["a cat on a mat"]}),
        ("brushlabels", {"format": "rle", "rle": [0, 1], "brushlabels": ["cat"]}),
        ("choices", {"x": 1, "y": 1, "width": 2, "height": 2, "choices": ["blurred"]}),
    ]
    turned = {"x": 50, "y": 0, "width": 25, "height": 50, "rotation": 90, "rectanglelabels": ["r"]}
    results = [{"type": kind, "value": value} | place for kind, value in values]
    results.append({"type": "rectanglelabels", "value": turned} | place)
    task = {"data": {"img": "a.jpg"}, "annotations": [{"result": results}]}
    write(tmp_path / "tasks.json", json.dumps([task]))
    unused = UnusedLabels()
    (picture,) = found(tmp_path).pictures(unused=unused)
    assert picture.classes == {"indoor": 1, "night": 1} and picture.captions == ("a cat on a mat",)
    polygon, ellipse, rectangle = picture.instances
    assert polygon.box == pytest.approx((0.1, 0.1, 0.5, 0.5)) and ellipse.name == "o"
    assert ellipse.box == pytest.approx((0.4, 0.3, 0.6, 0.7))
    # 20 x 20 pixels from (40, 0), turned clockwise about that corner: to the left of it
    assert rectangle.box == pytest.approx((0.25, 0.0, 0.5, 0.5), abs=1e-6)
    assert unused.unusable == ["tasks.json: task 1: a region of kind brushlabels is not read"]


@pytest.mark.parametrize(
    "file_name",
    ["a 1.jpg", "images/a%201.jpg", "/data/upload/3/0f1e2d3c-a%201.jpg", r"C:\\x\\A 1.JPG"],
)
def test_a_picture_is_found_however_the_labels_call_it(file_name, tmp_path):
    write_picture(tmp_path / "images/a 1.jpg")
    image = {"id": 1, "file_name": file_name, "width": WIDTH, "height": HEIGHT}
    content = coco_of(TRUTH[:1]) | {"images": [image]}
    content["annotations"] = [one | {"image_id": 1} for one in content["annotations"]]
    write(tmp_path / "result.json", json.dumps(content))
    contents = count(found(tmp_path))
    assert (contents.num_pictures, contents.num_missing, contents.num_boxes) == (1, 0, 2)


def test_labels_of_whole_pictures(tmp_path):
    for name in ("train/a.jpg", "train/b.jpg", "valid/c.jpg"):
        write_picture(tmp_path / "rob" / name)
    write(tmp_path / "rob/train/_classes.csv", "filename, cat, a dog\na.jpg, 1, 0\nb.jpg, 1, 1\n")
    write(tmp_path / "rob/valid/_classes.csv", "filename, cat, a dog\nc.jpg, 0, 0\n")
    pictures = {p.name: p for p in found(tmp_path / "rob").pictures()}
    assert pictures["train/b.jpg"].classes == {"cat": 1, "a dog": 1}
    assert (pictures["valid/c.jpg"].classes, pictures["valid/c.jpg"].split) == ({}, "val")

    for key in ("a1", "b2", "c3"):
        write_picture(tmp_path / f"open/data/{key}.jpg")
    write(
        tmp_path / "open/train-annotations-human-imagelabels.csv",
        "ImageID,Source,LabelName,Confidence\na1,verification,/m/1,1\na1,verification,/m/2,0\n"
        "b2,verification,/m/2,1\n",
    )
    write(tmp_path / "open/class-descriptions.csv", "LabelName,DisplayName\n/m/1,Cat\n/m/2,Dog\n")
    pictures = {p.name: p for p in found(tmp_path / "open").pictures()}
    assert pictures["data/a1.jpg"].classes == {"Cat": 1, "Dog": -1}
    assert pictures["data/b2.jpg"].classes == {"Cat": 0, "Dog": 1}  # nobody looked for a cat
    (tmp_path / "open/class-descriptions.csv").unlink()
    with pytest.raises(ValueError, match=r":2: nothing says what /m/1 is called; put Open Images'"):
        count(found(tmp_path / "open"))


def test_captions_are_found_whoever_wrote_them(tmp_path):
    for k in range(3):
        write_picture(tmp_path / f"one/images/{k}.jpg")
    write(
        tmp_path / "one/captions.txt", 'image,caption\n0.jpg,"a cat, a dog"\n0.jpg,two\n1.jpg,x\n'
    )
    contents = count(found(tmp_path / "one"))
    assert (contents.kind, contents.num_pictures, contents.num_captions) == ("captions", 2, 3)
    write_picture(tmp_path / "two/3.jpg")
    write(tmp_path / "two/metadata.jsonl", '{"file_name": "3.jpg", "text": "a cat"}\n')
    (picture,) = found(tmp_path / "two").pictures()
    assert picture.captions == ("a cat",)
    lines = '{"image_id": "3", "captions": ["one", "two"]}\n'
    write(tmp_path / "three/flickr.jsonl", lines)
    (picture,) = found(tmp_path / "three").pictures(tmp_path / "two")
    assert picture.captions == ("one", "two") and picture.file == tmp_path / "two/3.jpg"


def test_two_layouts_in_one_folder_are_refused_and_both_named(tmp_path):
    roboflow_yolo(tmp_path)
    roboflow_coco(tmp_path)
    message = (
        r"holds two kinds of labels: YOLO \(data.yaml\) and COCO "
        r"\(train/_annotations.coco.json\); name the file or folder of one"
    )
    with pytest.raises(ValueError, match=message):
        recognise(tmp_path)
    assert found(tmp_path / "train/_annotations.coco.json").kind == "COCO"


def test_an_archive_is_refused_with_the_way_out_and_what_is_unknown_is_nothing(tmp_path):
    write(tmp_path / "labels.zip", "PK")
    with pytest.raises(ValueError, match="is an archive: unpack it first"):
        recognise(tmp_path / "labels.zip")
    write_picture(tmp_path / "cats" / "1.jpg")
    assert recognise(tmp_path / "cats") is None


@pytest.mark.parametrize(
    "name, content",
    [
        ("data.yaml", "names: [cat]\ntrain: 5\nval: {a: 1}\n"),
        ("data.yaml", "names: {cat: 1}\ntrain: a\n"),
        ("x.json", '[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"value": 1}]}]}]'),
        ("x.json", '[{"data": {"image": "a.jpg"}, "annotations": [5]}]'),
        (
            "x.json",
            '[{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"value": '
            '{"points": [1], "polygonlabels": ["a"]}}]}]}]',
        ),
        ("annotations/x.json", '{"images": [5], "annotations": [], "categories": []}'),
        ("annotations/x.json", '{"images": [{}], "annotations": [{"caption": 1}]}'),
        ("_classes.csv", "filename\na.jpg\n"),
        ("_classes.csv", "filename, cat\na.jpg, 7\n"),
        ("_annotations.csv", "filename,width\na.jpg,0\n"),
        ("metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": [[1]], "categories": [1]}}'),
        ("metadata.jsonl", '{"file_name": "a.jpg"}\nno json\n'),
        ("o.csv", "ImageID,LabelName,Confidence,XMin,XMax,YMin,YMax\na,cat,x,y,z,1,2\n"),
        ("labels/a.txt", "0 0.5 0.5\n"),
        ("x.csv", "a\0b,c\n"),
    ],
)
def test_what_is_damaged_is_an_error_in_words_and_never_another(name, content, tmp_path):
    write_picture(tmp_path / "a.jpg")
    write(tmp_path / name, content)
    try:
        layout = recognise(tmp_path)
        contents = count(layout) if layout is not None else None
    except ValueError as error:
        assert len(str(error)) > 20
    else:
        assert contents is None or contents.num_boxes == 0


def test_narratives_of_people_are_recognised_too(tmp_path, shared_data):
    layout = found(shared_data / "vidln/vidln_as_ln.jsonl")
    assert layout.kind == "Localized Narratives" and layout.has_narratives
    layout = found(shared_data / "vidln/vidln_sample_combined.jsonl")
    assert layout.kind == "Video Localized Narratives" and layout.has_narratives


def test_pictures_that_are_not_there_are_counted_and_ones_elsewhere_found(tmp_path):
    cvat_coco(tmp_path / "labels")
    (tmp_path / "labels/images").rename(tmp_path / "pictures")
    layout = found(tmp_path / "labels")
    assert count(layout).num_missing == 4
    assert count(layout, tmp_path / "pictures").num_pictures == 4
    sentence = count(layout, tmp_path / "pictures").sentence()
    assert sentence == (
        "COCO: 4 pictures (train 3, val 1); 6 boxes; 2 classes: cat 3, traffic light 3"
    )


@pytest.mark.parametrize("name", ["Roboflow YOLO", "CVAT COCO", "Label Studio JSON", "imagefolder"])
def test_evaluate_reads_classes_and_splits_of_a_folder_as_it_was_unzipped(name, tmp_path):
    LAYOUTS[name][1](tmp_path)
    left_out: dict[str, str] = {}
    train, test = label_files.read(tmp_path, left_out=left_out)
    assert train.classes == NAMES and len(train) + len(test) == 4
    tables = {
        image: row for t in (train, test) for image, row in zip(t.images, t.values, strict=True)
    }
    values = {Path(image).stem: row.tolist() for image, row in tables.items()}
    assert values == {"a": [1, 1], "b 1": [1, -1], "c": [-1, -1], "d": [1, 1]}
    if name != "Label Studio JSON":
        assert [Path(image).stem for image in test.images] == ["d"]
    else:
        unread = "1 not read, as 1 task(s) that nobody has annotated yet"
        assert left_out == {"labels that cannot be used": unread}


def test_evaluate_never_makes_one_class_of_a_folder_called_images(tmp_path):
    for k in range(3):
        write_picture(tmp_path / "images" / f"{k}.jpg")
    with pytest.raises(ValueError, match="its only class would be 'images', which is no class"):
        label_files.read(tmp_path)
    cvat_yolo(tmp_path / "mixed")
    cvat_coco(tmp_path / "mixed")
    with pytest.raises(ValueError, match="holds two kinds of labels: YOLO .* and COCO"):
        label_files.read(tmp_path / "mixed")


@pytest.mark.parametrize("name", ["Roboflow YOLO", "CVAT COCO", "Label Studio CSV", "Open Images"])
def test_the_simulated_narrator_tells_of_a_folder_as_it_was_unzipped(name, tmp_path, capsys):
    LAYOUTS[name][1](tmp_path / "my pets")
    to = tmp_path / "told"
    assert simulate(["simulate", str(tmp_path / "my pets"), "--to", str(to)]) == 0
    narratives = list(read_jsonl(to / "narratives.jsonl"))
    assert len(narratives) == 3 and all(one.strokes for one in narratives)
    has_splits = name != "Label Studio CSV"
    expected = {"my_pets_train_simulated", "my_pets_val_simulated"}
    assert {one.dataset_id for one in narratives} == (
        expected if has_splits else {"my_pets_simulated"}
    )
    source = Files(to / "narratives.jsonl", tmp_path / "my pets", to / "regions.jsonl")
    entries = list(source)
    assert len(entries) == 3 and source.left_out == []
    told = {entry.picture.stem: entry.read()[0][0].caption for entry in entries}
    assert "traffic light" not in told["b 1"] and "cat" in told["b 1"]


def test_the_narrator_names_what_it_cannot_read(tmp_path, capsys):
    write_picture(tmp_path / "cats/1.jpg")
    assert simulate(["simulate", str(tmp_path / "cats"), "--to", str(tmp_path / "to")]) == 1
    assert "no labels of boxes are known here; it may be" in capsys.readouterr().err
    roboflow_yolo(tmp_path / "both")
    roboflow_coco(tmp_path / "both")
    assert simulate(["simulate", str(tmp_path / "both"), "--to", str(tmp_path / "to")]) == 1
    assert "holds two kinds of labels" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["as_yolo", "as_coco", "as_pascal_voc"])
def test_what_supervision_writes_is_read_right(form, tmp_path):
    """Another program's own writers (PyPI's supervision, MIT), which shares no code with ours."""
    supervision = pytest.importorskip("supervision", reason="pip install supervision")
    images, annotations = {}, {}
    for truth in TRUTH:
        path = tmp_path / "pictures" / truth.name
        write_picture(path)
        images[str(path)] = np.asarray(Image.open(path))
        corners = np.array([box[1:] for box in truth.boxes], float).reshape(-1, 4)
        keys = np.array([box[0] for box in truth.boxes], int)
        annotations[str(path)] = supervision.Detections(xyxy=corners, class_id=keys)
    data_set = supervision.DetectionDataset(
        classes=list(NAMES), images=list(images), annotations=annotations
    )
    out = tmp_path / "out"
    if form == "as_yolo":
        data_set.as_yolo(str(out / "images"), str(out / "labels"), str(out / "data.yaml"))
    elif form == "as_coco":
        data_set.as_coco(str(out / "images"), str(out / "annotations/instances_default.json"))
    else:
        data_set.as_pascal_voc(str(out / "JPEGImages"), str(out / "Annotations"))
    contents = count(found(out))
    assert (contents.num_pictures, contents.num_missing, contents.problems) == (4, 0, [])
    assert contents.classes == {"cat": 3, "traffic light": 3}
