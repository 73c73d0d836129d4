"""Labeled images to narratives: what is said is true, where it points is known, and noisy."""

import functools
import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from data_tools import coco, pace, snapshot
from data_tools.pictures import find_picture
from data_tools.simulation import captions, nouns
from data_tools.simulation.instance_captions import RELATIONS, PhotoWording, area, gather, unmarked
from data_tools.simulation.narrator import PHOTOGRAPHS, phrases
from loctex.records import annotations
from loctex.records.annotations import ImageAnnotations, Instance
from loctex.records.images import decode_image
from loctex.records.narrative import read_jsonl
from loctex.records.snapshot import Snapshot
from tests.data_tools.samples import picture

WAYS = {words: way for way, options in RELATIONS.items() for words in options}
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5}
SQUARE = [[10, 20, 30, 20, 30, 60, 10, 60]]  # x, y, ...: 20 x 40 pixels


@functools.cache
def layouts(count=400):
    """Random boxes of six categories, and the marked caption that tells of them."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        things = []
        for _ in range(rng.integers(1, 9)):
            corner, side = rng.uniform(0, 0.7, 2), rng.uniform(0.03, 0.5, 2)
            name = str(rng.choice(["person", "dog", "bus", "orange", "scissors", "wine glass"]))
            is_crowd = bool(rng.random() < 0.05)
            things.append(
                Instance(name, (*corner, *np.minimum(corner + side, 1)), is_crowd=is_crowd)
            )
        groups = gather(things, rng)
        if groups:
            made.append((things, groups, PhotoWording(groups, rng).caption()))
    return made


def files(folder, annotations, images=None, **changes):
    """A COCO file, its name ending in train, and gray pictures of 100 x 80 pixels."""
    images = images or [{"id": 7, "file_name": "000000000007.jpg", "width": 100, "height": 80}]
    names = enumerate(("person", "dog", "bus"), 1)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in names],
    }
    (folder / "images").mkdir(exist_ok=True)
    for image in images:
        (folder / "images" / image["file_name"]).write_bytes(picture(90, (100, 80)))
    path = folder / "instances_train.json"
    path.write_text(json.dumps(content | changes))
    return path


def annotation(category=2, polygons=SQUARE, box=(10, 20, 20, 40), image=7, **more):
    known = {"image_id": image, "category_id": category, "bbox": list(box)}
    return known | ({"segmentation": polygons} if polygons else {}) | more


def told(path):
    """Narratives and regions of a folder that was written."""
    regions = (path / "regions.jsonl").read_text().splitlines()
    return list(read_jsonl(path / "narratives.jsonl")), [json.loads(line) for line in regions]


# --- what is said


def test_each_group_is_named_and_only_the_small_and_high_ones_are_in_the_background():
    checked = 0
    for things, groups, marked in layouts():
        named = [int(k) for k in re.findall(r"\{(\d+):", marked)]
        assert set(named) == set(range(len(groups)))
        behind = re.split(r"In the background", marked)[1:]
        far = {int(k) for text in behind for k in re.findall(r"\{(\d+):", text)}
        assert far == {k for k, group in enumerate(groups) if group.is_far}
        foot = max((area(thing.box), thing.box[3]) for thing in things)[1]
        for k in far:
            assert all(thing.box[3] < foot for thing in groups[k].instances)
            checked += 1
    assert checked > 150


def test_numbers_are_true_and_verbs_and_articles_agree():
    counted = 0
    for things, groups, marked in layouts():
        for before, k, noun in re.findall(r"([\w ]*) ?\{(\d+):([^}]*)\}", marked):
            group, number = (
                groups[int(k)],
                COUNTS.get(
                    next(iter(re.findall(r"\b(two|three|four|five)\b(?: other)? $", before)), ""),
                    None,
                ),
            )
            is_many = noun == nouns.plural(nouns.spoken(group.category)[0]) or bool(group.count)
            if number:
                assert number == len(group.instances) and not any(
                    thing.is_crowd for thing in group.instances
                )
                same = [t for t in things if t.name == group.category and area(t.box) < 0.003]
                assert not same
                counted += 1
            if re.search(r"\b(a|an|another) $", before):
                assert not group.count
                assert before.endswith("an ") == (noun[0] in "aeiou" and "another" not in before)
            verb = re.search(r"\bthere (is|are)(?: also)? ([\w ]*)$", before)
            if verb and group.category != "scissors":
                assert (verb[1] == "are") == is_many, marked
    assert counted > 150


def test_places_and_relations_are_true():
    places = relations = 0
    sign = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}
    for _, groups, marked in layouts():
        text = r"(?:on|at) the (?:(top|bottom) )?(?:(left|right|top|bottom)) (?:side|of)"
        for sentence in re.split(r"(?<=\.) ", marked):
            ways = "|".join(WAYS)
            found = re.search(rf"(?i:({ways})) the \{{(\d+):", sentence)
            if found:
                anchor = groups[int(found[2])]
                (k,) = {int(k) for k in re.findall(r"\{(\d+):", sentence)} - {int(found[2])}
                axis, way = sign_of(WAYS[found[1].lower()])
                assert way * (groups[k].center[axis] - anchor.center[axis]) > 0, marked
                relations += 1
                continue
            said = re.search(f"(?i:{text})", sentence)
            named = [int(k) for k in re.findall(r"\{(\d+):", sentence)]
            for word in filter(None, said.groups() if said and len(named) == 1 else ()):
                axis, way = sign[word.lower()]
                assert way * (groups[named[0]].center[axis] - 0.5) > 0.13, marked
                places += 1
    assert places > 100 and relations > 100


def sign_of(way):
    return {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}[way]


def test_plurals():
    said = {"person": "people", "wine glass": "wine glasses", "bus": "buses", "bench": "benches"}
    said |= {"knife": "knives", "sheep": "sheep", "berry": "berries", "toy": "toys"}
    assert {noun: nouns.plural(noun) for noun in said} == said


def test_a_caption_points_only_at_what_a_word_means_for_certain():
    found = functools.partial(nouns.mentions, categories=["person", "dog", "orange", "bus"])
    assert found("A man walks two dogs") == [(2, 5, "person", False), (16, 20, "dog", True)]
    assert found("an orange bus") == [(10, 13, "bus", False)]  # a color
    assert found("a hot dog, dogged busboys and 3 oranges") == [(32, 39, "orange", True)]
    size = {"width": 100, "height": 80}
    box = (0.1, 0.1, 0.5, 0.5)
    two = ImageAnnotations("x", "1", **size, instances=(Instance("dog", box), Instance("dog", box)))
    said, _ = coco.simulate(two, ["a dog", "both dogs  run\n"], 0)
    assert [n.caption for n in said[1:]] == ["both dogs run"]  # which dog, nobody knows


def test_a_caption_is_cut_where_something_else_is_named():
    one, two = np.zeros((1, 2)), np.ones((1, 2))
    cut = phrases("a hot dog, and buses.", [(2, 9, one), (15, 20, two)])
    assert [phrase.text for phrase in cut] == ["a", "hot dog,", "and", "buses."]
    assert [phrase.region for phrase in cut] == [None, one, None, two]
    assert unmarked("a {3:hot dog}, a {0:bus}.") == ("a hot dog, a bus.", [(2, 9, 3), (13, 16, 0)])


# --- where it points


def test_regions_are_the_exact_masks_of_what_the_characters_name(tmp_path):
    square = [[50, 40, 90, 40, 90, 60, 50, 60]]
    runs = {"size": [80, 100], "counts": [0, 1600, 6400]}  # the leftmost 20 columns
    path = files(
        tmp_path,
        [
            annotation(),
            annotation(polygons=square, box=(50, 40, 40, 20)),
            annotation(3, runs, (0, 0, 20, 80)),
            annotation(1, None, (60, 0, 30, 30)),
        ],
    )
    report = coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    (narrative,), regions = told(tmp_path / "to")
    assert report.num_narratives == 1
    assert narrative.dataset_id == "coco_train_simulated" and narrative.image_id == "7"
    assert " ".join(word.text for word in narrative.words) == narrative.caption
    known = {}
    for region in regions:
        assert region["caption"] == narrative.caption
        known[narrative.caption[region["start"] : region["end"]]] = region
    assert known.keys() == {"dogs", "bus", "person"}
    masks = {name: rle.decode(r["rle"]).astype(bool) for name, r in known.items() if "rle" in r}
    expected = np.zeros((80, 100), dtype=bool)
    expected[20:60, 10:30] = expected[40:60, 50:90] = True
    assert (masks["dogs"] != expected).sum() <= 40 + 20 + 2  # pycocotools' edges
    assert known["dogs"]["box"] == pytest.approx([0.1, 0.25, 0.9, 0.75], abs=0.013)
    assert masks["bus"][:, :20].all() and not masks["bus"][:, 20:].any()
    assert known["person"]["box"] == pytest.approx([0.6, 0, 0.9, 0.375])
    assert "rle" not in known["person"]  # known by its box only


def test_a_narrative_depends_on_its_image_and_the_seed_alone(tmp_path):
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": 100, "height": 80} for i in range(1, 6)
    ]
    path = files(tmp_path, [annotation(image=i) for i in range(1, 6)], images)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        coco.write_simulated(tmp_path / name, [path], tmp_path / "images", seed=seed)
    first, again, other = (
        (tmp_path / name / "narratives.jsonl").read_text().splitlines() for name in "abc"
    )
    assert first == again and not set(first) & set(other)
    (tmp_path / "images" / "000000000002.jpg").unlink()
    report = coco.write_simulated(tmp_path / "d", [path], tmp_path / "images")
    assert report.num_without_picture == 1
    assert (tmp_path / "d/narratives.jsonl").read_text().splitlines() == first[:1] + first[2:]


def test_the_published_share_of_points_is_inside_on_real_photographs(shared_data):
    sources = (
        ("coco/instances_train.json", PHOTOGRAPHS),
        ("coco/instances_val.json", PHOTOGRAPHS),
        ("animalpose_voc/labels.json", PHOTOGRAPHS),
        ("animalpose_voc/labels.json", replace(PHOTOGRAPHS, offset=0.85)),
    )
    inside = {}
    for name, settings in sources:
        hits = inside.setdefault((name.split("/")[0], settings.offset), [])
        for labels in list(annotations.read(shared_data / name))[:700]:
            narratives, regions = coco.simulate(labels, (), 0, settings)
            hits += [pace.inside(narrative, regions) for narrative in narratives]
    shares = {name: np.concatenate(hits).mean() for name, hits in inside.items()}
    expected = {
        ("coco", 0.45): 0.55,
        ("animalpose_voc", 0.45): 0.71,
        ("animalpose_voc", 0.85): 0.55,
    }
    assert shares == pytest.approx(expected, abs=0.03)


def test_photographs_are_told_at_the_pace_of_people(shared_data):
    """The numbers in narrator.py; within a quarter of people's, but for the pauses."""
    people = list(read_jsonl(shared_data / "vidln/vidln_as_ln.jsonl"))
    people = pace.measure([n for n in people if n.caption.startswith("In the background")])
    labeled = annotations.read(shared_data / "coco/instances_val.json")
    told = pace.measure([n for one in labeled for n in coco.simulate(one, (), 0)[0]])
    for name in (
        "seconds a word, 50 %",
        "share of gaps that are pauses",
        "points a second, whole narrative",
        "points a second while moving",
        "seconds between points, 50 %",
        "share of words with a point",
        *(name for name in people if name.startswith("speed")),
    ):
        assert told[name] == pytest.approx(people[name], rel=0.25), name
    assert people["seconds a pause, 50 %"] == pytest.approx(1.96)  # looking through a video
    assert told["seconds a pause, 50 %"] == pytest.approx(1.3, abs=0.1)


