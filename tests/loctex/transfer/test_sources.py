"""Labels as people keep them: read alike from every form, and refused in words."""

import json

import datasets
import numpy as np
import pytest
from PIL import Image

from loctex.transfer import label_files
from loctex.transfer.encoders import Crop, read_square

KINDS = {"ant": (200, 30, 30), "bee": (30, 200, 30)}


def picture(name: str, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    pixels = np.array(KINDS[name]) + random.normal(0, 20, (24, 32, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_folders(root, num_images=10, parts=("",)):
    for part in parts:
        for k, name in enumerate(KINDS):
            (root / part / name).mkdir(parents=True)
            for i in range(num_images):
                picture(name, 100 * k + i).save(root / part / name / f"{part}{i}.png")
    return root


def shown(labels) -> dict[str, list[str]]:
    return {
        image: [name for name, value in zip(labels.classes, row, strict=True) if value > 0]
        for image, row in zip(labels.images, labels.values, strict=True)
    }


def test_class_folders_hold_out_one_of_five_of_each_class(tmp_path):
    train, test = label_files.read(write_folders(tmp_path))
    assert (len(train), len(test)) == (16, 4)
    assert (test.values > 0).sum(axis=0).tolist() == [2, 2]
    assert shown(train)[train.images[0]] == [train.images[0].split("/")[0]]
    assert label_files.is_single(train) and label_files.is_single(test)


def test_train_and_test_folders_are_taken_as_they_are(tmp_path):
    root = write_folders(tmp_path, 3, ("train", "val", "test"))
    train, test = label_files.read(root)
    assert {name.split("/")[0] for name in train.images} == {"train"}
    assert {name.split("/")[0] for name in test.images} == {"test"}
    assert (len(train), len(test)) == (6, 6)


def test_a_csv_may_give_several_labels_and_its_own_split(tmp_path):
    write_folders(tmp_path / "all", 3)
    lines = ["Image,Label,Split", "ant/0.png,ant,train", "ant/1.png,ant;bee,train"]
    lines += ["bee/0.png,bee,val", "bee/1.png, bee ,training"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    train, test = label_files.read(tmp_path / "labels.csv", tmp_path / "all")
    assert shown(train) == {"ant/0.png": ["ant"], "ant/1.png": ["ant", "bee"], "bee/1.png": ["bee"]}
    assert shown(test) == {"bee/0.png": ["bee"]}
    assert not label_files.is_single(train)
    assert read_square(train.pictures[0], Crop(8, 8)).shape == (8, 8, 3)


def test_the_order_of_the_lines_does_not_matter(tmp_path):
    write_folders(tmp_path)
    lines = [f"{name}/{i}.png,{name}" for name in KINDS for i in range(10)]
    found = []
    for order in (lines, lines[::-1]):
        (tmp_path / "labels.csv").write_text("\n".join(["image,label", *order]))
        found.append(
            [
                (part.images, part.values.tolist())
                for part in label_files.read(tmp_path / "labels.csv")
            ]
        )
    assert found[0] == found[1]


def test_coco_crowds_take_no_part(tmp_path):
    content = {
        "categories": [{"id": 7, "name": "ant"}, {"id": 9, "name": "bee"}],
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
        "annotations": [
            {"image_id": 0, "category_id": 7},
            {"image_id": 0, "category_id": 9, "iscrowd": 1},
            {"image_id": 1, "category_id": 9, "iscrowd": 1},
            {"image_id": 1, "category_id": 9, "iscrowd": 0},
        ],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "test.json").write_text(json.dumps(content))
    train, test = label_files.read(tmp_path / "train.json", test=tmp_path / "test.json")
    assert train.values.tolist() == [[1, 0], [-1, 1], [-1, -1], [-1, -1]]
    assert test.images[0] == "test:0.png" and test.values.tolist() == train.values.tolist()
    content["annotations"].append({"image_id": 99, "category_id": 7})
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="not COCO instances: KeyError.99. is missing"):
        label_files.read(tmp_path / "train.json")


def test_a_saved_dataset_gives_the_bytes_of_its_images(tmp_path):
    features = datasets.Features(
        {"picture": datasets.Image(), "label": datasets.ClassLabel(names=list(KINDS))}
    )
    parts = {}
    for part in ("train", "test"):
        rows = {"picture": [picture(name, i) for name in KINDS for i in range(3)]}
        rows["label"] = [0, 0, 0, 1, 1, 1]
        parts[part] = datasets.Dataset.from_dict(rows, features)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    train, test = label_files.read(tmp_path / "saved")
    assert train.classes == ("ant", "bee") and len(test) == 6
    assert (train.values > 0).argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]
    picture("bee", 1).save(tmp_path / "plain.png")
    wanted = read_square(tmp_path / "plain.png", Crop(16, 16))
    assert np.array_equal(read_square(train.pictures[4], Crop(16, 16)), wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind\na,b", "the first line must name the columns image and label"),
        ("image,label\na.png,", "labels.csv:2: the label is empty"),
        ("image,label\n,ant", "labels.csv:2: the image is empty"),
        ("image,label,split\na.png,ant,dev", "split 'dev' is neither train, val nor test"),
        ("image,label\na.png,ant\na.png,bee\nc.png,bee", "image 'a.png' is listed twice"),
        ("image,label,split\na.png,ant,train", "holds no image to test on"),
        ("image,label", "holds no image to train on"),
    ],
)
def test_a_broken_csv_is_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        label_files.read(tmp_path / "labels.csv")


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no CLASS/image"):
        label_files.read(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of class folders"):
        label_files.read(tmp_path / "labels.txt")
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        label_files.read(tmp_path / "labels.json")
