"""Pictures that look alike are found across splits, whatever was done to them, and no others."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.freezing import near_duplicates
from data_tools.snapshot import main
from loctex.records.images import decode_image
from loctex.records.narrative import write_jsonl
from loctex.records.snapshot import Snapshot
from tests.data_tools.samples import narrative


def test_pictures_that_look_alike_are_found_across_splits_and_no_others(tmp_path, shared_data):
    names = sorted((shared_data / "coco/images").iterdir())[:300]
    images = [decode_image(name) for name in names]
    looks = [near_duplicates.perceptual_hash(image) for image in images]
    alike = []
    for image in images[:100]:
        height, width = image.shape[:2]
        smaller = cv2.resize(image, (width * 2 // 3, height * 2 // 3), interpolation=cv2.INTER_AREA)
        jpeg = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
        alike.append(near_duplicates.perceptual_hash(decode_image(jpeg)))
    hashes = np.array(looks + alike, np.uint64)
    pairs = near_duplicates.find(hashes, np.repeat([0, 1], [300, 100]))
    right = {(i, 300 + i) for i in range(100)}
    found = {(a, b) for a, b, _ in pairs.tolist()}
    assert len(found & right) >= 95 and len(found - right) <= 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.randoms(use_true_random=False))
def test_near_pairs_are_those_that_all_comparisons_give(bases, random):
    hashes = [
        base ^ sum(1 << random.randrange(64) for _ in range(random.randrange(7)))
        for base in bases
        for _ in range(3)
    ]
    hashes = list(dict.fromkeys(h % 2**64 for h in hashes))
    groups = [random.randrange(3) for _ in hashes]
    expected = {
        (i, j, (hashes[i] ^ hashes[j]).bit_count())
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if groups[i] != groups[j]
        and hashes[i]
        and hashes[j]
        and (hashes[i] ^ hashes[j]).bit_count() <= near_duplicates.NEAR
    }
    found = near_duplicates.find(np.array(hashes, np.uint64), np.array(groups, int))
    assert {tuple(pair) for pair in found.tolist()} == expected


def test_a_picture_in_two_splits_is_reported(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2, 90, 120, 3), np.uint8)
    noise = [cv2.GaussianBlur(one, (0, 0), 9).astype(float) for one in noise]
    noise = [cv2.normalize(one, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8) for one in noise]
    smaller = cv2.resize(noise[0], (80, 60), interpolation=cv2.INTER_AREA)
    for name, image in (("1", noise[0]), ("2", smaller), ("3", noise[1])):
        (tmp_path / f"images/{name}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    said = [
        narrative("1", dataset_id="a_train"),
        narrative("2", dataset_id="a_val"),
        narrative("3", dataset_id="a_test"),
    ]
    write_jsonl(tmp_path / "narratives.jsonl", said)
    arguments = ["--narratives", str(tmp_path / "narratives.jsonl"), "--license", "mine alone"]
    arguments += ["--images", str(tmp_path / "images"), "--to", str(tmp_path / "s")]
    assert main(arguments) == 0
    assert (
        "look alike in two splits: 1 pairs, as 1 in train and 2 in val" in capsys.readouterr().out
    )
    manifest = Snapshot.open(tmp_path / "s").manifest
    assert manifest["near_duplicates"]["count"] == 1
    assert manifest["sources"]["a_val"]["license"] == "mine alone"