# --- files


def test_boxes_of_pascal_voc_count_pixels_from_one_and_name_their_split(tmp_path):
    folder, main = tmp_path / "Annotations", tmp_path / "ImageSets" / "Main"
    folder.mkdir()
    main.mkdir(parents=True)
    (folder / "2007_000001.xml").write_text(
        "<annotation><size><width>200</width><height>100</height></size><object><name>dog</name>"
        "<bndbox><xmin>1</xmin><ymin>51</ymin><xmax>100</xmax><ymax>100</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object></annotation>"
    )
    (main / "val.txt").write_text("2007_000001\n")
    (labels,) = annotations.read(folder)
    assert labels.dataset_id == "voc_val_simulated" and labels.image_id == "2007_000001"
    (thing,) = labels.instances
    assert (thing.name, thing.box) == ("dog", (0, 0.5, 0.5, 1))
    objects = [{"name": "dog", "bbox": [1, 51, 100, 100]}]
    (tmp_path / "labels.json").write_text(
        json.dumps({"a1": {"size": [200, 100], "split": "test", "objects": objects}})
    )
    (same,) = annotations.read(tmp_path / "labels.json", "farm")
    assert same.dataset_id == "farm_test_simulated" and same.instances[0].box == thing.box


def test_the_real_files_are_read_whole(shared_data):
    def count(name):
        labels = list(annotations.read(shared_data / name))
        return len(labels), sum(len(one.instances) for one in labels)

    assert count("coco/instances_train.json") == (417, 3350)
    assert count("coco/instances_val.json") == (260, 2231)
    assert count("animalpose_voc/labels.json") == (2000, 2832)
    assert count("voc/Annotations") == (756, 1994)
    lines = captions.read(shared_data / "flickr8k/captions_val.jsonl")
    said = [narrative for one in lines for narrative in one.narratives()]
    assert {narrative.dataset_id for narrative in said} == {"flickr8k_val"}
    assert 4990 < len(said) <= 5000  # but for captions that came twice


