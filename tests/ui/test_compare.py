"""Runs beside each other: what differs, what was reached, their curves, and their films."""

import json

from loctex import settings
from loctex.jobs.run import Run
from loctex.settings import with_values
from loctex.settings.presets import PRESETS
from ui.train import compare
from ui.train.curves import History
from ui.train.film_frames import film, moments


def run_of(path, **train) -> Run:
    run = Run(path)
    run.path.mkdir()
    run.settings_file.write_text(settings.dump(with_values(PRESETS["tiny"], {"train": train})))
    return run


def test_the_table_shows_what_differs_and_what_was_reached(tmp_path):
    one, two = run_of(tmp_path / "one"), run_of(tmp_path / "two", learning_rate=0.5, seed=3)
    three = run_of(tmp_path / "three", seed=3, steps=9)
    one.log(20, val_pointing_region=0.25, val_image_to_text_r1=0.5)
    compare.remark(two, star=True)
    compare.remark(two, note="too <fast>")
    shown = compare.table([one, two, three], ["one", "two"])
    assert shown["settings"] == ["train.learning_rate", "train.seed"]
    assert shown["scores"] == ["Pointing", "Caption of an image"]
    rows = {row["name"]: row for row in shown["rows"]}
    assert rows["one"]["scores"] == {"Pointing": 0.25, "Caption of an image": 0.5}
    assert rows["one"]["settings"] == {"train.learning_rate": "0.002", "train.seed": "0"}
    assert (rows["two"]["star"], rows["two"]["note"]) == (True, "too <fast>")
    assert [row["picked"] for row in shown["rows"]] == [True, True, False]
    assert compare.table([one, two, three], [])["settings"] == [
        "train.steps",
        "train.learning_rate",
        "train.seed",
    ]
    assert compare.table([], []) == {"rows": [], "scores": [], "settings": [], "picked": []}


def test_a_run_has_one_color_in_all_charts(tmp_path):
    histories = []
    for name in ("one", "two"):
        run = run_of(tmp_path / name)
        run.log(20, loss=2.0)
        if name == "two":
            run.log(20, val_pointing_region=0.5)
        histories.append(History(run))
        histories[-1].read()
    panels = compare.chart(histories)["panels"]
    assert [panel["title"] for panel in panels] == ["Loss", "Pointing at the thing named"]
    colors = [(line["name"], line["color"]) for line in panels[0]["lines"]]
    assert colors == [("one", 1), ("two", 2)]
    assert panels[1]["lines"][0]["color"] == 2
    assert compare.chart([])["panels"] == []


def test_a_broken_remark_is_no_remark(tmp_path):
    run = run_of(tmp_path / "one")
    run.remarks_file.write_text("{")
    assert compare.remarks(run) == {"star": False, "note": ""}


def test_a_film_is_thinned_to_moments_early_ones_closer(tmp_path):
    steps = list(range(0, 1001, 10))
    kept = [steps[i] for i in moments(steps, 8)]
    assert len(kept) == 8 and (kept[0], kept[-1]) == (0, 1000)
    gaps = [b - a for a, b in zip(kept, kept[1:], strict=False)]
    assert gaps == sorted(gaps)
    assert moments([0, 5, 9], 8) == [0, 1, 2]
    assert moments(list(range(9)), 8) == [0, 1, 2, 3, 4, 5, 6, 8]

    run = Run(tmp_path / "one")
    assert film(run)["message"].startswith("Its first pictures")
    run.path.mkdir()
    head = {"grid": [2, 2], "pictures": [{"caption": "a", "words": []}, {"caption": "b"}]}
    frames = [{"step": s, "maps": [f"a{s}", f"b{s}"], "hits": [[], [True]]} for s in steps]
    run.film_file.write_text("".join(json.dumps(line) + "\n" for line in (head, *frames)))
    shown = film(run)
    assert shown["steps"] == kept and shown["grid"] == [2, 2]
    assert shown["pictures"][1]["maps"] == [f"b{step}" for step in kept]
