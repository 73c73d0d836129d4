import json
import re

import numpy as np

from data_tools import scene_foils
from data_tools.scene_foils import attribute_foil, relation_foil
from data_tools.simulation.scene_captions import RELATIONS
from data_tools.simulation.scene_pictures import COLORS
from loctex.records.snapshot import Snapshot

OPPOSITE = [("left", "right"), ("right", "left"), ("above", "below"), ("below", "above")]


def turned(caption: str) -> set[str]:
    """The caption with each one relation turned round, in each wording."""
    return {
        caption[: m.start()] + other + caption[m.end() :]
        for side, opposite in OPPOSITE
        for phrase in RELATIONS[side]
        for m in re.finditer(rf"\b{phrase}\b", caption)
        for other in RELATIONS[opposite]
    }


def test_one_color_or_shape_changes_to_one_that_nothing_has():
    caption = "A big red circle is left of an orange box."
    namings = [(6, 16), (31, 41)]
    assert [caption[a:b] for a, b in namings] == ["red circle", "orange box"]
    found = {attribute_foil(caption, namings, np.random.default_rng(i)) for i in range(300)}
    assert caption not in found and len(found) == 2 * (7 + 7)
    assert "A big red star is left of an orange box." in found
    assert "A big red circle is left of a blue square." in found
    for foil in found:
        assert not re.search(r"\ba [aeio]|\ban [^aeio]", foil), foil
        assert ("red circle" in foil) + ("orange box" in foil) == 1  # one of the two is gone


def test_one_relation_turns_round_and_nothing_else():
    caption = "A red circle is to the left of a blue star. Above it there is a ring."
    namings = [(2, 12), (33, 42), (64, 68)]
    found = {relation_foil(caption, namings, np.random.default_rng(i)) for i in range(50)}
    assert found == {
        "A red circle is to the right of a blue star. Above it there is a ring.",
        # "Above" opens a sentence: only relations written small are turned
    }
    assert relation_foil("There is a red circle.", [(11, 21)], np.random.default_rng(0)) is None


def test_every_foil_of_a_snapshot_is_false_and_the_file_is_the_same_each_time(snapshot, tmp_path):
    for name in ("one", "two"):
        scene_foils.main([f"--data={snapshot}", "--split=train", f"--to={tmp_path / name}"])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "one").read_text().splitlines()]
    split = Snapshot.open(snapshot).split("train")
    things = {}
    for item in (split[i] for i in range(len(split))):
        caption = item.narratives[0].caption
        things[item.image_id] = {caption[r.start : r.end] for r in item.regions[0]}
    kinds = [row["kind"] for row in rows]
    assert kinds.count("attribute") == len(split) and kinds.count("relation") > len(split) / 2
    for row in rows:
        if row["kind"] == "attribute":
            named = set(re.findall(rf"\b(?:{'|'.join(COLORS)}) \w+(?: sign)?", row["foil"]))
            assert len(named - things[row["image_id"]]) == 1
        else:
            assert row["foil"] in turned(row["caption"])