def test_a_picture_with_a_name_of_its_own_is_known_by_it(tmp_path):
    image = {"id": 7, "file_name": "kitchen.jpg", "width": 100, "height": 80}
    path = files(tmp_path, [annotation()], [image])
    coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    (narrative,), _ = told(tmp_path / "to")
    assert narrative.image_id == "kitchen"


def two_places(folder, first, second, **changes):
    """A COCO file of two images: a dog on the left of the one, a bus on the right of the other."""
    images = [
        {"id": number, "file_name": name, "width": 100, "height": 80}
        for number, name in ((1, first), (2, second))
    ]
    content = {
        "images": images,
        "annotations": [
            annotation(2, None, (0, 20, 40, 40), 1),
            annotation(3, None, (60, 20, 40, 40), 2),
        ],
        "categories": [{"id": 2, "name": "dog"}, {"id": 3, "name": "bus"}],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(content | changes))
    return path


def save(path, color=90, size=(100, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(color, size, path.suffix.lower()))


@pytest.mark.parametrize(
    "first, second, ids",
    [
        ("a/001.jpg", "b/001.jpg", ["a%2F001.jpg", "b%2F001.jpg"]),
        ("1.jpg", "1.png", ["1.jpg", "1.png"]),
        ("000012.jpg", "12.jpg", ["000012.jpg", "12.jpg"]),
        ("a/x.jpg", "y.jpg", ["a%2Fx.jpg", "y"]),  # in a sub-folder, though no other is named so
        ("x.jpg", "y.jpg", ["x", "y"]),
    ],
)
def test_a_picture_is_its_folder_and_its_name(tmp_path, first, second, ids):
    images = tmp_path / "images"
    save(images / first, 60)
    save(images / second, 200)
    path = two_places(tmp_path, first, second)
    coco.write_simulated(tmp_path / "to", [path], images)
    narratives, regions = told(tmp_path / "to")
    assert [narrative.image_id for narrative in narratives] == ids
    shown = {region["image_id"]: region["box"] for region in regions}
    assert shown == {ids[0]: [0, 0.25, 0.4, 0.75], ids[1]: [0.6, 0.25, 1, 0.75]}
    line = [str(tmp_path / "to/narratives.jsonl"), "--images", str(images)]
    assert snapshot.main(["--narratives", *line, "--to", str(tmp_path / "s")]) == 0
    items = Snapshot.open(tmp_path / "s").split("train")
    colors = {item.narratives[0].image_id: int(decode_image(item.image).mean()) for item in items}
    assert colors == pytest.approx({ids[0]: 60, ids[1]: 200}, abs=2)


def test_an_exported_picture_of_a_folder_is_found_by_the_same_id(tmp_path):
    for name in ("a%2F001.jpg.jpg", "b%2F001.jpg.jpg"):
        save(tmp_path / name)
    assert find_picture(tmp_path, "coco", "b%2F001.jpg") == tmp_path / "b%2F001.jpg.jpg"
    for image_id in ("a%2F..%2F001", "%2Fetc%2F001", "a%2F"):
        with pytest.raises(ValueError, match="is no name of a picture"):
            find_picture(tmp_path, "coco", image_id)


def test_a_mask_of_the_picture_s_name_beside_it_is_not_told_as_the_picture(tmp_path):
    save(tmp_path / "images/x.png")
    save(tmp_path / "images/x.jpg")
    save(tmp_path / "images/y.jpg")
    coco.write_simulated(
        tmp_path / "to", [two_places(tmp_path, "x.jpg", "y.jpg")], tmp_path / "images"
    )
    assert [narrative.image_id for narrative in told(tmp_path / "to")[0]] == ["x.jpg", "y"]
    with pytest.raises(ValueError, match="'x' may be x.jpg or x.png in .*; name it with its ext"):
        find_picture(tmp_path / "images", "coco", "x")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, "images: file_name: 'x.jpg' is there twice"),
        (
            {
                "images": [
                    {"id": key, "file_name": name, "width": 100, "height": 80}
                    for key, name in ((1, "x.jpg"), ("1", "y.jpg"))
                ]
            },
            "images: 1 is there twice; give each picture one entry",
        ),
    ],
)
def test_an_id_or_a_picture_that_is_there_twice_is_refused_by_name(tmp_path, changes, message):
    save(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=re.escape(f"labels.json: {message}")):
        coco.write_simulated(
            tmp_path / "to", [two_places(tmp_path, "x.jpg", "x.jpg", **changes)], tmp_path
        )


