"""Rendered scenes: what is written is true of what is drawn, and repeatable."""

import functools
import json
import re

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from data_tools import scenes
from data_tools.simulation import scene_pictures
from data_tools.simulation.scene_captions import RELATIONS
from loctex.records.narrative import read_jsonl

NOUNS = {noun: shape for shape, nouns in scenes.NAMES.items() for noun in nouns}
WAYS = {words: way for way, options in RELATIONS.items() for words in options}
RELATION = "|".join(sorted(WAYS, key=len, reverse=True))


pytestmark = pytest.mark.filterwarnings(  # pycocotools 2.0.10 with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@functools.cache
def some(count=300):
    return [scenes.scene(seed) for seed in range(count)]


def mask_of(region):
    return rle.decode(region["rle"]).astype(bool)


def center(region):
    """x, y in fractions, of the box."""
    x0, y0, x1, y1 = region["box"]
    return np.array([x0 + x1, y0 + y1]) / 2


def things(scene):
    """The first naming of each thing."""
    return list({tuple(region["box"]): region for region in scene.regions[::-1]}.values())


def lies(way, region, other, size):
    dx, dy = (center(region) - center(other)) * size
    return {"left": -dx, "right": dx, "above": -dy, "below": dy}[way]


def test_a_scene_is_the_same_on_every_call_and_another_seed_is_another_scene():
    first, again, other = scenes.scene(7), scenes.scene(7), scenes.scene(8)
    assert np.array_equal(first.image, again.image)
    assert first.narrative.to_json() == again.narrative.to_json()
    assert first.regions == again.regions
    assert first.narrative.caption != other.narrative.caption


def test_scene_i_of_a_seed_does_not_depend_on_the_count(tmp_path):
    seen = []
    scenes.write(tmp_path / "two", 2, seed=3, progress=lambda done, total: seen.append(done))
    scenes.write(tmp_path / "four", 4, seed=3)
    assert seen == [1, 2]
    for name in ("narratives.jsonl", "regions.jsonl"):  # long: the regions, after the loop
        short, long = ((tmp_path / count / name).read_text() for count in ("two", "four"))
        assert long.startswith(short)
    narratives = list(read_jsonl(tmp_path / "four" / "narratives.jsonl"))
    assert [n.image_id for n in narratives] == ["03000000", "03000001", "03000002", "03000003"]
    made = scenes.scene(3_000_001)
    assert narratives[1].to_json() == made.narrative.to_json()
    picture = cv2.imread(str(tmp_path / "four" / "images" / "03000001.jpg"))[..., ::-1]
    assert np.abs(picture.astype(int) - made.image).mean() < 4  # JPEG's loss
    lines = [json.loads(line) for line in long.splitlines()]
    assert [line for line in lines if line["image_id"] == "03000001"] == made.regions


def test_the_command_writes_what_was_asked_for(tmp_path, capsys):
    scenes.main(["--count", "3", "--to", str(tmp_path), "--seed", "12"])
    assert "3 scenes in" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "images",
        "narratives.jsonl",
        "regions.jsonl",
    ]
    assert len(list((tmp_path / "images").iterdir())) == 3


