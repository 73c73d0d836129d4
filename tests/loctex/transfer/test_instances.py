"""Instances: every box and mask lies where its file says, and what cannot be used is named."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from loctex.transfer import instances, precision
from loctex.transfer.detection_training import Order, mirror
from loctex.transfer.instances import Instances
from tests.loctex.transfer.shapes import change, tight, write


def answers(found: Instances, shift: float = 0.0, other_label: bool = False) -> list[dict]:
    """What a detector would say that answers with the very targets it is trained on."""
    rows = []
    for photo in found.photos:
        target = found.target(photo)
        boxes = target["boxes"] + torch.tensor([shift, 0, shift, 0])
        labels = 3 - target["labels"] if other_label else target["labels"]
        masks = torch.roll(target["masks"], int(shift), dims=2).unsqueeze(1).float()
        said = {"boxes": boxes, "labels": labels, "masks": masks, "scores": torch.ones(len(boxes))}
        rows += precision.detections(found, photo, said)
    return rows


def test_the_targets_scored_against_their_own_file_are_perfect_to_the_pixel(tmp_path) -> None:
    file = write(tmp_path)
    found = instances.read(file, tmp_path / "images")
    values = precision.score(found, answers(found))
    assert values["box_ap"] == pytest.approx(1) and values["mask_ap"] == pytest.approx(1)
    one_off = precision.score(found, answers(found, shift=1))
    assert one_off["box_ap"] < 0.95 and one_off["mask_ap"] < 0.95
    assert precision.score(found, answers(found, other_label=True))["box_ap"] == 0


def test_a_box_one_pixel_off_or_a_category_one_off_in_the_targets_is_seen(
    tmp_path, monkeypatch
) -> None:
    found = instances.read(write(tmp_path), tmp_path / "images")
    straight = instances._corners
    monkeypatch.setattr(
        instances, "_corners", lambda box, photo: [side + 1 for side in straight(box, photo)]
    )
    assert precision.score(found, answers(found))["box_ap"] < 0.95
    monkeypatch.undo()
    found.label_of.update({3: 2, 7: 1})
    assert precision.score(found, answers(found))["box_ap"] == 0


def test_boxes_are_the_tight_boxes_of_the_masks_however_these_are_written(tmp_path) -> None:
    found = instances.read(write(tmp_path), tmp_path / "images")
    for photo in found.photos:
        target = found.target(photo)
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            x, y, width, height = tight(mask.numpy())
            assert box.tolist() == [x, y, x + width, y + height]
        assert target["labels"].tolist() == [2, 1]  # categories 7 and 3, in order of ids


def test_a_mirrored_image_has_the_boxes_of_its_mirrored_masks(tmp_path) -> None:
    found = instances.read(write(tmp_path), tmp_path / "images")
    photo = found.photos[0]
    image = torch.from_numpy(instances.pixels(photo)).permute(2, 0, 1)
    target = found.target(photo)
    turned, mirrored = mirror(image, target)
    for box, mask in zip(mirrored["boxes"], mirrored["masks"], strict=True):
        x, y, width, height = tight(mask.numpy())
        assert box.tolist() == [x, y, x + width, y + height]
        assert turned[:, mask.bool()].float().std(dim=1).max() < 1  # of one color: it moved along
    again, twice = mirror(turned, mirrored)
    assert torch.equal(again, image)
    assert all(torch.equal(twice[name], target[name]) for name in target)


def test_real_labels_are_read_as_pycocotools_reads_them(shared_data) -> None:
    file = shared_data / "coco" / "instances_val.json"
    found = instances.read(file, shared_data / "coco" / "images")
    with redirect_stdout(io.StringIO()):
        truth = COCO(file)
    names = {c["id"]: c["name"] for c in truth.loadCats(truth.getCatIds())}
    keys = list(found.categories)
    num_things, offsets = 0, []
    for photo in found.photos:
        rows = truth.loadAnns(truth.getAnnIds(photo.id, iscrowd=False))
        target = found.target(photo)
        assert len(rows) == len(target["labels"])
        for k, row in enumerate(rows):
            assert np.array_equal(target["masks"][k].numpy(), truth.annToMask(row))
            label = int(target["labels"][k])
            assert found.categories[keys[label - 1]] == names[row["category_id"]]
            x, y, width, height = tight(truth.annToMask(row))
            offsets.append(target["boxes"][k].numpy() - [x, y, x + width, y + height])
        num_things += len(rows)
    assert num_things == 2231 - 21  # all but the crowds
    # polygons lie between pixels, so single boxes differ by part of one; all together do not
    assert np.abs(np.median(offsets, axis=0)).max() < 0.51
    assert np.percentile(np.abs(offsets), 95) < 1.1


def test_crowds_are_not_trained_on_and_do_not_count_against_a_detection(tmp_path) -> None:
    def crowd(annotations):
        annotations[0]["iscrowd"] = 1
        return annotations

    file = change(write(tmp_path), annotations=crowd)
    found = instances.read(file, tmp_path / "images")
    assert [len(photo.annotations) for photo in found.photos] == [1, 2, 2, 2, 2, 2]
    whole = instances.read(tmp_path / "labels.json", tmp_path / "images")
    assert precision.score(found, answers(whole))["box_ap"] == pytest.approx(1)


def test_a_smaller_share_lies_inside_a_larger_one_and_the_file_s_order_is_nothing(tmp_path) -> None:
    file = write(tmp_path, 20)
    found = instances.read(file, tmp_path / "images")
    turned = instances.read(change(file, images=lambda rows: rows[::-1]), tmp_path / "images")

    def ids(of, share, seed=0):
        return [photo.id for photo in of.share(share, seed).photos]

    shares = [set(ids(found, share)) for share in (0.1, 0.2, 0.5, 1)]
    assert [len(part) for part in shares] == [2, 4, 10, 20]
    assert all(a < b for a, b in zip(shares, shares[1:], strict=False))
    assert ids(found, 0.5) == ids(turned, 0.5) != ids(found, 0.5, seed=1)


def test_every_epoch_shows_every_image_once_and_the_processes_share_each_batch() -> None:
    order = Order(10, 4, 5, seed=1)
    seen = [number for batch in order for number, _ in batch]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert [*Order(10, 4, 5, seed=1, start=3)] == [*order][3:]
    parts = [[*Order(10, 4, 5, seed=1, rank=rank, num_ranks=2)] for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == [*order]


def test_annotation_ids_from_0_and_ids_as_text_score_the_same_ap_of_1(tmp_path) -> None:
    """pycocotools writes the id of the matched annotation, and takes 0 for none."""
    file = write(tmp_path)

    def renumbered(first, stringify=str):
        def change_rows(rows):
            return [
                row | {"id": i + first, "image_id": stringify(row["image_id"]), "area": None}
                for i, row in enumerate(rows)
            ]

        return change_rows

    def all_0(rows):
        return [row | {"id": 0} for row in rows]

    for changed in (renumbered(0), renumbered(-3), renumbered(7, float), all_0):
        found = instances.read(change(file, annotations=changed), tmp_path / "images")
        values = precision.score(found, answers(found))
        assert values["box_ap"] == pytest.approx(1) and values["mask_ap"] == pytest.approx(1)


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"segmentation": [[]]}, "a polygon must be x, y, x, y, ... of three points or more"),
        ({"segmentation": [[10, 20, 30, 40]]}, "three points or more"),
        ({"segmentation": [10, 20, 30, 20, 30, 40]}, "must be a list of polygons, [[x, y,"),
        ({"segmentation": ["1, 2, 3"]}, "three points or more"),
        ({"segmentation": [[10, 20, 30, 20, 30, float("nan")]]}, "far out of the image"),
        ({"segmentation": {"size": [96, 80], "counts": [7680]}}, "must be [height, width]"),
        ({"segmentation": {"size": [80, 96], "counts": [7]}}, "numbers that fill the image"),
        ({"segmentation": {"size": [80, 96], "counts": "PPYo1"}}, "Invalid RLE"),
        ({"bbox": [0, 0, 0, 0]}, "has no area inside the image"),
        ({"bbox": [10, 10, 1e-7, 5]}, "has no area inside the image"),  # none in float32
        ({"bbox": ["1", "2", "3", "4"]}, "is not four numbers"),
    ],
)
@pytest.mark.parametrize("is_crowd", [0, 1])
def test_an_outline_that_cannot_be_drawn_is_left_out_by_name_before_a_step(
    tmp_path, changed, why, is_crowd
) -> None:
    file = write(tmp_path)

    def break_one(rows):
        return [*rows[:4], rows[4] | changed | {"iscrowd": is_crowd}, *rows[5:]]

    found = instances.read(change(file, annotations=break_one), tmp_path / "images")
    assert list(found.left_out) == ["annotation 1004"] and why in found.left_out["annotation 1004"]
    assert [len(photo.annotations) for photo in found.photos] == [2, 2, 1, 2, 2, 2]
    assert precision.score(found, answers(found))["mask_ap"] == pytest.approx(1)


def test_a_file_of_which_nothing_can_be_used_is_refused_with_the_reasons(tmp_path) -> None:
    def flat(rows):
        return [row | {"segmentation": [1, 2, 3, 4, 5, 6]} for row in rows]

    found = instances.read(change(write(tmp_path), annotations=flat), tmp_path / "images")
    with pytest.raises(ValueError, match="not a crowd; left out: annotation 1000: .* and 7 more"):
        found.with_things()


def test_a_picture_is_found_by_a_name_that_another_system_wrote(tmp_path) -> None:
    file, images = write(tmp_path), tmp_path / "images"
    names = {"0.png": "sub/cafe\u0301.png", "1.png": "X.PNG"}
    for old, new in names.items():
        (images / new).parent.mkdir(exist_ok=True)
        (images / old).rename(images / new)

    def renamed(rows):
        first = rows[0] | {"file_name": "sub\\caf\xe9.png", "width": 96.0}
        return [first, rows[1] | {"file_name": "x.png"}, *rows[2:]]

    found = instances.read(change(file, images=renamed), images)
    assert [photo.file for photo in found.photos[:2]] == [images / new for new in names.values()]
    assert instances.pixels(found.photos[0]).shape == (80, 96, 3) and not found.left_out


def test_an_image_without_a_size_is_left_out_by_name_with_its_labels(tmp_path) -> None:
    file = write(tmp_path)

    def without_sizes(rows):
        return [rows[0] | {"width": None, "height": None}, *rows[1:]]

    found = instances.read(change(file, images=without_sizes), tmp_path / "images")
    assert list(found.left_out) == ["image 0.png"]
    assert "gives no width and height" in found.left_out["image 0.png"]
    assert len(found.photos) == 5 and precision.score(found, answers(found))["box_ap"] == 1


def test_labels_of_a_picture_that_exif_turns_are_refused_before_training(tmp_path) -> None:
    file, images = write(tmp_path), tmp_path / "images"
    for number, orientation in ((0, 6), (1, 3)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(images / f"{number}.png").save(images / f"{number}.png", exif=exif)
    with pytest.raises(ValueError, match="2 image.s.* 80 x 96 .* turned by EXIF, and of 96 x 80"):
        instances.read(file, images)
    found = instances.read(file, images, skip_damaged=True)
    assert list(found.left_out) == ["image 0.png", "image 1.png"] and len(found.photos) == 4


@pytest.mark.parametrize(
    "lists, message",
    [
        (
            {"images": lambda rows: [*rows, rows[0] | {"id": 77}]},
            "images 50 and 77 are both 0.png; give each picture one image",
        ),
        ({"categories": lambda rows: rows[:1]}, "annotation 1001 is of category 3: not there"),
        ({"images": lambda rows: rows[1:]}, "annotation 1000 is of image 50, which is not there"),
        ({"images": lambda rows: [*rows, rows[0]]}, "images has the id 50 twice"),
        ({"images": lambda rows: []}, "is not a COCO file: it has no images"),
        ({"annotations": lambda rows: [{"id": 1}]}, r"annotations\[0\] needs an id .* and bbox"),
        (
            {"annotations": lambda rows: [rows[0] | {"segmentation": None}, *rows[1:]]},
            "1 of 12 annotations have no segmentation, as 1000",
        ),
        (
            {"images": lambda rows: [rows[0] | {"file_name": "gone.png"}, *rows[1:]]},
            "1 image.s. of .* cannot be used: gone.png: is not there; mend .* --skip-damaged",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path, lists, message) -> None:
    file = change(write(tmp_path), **lists)
    with pytest.raises(ValueError, match=message):
        instances.read(file, tmp_path / "images")


def test_what_cannot_be_used_is_left_out_by_name_where_asked(tmp_path) -> None:
    file = write(tmp_path)
    images = tmp_path / "images"
    (images / "0.png").write_bytes((images / "0.png").read_bytes()[:300])
    Image.open(images / "1.png").transpose(Image.Transpose.ROTATE_90).save(images / "1.png")
    Image.open(images / "2.png").convert("L").save(images / "2.png")

    def empty_box(rows):
        rows[4]["bbox"] = [10, 10, 0, 5]
        return rows

    found = instances.read(change(file, annotations=empty_box), images, skip_damaged=True)
    assert list(found.left_out) == ["annotation 1004", "image 0.png", "image 1.png"]
    assert "damaged or incomplete" in found.left_out["image 0.png"]
    assert "80 x 96 pixels, its labels are for 96 x 80" in found.left_out["image 1.png"]
    assert "no area inside the image" in found.left_out["annotation 1004"]
    assert [photo.file.name for photo in found.photos] == ["2.png", "3.png", "4.png", "5.png"]
    assert instances.pixels(found.photos[0]).shape == (80, 96, 3)  # gray, and used
    with pytest.raises(ValueError, match="80 x 96 pixels, its labels are for 96 x 80"):
        instances.pixels(instances.read(file, images).photos[1])