def test_ids_as_text_and_a_mark_at_the_start_are_read_and_unknown_ones_named(tmp_path, capsys):
    for name in ("x.jpg", "y.jpg"):
        save(tmp_path / "images" / name)
    things = [annotation("2", None, image="1"), annotation(3.0, None, image=2)]
    path = two_places(tmp_path, "x.jpg", "y.jpg", annotations=things)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    report = coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    assert report.num_narratives == 2 and not report.left_out(tmp_path)
    things[1]["image_id"] = "y"
    path = two_places(tmp_path, "x.jpg", "y.jpg", annotations=things)
    line = ["simulate", str(path), "--images", str(tmp_path / "images"), "--to"]
    assert coco.main([*line, str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert "1 images without labels that say its id" in said
    assert "labels.json: annotations[1] is of image 'y', which is not there" in said
    assert "without anything to name" not in said


def turned_picture(path, orientation, size=(100, 80)):
    """Stored pixels are dark but for a bright block at x 10 to 40, y 10 to 30."""
    stored = np.zeros((size[1], size[0], 3), np.uint8)
    stored[10:30, 10:40] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(stored).save(path, quality=95, exif=exif)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("form", ["box", "polygon", "runs"])
def test_labels_of_stored_pixels_are_turned_as_exif_turns_the_picture(tmp_path, orientation, form):
    turned_picture(tmp_path / "images/x.jpg", orientation)
    mask = np.zeros((80, 100), np.uint8, order="F")
    mask[10:30, 10:40] = 1
    runs = rle.encode(mask)
    outline = {
        "box": None,
        "polygon": [[10, 10, 40, 10, 40, 30, 10, 30]],
        "runs": runs | {"counts": runs["counts"].decode()},
    }[form]
    images = [{"id": 1, "file_name": "x.jpg", "width": 100, "height": 80}]
    things = [annotation(2, outline, (10, 10, 30, 20), 1)]
    path = two_places(tmp_path, "x.jpg", "y.jpg", images=images, annotations=things)
    coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    _, (region, *_) = told(tmp_path / "to")
    bright = decode_image(tmp_path / "images/x.jpg").mean(axis=2) > 128
    assert bright.shape == (100, 80)
    y, x = np.nonzero(bright)
    expected = [x.min() / 80, y.min() / 100, (x.max() + 1) / 80, (y.max() + 1) / 100]
    assert region["box"] == pytest.approx(expected, abs=0.015)
    if form != "box":
        assert (rle.decode(region["rle"]).astype(bool) != bright).mean() < 0.02


def test_labels_of_seen_pixels_stay_and_what_nobody_can_tell_is_left_out_by_name(tmp_path):
    folder = tmp_path / "images"
    turned_picture(folder / "seen.jpg", 6)
    turned_picture(folder / "over.jpg", 3)
    turned_picture(folder / "square.jpg", 6, (90, 90))
    turned_picture(folder / "other.jpg", 1, (100, 50))
    turned_picture(folder / "half.jpg", 1, (50, 40))
    sizes = {
        "seen.jpg": (80, 100),
        "over.jpg": (100, 80),
        "square.jpg": (90, 90),
        "other.jpg": (100, 80),
        "half.jpg": (100, 80),
    }
    images = [
        {"id": i, "file_name": name, "width": size[0], "height": size[1]}
        for i, (name, size) in enumerate(sizes.items())
    ]
    things = [annotation(2, None, (8, 10, 40, 40), i) for i in range(5)]
    path = two_places(tmp_path, "", "", images=images, annotations=things)
    report = coco.write_simulated(tmp_path / "to", [path], folder)
    assert {n.image_id for n in told(tmp_path / "to")[0]} == {"seen", "half"}
    boxes = {region["image_id"]: region["box"] for region in told(tmp_path / "to")[1]}
    assert boxes["seen"] == pytest.approx([0.1, 0.1, 0.6, 0.5])
    assert [reason.split(":")[0] for reason in report.refused] == [
        "over.jpg",
        "square.jpg",
        "other.jpg",
    ]
    assert "of the same size either way" in report.refused[0]
    assert "is 100 x 50 pixels, its labels are for 100 x 80" in report.refused[2]


@pytest.mark.parametrize(
    "written, on_disk",
    [
        ("sub\\x.jpg", "sub/x.jpg"),
        ("C:\\mine\\sub\\x.jpg", "sub/x.jpg"),
        ("https://host.example/mine/x.jpg?sig=abc", "x.jpg"),
        ("X.JPG", "x.jpg"),
        ("cafe\u0301.jpg", "caf\xe9.jpg"),
        ("caf\xe9.jpg", "cafe\u0301.jpg"),
        ("/home/me/images/x.jpg", "x.jpg"),
        ("\u732b" * 75 + ".jpg", "\u732b" * 75 + ".jpg"),  # 225 bytes of UTF-8
    ],
)
def test_a_name_is_found_as_other_systems_write_it(tmp_path, written, on_disk):
    save(tmp_path / "images" / on_disk)
    save(tmp_path / "images" / "y.jpg")
    path = two_places(tmp_path, written, "y.jpg")
    report = coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    assert report.num_narratives == 2
    (first, _) = told(tmp_path / "to")[0]
    place = find_picture(tmp_path / "images", first.dataset_id, first.image_id)
    assert place == tmp_path / "images" / on_disk


def test_commands_lead_to_a_snapshot_with_pictures_in_place(tmp_path, capsys):
    own = tmp_path / "captions_train.json"
    own.write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "000000000007.jpg"}],
                "annotations": [
                    {"image_id": 7, "caption": text} for text in ("The  dog.\n", "The dog.", "Sky")
                ],
            }
        )
    )
    path = files(tmp_path, [annotation()])
    place = ["--images", str(tmp_path / "images"), "--to"]
    for number, (command, count) in enumerate(
        (
            (["simulate", str(path)], 1),
            (["simulate", str(path), "--captions", str(own)], 2),  # "Sky" is labeled nowhere
            (["captions", str(own)], 2),
        )
    ):
        assert coco.main([*command, *place, str(tmp_path / str(number))]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{count} narratives\n")
        line = re.search(r"next: python -m data_tools.snapshot (.*) SNAPSHOT", printed)[1]
        assert snapshot.main([*shlex.split(line), str(tmp_path / f"s{number}")]) == 0
        capsys.readouterr()
        (item,) = Snapshot.open(tmp_path / f"s{number}").split("train")
        assert len(item.narratives) == count
        with_trace = [bool(narrative.strokes) for narrative in item.narratives]
        assert with_trace == [command[0] == "simulate"] * count
        assert sum(map(len, item.regions)) >= count * (command[0] == "simulate")
    (kept,) = {narrative.dataset_id for narrative in item.narratives}
    assert kept == "coco_train" and not any(n.words for n in item.narratives)
    record = json.loads((tmp_path / "2/narratives.jsonl").read_text().splitlines()[0])
    assert record.keys() == {"dataset_id", "image_id", "annotator_id", "caption"}


def test_settings_are_kept_beside_what_they_made(tmp_path, capsys):
    path = files(tmp_path, [annotation()])
    arguments = ["simulate", str(path), "--images", str(tmp_path / "images"), "--to"]
    chosen = ["--seed", "3", "--set", "offset=0.85", "rate=30"]
    assert coco.main([*arguments, str(tmp_path / "to"), *chosen]) == 0
    made = json.loads((tmp_path / "to/narrator.json").read_text())
    assert made["seed"] == 3
    assert made["narrator"]["offset"] == 0.85 and made["narrator"]["rate"] == 30
    assert made["narrator"]["rounds"] == PHOTOGRAPHS.rounds
    for wrong, message in (
        ("size=1", "no setting 'size'; there is word_seconds, letter_seconds"),
        ("rate=0", "--set rate=0: must be a number from 0.001 to 1000"),
        ("offset=much", "--set offset=much: must be a number from 0 to 1000"),
    ):
        assert coco.main([*arguments, str(tmp_path / "no"), "--set", wrong]) == 1
        assert message in capsys.readouterr().err
    assert coco.main([*arguments, str(tmp_path / "to")]) == 1
    assert "exists already and is never overwritten" in capsys.readouterr().err


DEGENERATE = [
    (annotation(box=(0, 0, 1)), "its bbox is not four numbers"),
    (annotation(box=(0, 0, float("nan"), 1)), "its bbox is not four numbers"),
    (annotation(box=(10, 20, 0, 40)), "its bbox has no area inside the image"),
    (annotation(box=(200, 20, 20, 40)), "its bbox has no area inside the image"),
    (annotation(polygons=[[]]), "three points or more"),
    (annotation(polygons=[1, 2, 3, 4, 5, 6]), "must be a list of polygons"),
    (annotation(polygons=[[1, 2, 3, 4]]), "three points or more"),
    (annotation(polygons=[["a"] * 6]), "three points or more"),
    (annotation(polygons=[[0, 0, 1e300, 0, 5, 5]]), "far out of the image"),
    (annotation(polygons={"size": [80, 100], "counts": [5]}), "numbers that fill the image"),
    (annotation(polygons={"size": [9, 9], "counts": "1"}), "size: must be [height, width]"),
    (annotation(polygons={"size": [80, 100], "counts": "PPYo1"}), "counts: Invalid RLE"),
]


@pytest.mark.parametrize(("degenerate", "reason"), DEGENERATE)
def test_what_cannot_be_drawn_is_left_out_by_name_and_the_rest_is_told(
    tmp_path, capsys, degenerate, reason
):
    sound = annotation(category=1, box=(50, 10, 30, 60), polygons=None)
    path = files(tmp_path, [degenerate, sound])
    line = ["simulate", str(path), "--images", str(tmp_path / "images"), "--to"]
    assert coco.main([*line, str(tmp_path / "to")]) == 0
    printed = capsys.readouterr().out
    assert "1 narratives; left out: instances_train.json: annotations[0]: its " in printed
    assert reason in printed
    (narrative,), regions = told(tmp_path / "to")
    assert "dog" not in narrative.caption
    assert {tuple(region["box"]) for region in regions} == {(0.5, 0.125, 0.8, 0.875)}


@pytest.mark.parametrize("sides", [{"width": None}, {"height": 0}, {"width": "wide"}])
def test_an_image_without_a_size_is_left_out_by_name(tmp_path, sides):
    for name in ("x.jpg", "y.jpg"):
        save(tmp_path / "images" / name)
    images = [
        {"id": 1, "file_name": "x.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "y.jpg", "width": 100, "height": 80} | sides,
    ]
    path = two_places(tmp_path, "x.jpg", "y.jpg", images=images)
    report = coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    assert {narrative.image_id for narrative in told(tmp_path / "to")[0]} == {"x"}
    assert "image y.jpg has no width and height there" in report.left_out(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"annotations": 3}, "annotations: must be a list"),
        ({"annotations": [{"image_id": 7}]}, "annotations[0].category_id: is missing"),
        ({"annotations": [annotation(9)]}, "annotations[0].category_id: no category 9"),
        ({"annotations": []}, "nothing to tell: 1 images without anything to name"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_nothing_is_left(tmp_path, change, message):
    path = files(tmp_path, **{"annotations": [annotation()], **change})
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        coco.write_simulated(tmp_path / "to", [path], tmp_path / "images")
    assert str(path) in str(error.value) or str(error.value).startswith("nothing")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "instances_train.json"]


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"image_id": "a"}', ":1: captions: is missing"),
        ('{"image_id": "a", "captions": "dog"}', ":1: captions: must be a list"),
        ('{"image_id": "a", "captions": [""]}', ":1: caption: must not be empty"),
        ("[", ":1: is not JSON"),
    ],
)
def test_wrong_captions_are_refused_by_line(tmp_path, text, message):
    path = tmp_path / "captions.jsonl"
    path.write_text(text)
    (tmp_path / "a.jpg").write_bytes(picture(9, (96, 64)))
    with pytest.raises(ValueError, match=re.escape(f"{path}{message}")):
        coco.write_captions(tmp_path / "to", [path], tmp_path)
