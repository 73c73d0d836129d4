"""Label efficiency: nested draws, a curve that rises, and a sentence that is true of it."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from loctex.transfer import chart, efficiency, linear
from loctex.transfer.labels import Labels
from tests.loctex.transfer.test_sources import KINDS, picture, write_folders
from tests.loctex.weights import write_run


def labels(counts: dict[str, int]) -> Labels:
    kinds = [name for name, count in counts.items() for _ in range(count)]
    values = np.array([[1 if kind == name else -1 for name in counts] for kind in kinds])
    images = tuple(f"{i:04d}" for i in range(len(kinds)))
    return Labels(images, (), tuple(counts), values.astype(np.int8))


def test_the_first_images_of_a_draw_show_every_class_and_then_grow_in_proportion():
    rare = labels({"common": 160, "some": 32, "rare": 8})
    for seed in range(5):
        order = efficiency.draw(rare, seed)
        assert sorted(order) == list(range(200))
        kinds = (rare.values > 0).argmax(axis=1)[order]
        assert set(kinds[:3]) == {0, 1, 2}
        for count in (50, 100, 150):
            found = np.bincount(kinds[:count], minlength=3) / [160, 32, 8]
            assert np.abs(found - count / 200).max() <= 1 / 8
    orders = [efficiency.draw(rare, seed)[:50].tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_counts_are_shares_of_all_and_never_fewer_than_the_classes():
    many = labels({"a": 300, "b": 500, "c": 200})
    assert efficiency.counts_of(many) == [10, 20, 50, 100, 200, 500, 1000]
    assert efficiency.counts_of(labels({"a": 20, "b": 20})) == [2, 4, 8, 20, 40]
    assert efficiency.counts_of(many, [9, 3, 9]) == [3, 9]
    with pytest.raises(ValueError, match="--counts 1001: there are 1000 images"):
        efficiency.counts_of(many, [10, 1001])


def test_labels_needed_is_read_between_counts_on_a_log_scale():
    counts = [10, 100, 1000]
    assert efficiency.labels_needed([0.2, 0.4, 0.8], counts, 0.4) == pytest.approx(100)
    assert efficiency.labels_needed([0.2, 0.4, 0.8], counts, 0.3) == pytest.approx(10**1.5)
    assert efficiency.labels_needed([0.2, 0.4, 0.8], counts, 0.1) == 10
    assert efficiency.labels_needed([0.2, 0.4, 0.8], counts, 0.9) is None


def test_the_sentence_says_what_the_curves_say():
    counts = [10, 100, 1000]
    ours = np.array([[0.2, 0.4, 0.8], [0.2, 0.6, 0.8]])
    theirs = np.array([[0.1, 0.2, 0.5], [0.1, 0.2, 0.5]])
    assert efficiency.sentence(ours, "LocTex", theirs, "random", counts) == (
        "LocTex with 100 labels (56 to 178 over 2 draws) equals random with 1000."
    )
    assert "LocTex with 10 labels, the fewest tried, reaches random with 1000." == (
        efficiency.sentence(ours, "LocTex", theirs * 0.2, "random", counts)
    )
    assert "LocTex stays below timm: 0.800 against 0.900 with 1000 labels." == (
        efficiency.sentence(ours, "LocTex", theirs + 0.4, "timm", counts)
    )


def test_the_probe_is_ridge_with_the_penalty_of_least_leave_one_out_error():
    random = np.random.default_rng(0)
    train, test = random.normal(size=(40, 12)), random.normal(size=(10, 12))
    shown = np.where(train[:, :2] + random.normal(size=(40, 2)) > 0, 1, -1)
    wanted = np.empty((10, 2))
    for k in range(2):
        errors = [
            np.square(
                cross_val_predict(Ridge(a), train, shown[:, k], cv=LeaveOneOut()) - shown[:, k]
            ).mean()
            for a in linear.ALPHAS
        ]
        best = Ridge(linear.ALPHAS[int(np.argmin(errors))]).fit(train, shown[:, k])
        wanted[:, k] = best.predict(test)
    assert linear.ridge(train, shown, test) == pytest.approx(wanted, abs=1e-6)
    shown[3, 0] = 0  # takes no part in the first class
    again = linear.ridge(train, shown, test)
    assert again[:, 1] == pytest.approx(wanted[:, 1], abs=1e-6)
    without = linear.ridge(np.delete(train, 3, 0), np.delete(shown, 3, 0)[:, :1], test)
    assert again[:, :1] == pytest.approx(without, abs=1e-9)


def run_command(run, *more: str) -> tuple[dict, dict]:
    to = run.parent / "out" / "result.json"
    efficiency.main([f"--run={run}", f"--to={to}", "--device=cpu", *more])
    return json.loads(to.read_text()), json.loads(to.with_name("subsets.json").read_text())


def test_the_command_scores_rows_and_writes_the_images_of_every_draw(tmp_path, capsys):
    run = write_run(tmp_path / "mine")
    plain = write_run(tmp_path / "plain", seed=1, loss__localization_weight=0.0)
    folder = write_folders(tmp_path / "insects")
    more = (f"--labels={folder}", f"--also={plain}", "--seeds=3")
    result, subsets = run_command(run, *more)
    assert result["measure"] == "accuracy" and result["counts"] == [2, 3, 8, 16]
    names = [row["name"] for row in result["rows"]]
    assert names == ["random initialization", "mine", "plain, contrastive only"]
    assert [len(row["mean"]) for row in result["rows"]] == [4, 4, 4]
    assert [row["mean"][-1] for row in result["rows"][:2]] == [1.0, 1.0]  # red is not green
    assert {row["std"][-1] for row in result["rows"]} == {0.0}
    assert len(result["sentences"]) == 2 and "mine" in result["sentences"][0]
    assert [len(order) for order in subsets.values()] == [16, 16, 16]
    assert subsets["0"] != subsets["1"]
    assert result["sentences"][0] in capsys.readouterr().out
    assert (tmp_path / "out" / "chart.svg").read_text() == chart.svg(result)
    assert run_command(run, *more) == (result, subsets)


def test_the_chart_draws_each_row_with_a_bar_of_one_deviation_at_each_count():
    rows = [
        {"name": "a<b", "mean": [0.25, 0.5, 0.75], "std": [0.125, 0.05, 0.0]},
        {"name": "c", "mean": [0.1, 0.2, 0.3], "std": [0.0, 0.0, 0.0]},
    ]
    text = chart.svg({"counts": [10, 100, 1000], "rows": rows, "measure": "map", "num_test": 9})
    root = ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    lines = [line.get("points").split() for line in root.iter(f"{name}polyline")]
    places = [[tuple(map(float, point.split(","))) for point in line] for line in lines]
    assert [len(line) for line in places] == [3, 3]
    x, y = zip(*places[0], strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)  # a log scale
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.11)
    _, first, end = re.match(
        r"M(\S+) (\S+)V([\d.]+)", next(root.iter(f"{name}path")).get("d")
    ).groups()
    assert float(end) - float(first) == pytest.approx(y[0] - y[1], abs=0.21)  # 2 x .125
    said = [item.text for item in root.iter(f"{name}text")]
    assert "a<b" in said and "1,000" in said and "0 %" in said and "80 %" in said


def test_a_picture_that_is_also_tested_on_is_taken_out_of_training_by_name(tmp_path):
    folder = write_folders(tmp_path / "insects", 5, ("train", "test"))
    for name in KINDS:
        for i in range(5):
            picture(name, 50 + i).save(folder / "test" / name / f"test{i}.png")
    copy = folder / "train" / "ant" / "train3.png"
    copy.write_bytes((folder / "test" / "ant" / "test1.png").read_bytes())
    copy = folder / "train" / "bee" / "train0.png"
    copy.write_bytes((folder / "test" / "bee" / "test0.png").read_bytes())
    result, subsets = run_command(write_run(tmp_path / "mine"), f"--labels={folder}")
    assert (result["num_train"], result["num_test"]) == (8, 10)
    assert list(result["left_out"]) == ["image train/ant/train3.png", "image train/bee/train0.png"]
    assert (
        "the same picture as test/ant/test1.png" in result["left_out"]["image train/ant/train3.png"]
    )
    assert not {"train/ant/train3.png", "train/bee/train0.png"} & set(subsets["0"])


def test_a_class_of_one_image_is_named_and_missing_files_are_refused(tmp_path):
    folder = write_folders(tmp_path / "insects")
    (folder / "cicada").mkdir()
    picture("ant", 7).save(folder / "cicada" / "only.png")
    run = write_run(tmp_path / "mine")
    result, _ = run_command(run, f"--labels={folder}", "--seeds=1")
    assert result["classes"] == ["ant", "bee"] and result["measure"] == "accuracy"
    assert list(result["left_out"]) == ["class cicada"]
    lines = ["image,label", *(f"{name}/{i}.png,{name}" for name in KINDS for i in range(10))]
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "ant/99.png,ant"]))
    more = (f"--labels={tmp_path / 'labels.csv'}", f"--images={folder}", "--seeds=1")
    with pytest.raises(SystemExit, match="1 image.s. cannot be read: ant/99.png: .*No such file"):
        run_command(run, *more)
    result, _ = run_command(run, *more, "--skip-damaged")
    assert result["num_train"] + result["num_test"] == 20
    assert list(result["left_out"]) == ["image ant/99.png"]


def test_the_spread_over_draws_is_the_sample_deviation_and_zero_of_one_draw():
    values = np.array([[0.1, 0.5], [0.3, 0.5], [0.2, 0.8]])
    np.testing.assert_allclose(linear.sample_deviation(values), [0.1, np.sqrt(0.03)])
    assert linear.sample_deviation(values[:1]).tolist() == [0.0, 0.0]
