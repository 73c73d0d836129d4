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
    with pytest.raises(ValueError, match=r"annotations\[4\] is of image 99, which is not there"):
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
        ("image,label,split\na.png,ant,fold1", "split 'fold1' is neither train, val nor test"),
        ('image,label\n"a.png,ant\nb.png,bee', "labels.csv:2: unexpected end of data"),
        ("image,label\na\0.png,ant", "labels.csv:2: the image's name has a zero byte"),
        ("image,label\na.png,ant\na.png,bee\nc.png,bee", "image 'a.png' is listed twice"),
        ("image,label,split\na.png,ant,train", "holds no image to test on"),
        ("image,label", "holds no image to train on"),
    ],
)
def test_a_broken_csv_is_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        label_files.read(tmp_path / "labels.csv")


def test_hidden_files_are_not_there_and_nested_ones_are_whatever_their_name(tmp_path):
    root = write_folders(tmp_path / "all", 5)
    for folder in ("ant/.ipynb_checkpoints", ".ipynb_checkpoints", "__MACOSX/ant", "bee/deep/down"):
        (root / folder).mkdir(parents=True)
        picture("ant", 50).save(root / folder / "x-checkpoint.png")
    for name in ("ant/._0.png", "bee/.DS_Store"):
        (root / name).write_bytes(b"\0\5\x16\7")
    for name in ("ant/Thumbs.db", "ant/notes.txt", "bee/more.txt"):
        (root / name).write_text("no image")
    picture("ant", 60).save(root / "beside.png")
    for number, (name, kind) in enumerate(
        (("a.jfif", "jpeg"), ("b.JPE", "jpeg"), ("c.tif", "tiff"), ("d", "webp"), ("e.data", "bmp"))
    ):
        picture("ant", 70 + number).save(root / "ant" / name, format=kind)
    left_out = {}
    train, test = label_files.read(root, left_out=left_out)
    assert train.classes == ("ant", "bee")
    images = {*train.images, *test.images}
    assert len(images) == 5 + 5 + 1 + 5 and "bee/deep/down/x-checkpoint.png" in images
    assert {"ant/a.jfif", "ant/b.JPE", "ant/c.tif", "ant/d", "ant/e.data"} < images
    assert left_out == {
        "files .db": "1 not read",
        "files .txt": "2 not read",
        "images beside the folders of all": "1 not read",
    }


def test_train_alone_holds_out_a_fifth_and_what_has_no_labels_is_named(tmp_path):
    root = write_folders(tmp_path / "folders", 10, ("train",))
    train, test = label_files.read(root)
    assert (len(train), len(test), train.classes) == (16, 4, ("ant", "bee"))
    picture("ant", 1).save(root / "train" / "x.png")  # now train is a class, of vehicles
    assert label_files.read(root)[0].classes == ("train",)
    left_out = {}
    root = write_folders(tmp_path / "more", 10, ("train", "dev", "unsupervised"))
    train, test = label_files.read(root, left_out=left_out)
    assert (len(train), len(test)) == (20, 20)
    assert left_out == {"folder unsupervised": "its 20 images have no labels"}


@pytest.mark.parametrize("splits, sizes", [(("train",), (16, 4)), (("train", "dev"), (20, 20))])
def test_a_saved_dataset_without_a_test_split_is_read_too(tmp_path, splits, sizes):
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(KINDS))}
    )
    columns = {
        "image": [picture(name, i) for name in KINDS for i in range(10)],
        "label": [0] * 10 + [1] * 10,
    }
    parts = {name: datasets.Dataset.from_dict(columns, features) for name in splits}
    unlabeled = columns | {"label": [-1] * 20}
    parts["unsupervised"] = datasets.Dataset.from_dict(unlabeled, features)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    left_out = {}
    train, test = label_files.read(tmp_path / "saved", left_out=left_out)
    assert (len(train), len(test)) == sizes
    assert left_out == {"split unsupervised": "its 20 images have no labels"}


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("image,label,split\n{}", "utf-8-sig"),
        (",image,label,split\n{}", "utf-8"),  # pandas' index
        ("image;label;split\r\n{}", "cp1252"),
        ("sep=;\nimage;label;split\n{}", "utf-8"),
        ("image\tlabel\tsplit\n{}", "utf-16"),
        ("Image\tLabel\tSplit\n{}", "utf-16-le"),
        ("image,label,split\r{}", "utf-8"),  # an old Mac's line ends
        ("file_name,label,split\n{},,\n", "utf-8"),  # empty rows at the end of a sheet
    ],
)
def test_a_csv_is_read_as_programs_write_it(tmp_path, text, encoding):
    head = text.partition("{}")[0]
    end = "\r\n" if "\r\n" in head else "\r" if "\r" in head else "\n"
    mark = next(mark for mark in ",;\t" if mark in head.replace("sep=;", ""))
    rows = [("Käfer/1.png", "Käfer", "train"), ("ant/1.png", "ant", "dev")]
    rows += [("bee/1.png", "bee", "unsupervised"), ("bee/2.png", "bee", "train")]
    index = [str(i) for i in range(len(rows))] if head.startswith(",") else [None] * len(rows)
    lines = [
        mark.join(row if number is None else (number, *row))
        for number, row in zip(index, rows, strict=True)
    ]
    (tmp_path / "labels.csv").write_bytes(text.format(end.join(lines) + end).encode(encoding))
    left_out = {}
    train, test = label_files.read(tmp_path / "labels.csv", left_out=left_out)
    assert shown(train) == {"Käfer/1.png": ["Käfer"], "bee/2.png": ["bee"]}
    assert shown(test) == {"ant/1.png": ["ant"]}
    assert left_out == {"lines without labels": "1 not read"}


def test_labels_find_files_that_another_system_named(tmp_path):
    for name in ("sub/cafe\u0301.png", "X.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture("ant", 1).save(tmp_path / name)
    lines = "image,label\nsub\\caf\xe9.png,caf\xe9\nx.png,cafe\u0301\n"
    (tmp_path / "labels.csv").write_text(lines)
    rows = list(label_files.read_csv(tmp_path / "labels.csv"))
    assert [row.picture for row in rows] == [tmp_path / "sub/cafe\u0301.png", tmp_path / "X.PNG"]
    assert rows[0].values == rows[1].values == {"caf\xe9": 1}
    picture("ant", 2).save(tmp_path / "x.Png")
    (tmp_path / "more.csv").write_text("image,label\nX.png,ant\n")
    with pytest.raises(ValueError, match="more.csv:2: 'X.png' may be X.PNG or x.Png in"):
        list(label_files.read_csv(tmp_path / "more.csv"))


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no CLASS/image"):
        label_files.read(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of class folders"):
        label_files.read(tmp_path / "labels.txt")
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        label_files.read(tmp_path / "labels.json")