@pytest.mark.parametrize(
    "count, seed, message",
    [
        (0, 0, "count: must be within 1 and 1000000, got 0"),
        (1_000_001, 0, "count: must be within 1 and 1000000, got 1000001"),
        (1, -1, "seed: must be 0 or more, got -1"),
    ],
)
def test_an_impossible_request_is_refused_and_nothing_written(
    tmp_path, capsys, count, seed, message
):
    with pytest.raises(ValueError, match=message):
        scenes.write(tmp_path / "to", count, seed)
    with pytest.raises(SystemExit, match="2"):
        scenes.main(["--count", str(count), "--seed", str(seed), "--to", str(tmp_path / "to")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_a_scene_fits_any_size_up_to_two_to_one():
    for size in ((96, 96), (192, 96), (128, 250)):
        for seed in range(20):
            made = scenes.scene(seed, size)
            assert made.image.shape == (size[1], size[0], 3)
            assert len(things(made)) >= 2
    for size in ((95, 96), (300, 100)):
        with pytest.raises(ValueError, match="size: sides of at least 96 pixels"):
            scenes.scene(0, size)


def test_two_to_four_things_are_large_enough_and_each_is_named():
    counts = [len(things(scene)) for scene in some()]
    assert {count: counts.count(count) > 60 for count in set(counts)} == {2: True, 3: True, 4: True}
    for scene in some():
        height, width = scene.image.shape[:2]
        assert 150 <= min(height, width) and max(height, width) <= 256
        for region in things(scene):
            x0, y0, x1, y1 = region["box"]
            assert max((x1 - x0) * width, (y1 - y0) * height) > 0.17 * max(width, height)
        masks = [mask_of(region) for region in things(scene)]
        assert sum(masks, np.zeros((height, width), int)).max() == 1  # only what is visible


def test_boxes_are_tight_and_name_the_right_characters():
    for scene in some():
        for region in scene.regions:
            mask, (x0, y0, x1, y1) = mask_of(region), region["box"]
            height, width = mask.shape
            assert mask.shape == scene.image.shape[:2]
            assert np.argwhere(mask).min(axis=0).tolist() == [round(y0 * height), round(x0 * width)]
            assert (np.argwhere(mask).max(axis=0) + 1).tolist() == [
                round(y1 * height),
                round(x1 * width),
            ]
            name = scene.narrative.caption[region["start"] : region["end"]]
            assert re.fullmatch(
                rf"(({'|'.join(scene_pictures.COLORS)}) )?({'|'.join(NOUNS)})", name
            )


def test_colors_are_true_and_stand_out_from_the_ground():
    for scene in some():
        ground = ~np.any([mask_of(region) for region in scene.regions], axis=0)
        for region in scene.regions:
            name = scene.narrative.caption[region["start"] : region["end"]]
            seen = np.median(scene.image[mask_of(region)], axis=0)
            if name.split()[0] in scene_pictures.COLORS:
                nearest = min(
                    scene_pictures.COLORS,
                    key=lambda c: scene_pictures.distance(seen, scene_pictures.COLORS[c]),
                )
                assert name.startswith(nearest)
            assert scene_pictures.distance(seen, np.median(scene.image[ground], axis=0)) > 20


def test_shapes_differ_and_no_thing_is_named_like_another_of_its_scene():
    assert set(scenes.NAMES) == set(scene_pictures.SHAPES)
    outlines = {}
    for shape in scene_pictures.SHAPES:
        image = np.zeros((100, 100, 3), np.float32)
        mask = scene_pictures.paint(
            image, shape, (200, 0, 0), (50, 50), 80, np.random.default_rng(0)
        )
        outlines[shape] = mask
    for shape, mask in outlines.items():
        for other, its in outlines.items():
            assert shape == other or (mask & its).sum() / (mask | its).sum() < 0.85
    for scene in some():
        names = set()
        for region in things(scene):
            name = scene.narrative.caption[region["start"] : region["end"]]
            color, _, noun = name.partition(" ")
            names.add((color, NOUNS[noun]))
        assert len(names) == len(things(scene))


def test_relations_are_true():
    checked = 0
    for scene in some():
        caption = scene.narrative.caption
        size = scene.image.shape[1::-1]
        for first, second in zip(scene.regions, scene.regions[1:], strict=False):
            between = caption[first["end"] : second["start"]]
            said = re.fullmatch(rf"[a-z ]* ({RELATION}) (the|an?)( \w+)? ", between)
            if said:
                assert lies(WAYS[said[1]], first, second, size) > 0, caption
                checked += 1
            before = re.search(rf"({RELATION}) the $", caption[: first["start"]], re.IGNORECASE)
            if before and before.start() in (0, *(m.end() for m in re.finditer(r"\. ", caption))):
                assert lies(WAYS[before[1].lower()], second, first, size) > 0, caption
                checked += 1
    assert checked > 250


def test_places_in_the_picture_are_true():
    checked = 0
    word = "top|bottom|upper|lower|left|right|middle|center"
    place = rf" (?:at|in|on|near) the ((?:{word})(?: left| right)?)"
    limits = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}
    limits |= {"upper": limits["top"], "lower": limits["bottom"]}
    for scene in some():
        for region in scene.regions:
            after = scene.narrative.caption[region["end"] :]
            said = re.match(place + r"(?! side of| of)", after)
            for part in said[1].split() if said else ():
                axis, sign = limits.get(part, (None, 0))
                if axis is None:
                    assert np.abs(center(region) - 0.5).max() < 0.2, scene.narrative.caption
                else:
                    assert sign * (center(region)[axis] - 0.5) > 0.1, scene.narrative.caption
                checked += 1
    assert checked > 150


def test_three_hundred_captions_are_varied_and_tell_the_scenes_apart():
    captions = [scene.narrative.caption for scene in some()]
    assert len(set(captions)) == 300
    lengths = [len(caption.split()) for caption in captions]
    assert min(lengths) >= 8 and max(lengths) <= 36
    assert np.percentile(lengths, 90) - np.percentile(lengths, 10) >= 12
    assert len({" ".join(caption.split()[:3]) for caption in captions}) > 60
    named = [frozenset(NOUNS.get(w, w) for w in re.findall(r"\w+", c)) for c in captions]
    assert len(set(named)) >= 297


def test_words_are_the_caption_and_about_three_fifths_of_the_points_are_inside():
    inside = []
    for scene in some():
        narrative = scene.narrative
        assert " ".join(word.text for word in narrative.words) == narrative.caption
        points = np.concatenate(narrative.strokes)
        starts = np.cumsum([0] + [len(word.text) + 1 for word in narrative.words])
        for region in scene.regions:
            first, last = (
                np.searchsorted(starts, [region["start"], region["end"]], side="right") - 1
            )
            begin, end = narrative.words[first].start, narrative.words[last].end
            during = points[(points[:, 2] >= begin) & (points[:, 2] <= end), :2]
            x0, y0, x1, y1 = region["box"]
            inside.append(((during >= (x0, y0)) & (during <= (x1, y1))).all(axis=1))
    assert np.concatenate(inside).mean() == pytest.approx(0.59, abs=0.03)
