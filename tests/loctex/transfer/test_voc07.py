"""VOC07: equal to a plain scikit-learn computation, and no image is counted that should not be."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from loctex.transfer import linear, voc, voc07
from loctex.transfer.labels import Labels
from tests.loctex.weights import write_run

COLORS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "boat": (40, 40, 200)}


def clouds(seed: int, num_images: int, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(N, 16) features of length 1 that lean towards what is shown, and their (N, K) labels."""
    random = np.random.default_rng(seed)
    values = random.choice([1, -1, -1, 0], size=(num_images, num_classes)).astype(np.int8)
    centers = np.random.default_rng(99).normal(size=(num_classes, 16))
    rows = (values > 0) @ centers + random.normal(size=(num_images, 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), values


def by_hand(train, shown, test, truth) -> tuple[float, float]:
    """METHOD section 4 for one class, written out: AP and chosen cost."""
    train, shown = train[shown != 0], shown[shown != 0]
    best, chosen = -1.0, 0.0
    for cost in (0.01, 0.1, 1.0, 10.0):
        parts = []
        for fit, held in StratifiedKFold(3).split(train, shown):
            model = LinearSVC(C=cost, class_weight={1: 2, -1: 1}, max_iter=2000)
            model.fit(train[fit], shown[fit])
            values = model.decision_function(train[held])
            parts.append(average_precision_score(shown[held] == 1, values))
        if np.mean(parts) > best:
            best, chosen = float(np.mean(parts)), cost
    model = LinearSVC(C=chosen, class_weight={1: 2, -1: 1}, max_iter=2000).fit(train, shown)
    keep = truth != 0
    values = test[keep] @ model.coef_[0] + model.intercept_[0]
    return average_precision_score(truth[keep] == 1, values), chosen


def test_the_svm_protocol_equals_scikit_learn_by_hand_to_1e_6():
    train, shown = clouds(0, 90)
    test, truth = clouds(1, 80)
    found = linear.score(train, shown, test, truth, num_jobs=1)
    for k, row in enumerate(found):
        ap, cost = by_hand(train, shown[:, k], test, truth[:, k])
        assert row["ap"] == pytest.approx(ap, abs=1e-6)
        assert row["cost"] == cost
    assert np.mean([row["ap"] for row in found]) > 0.6  # chance is 1/3
    assert {row["cost"] for row in found} != {0.01}


def test_images_with_difficult_objects_only_change_nothing():
    train, shown = clouds(0, 90)
    test, truth = clouds(1, 80)
    noise = np.random.default_rng(5).normal(size=train.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    for k in range(shown.shape[1]):
        values, true = shown[:, k : k + 1], truth[:, k : k + 1]
        changed = np.where(values == 0, noise, train), np.where(true == 0, noise[:80], test)
        plain, other = (train, values, test, true), (changed[0], values, changed[1], true)
        assert (values == 0).sum() > 15 and (true == 0).sum() > 15
        assert linear.score(*plain, num_jobs=1) == linear.score(*other, num_jobs=1)
        assert linear.neighbors(*plain) == linear.neighbors(*other)
        few = [linear.low_shot(*part, (1, 4), num_jobs=1) for part in (plain, other)]
        assert few[0] == few[1]


def test_low_shot_draws_k_positives_and_nests_its_samples():
    train, shown = clouds(0, 200)
    for sample in range(5):
        drawn = [set(linear.few(shown, 2, k, sample)) for k in (1, 2, 8)]
        assert drawn[0] < drawn[1] < drawn[2]
        for k, rows in zip((1, 2, 8), drawn, strict=True):
            values = shown[sorted(rows), 2]
            assert ((values > 0).sum(), (values < 0).sum()) == (k, 3 * k)
    assert set(linear.few(shown, 2, 8, 0)) != set(linear.few(shown, 2, 8, 1))


def test_more_shots_score_higher_and_a_class_that_runs_out_ends_the_row():
    train, shown = clouds(0, 200)
    test, truth = clouds(1, 300)
    found = linear.low_shot(train, shown, test, truth, num_jobs=1)
    assert list(found) == [1, 2, 4, 8, 16, 32]  # the rarest class has fewer than 64
    means = [found[k]["mean"] for k in found]
    assert means[-1] > means[0] + 0.1
    assert 0 < found[1]["std"] < 0.1


def test_neighbors_know_what_they_have_seen_and_guess_at_noise():
    train, shown = clouds(0, 300)
    shown = np.where(shown == 0, -1, shown)
    assert linear.neighbors(train, shown, train, shown, count=1) == 1.0
    noise = np.random.default_rng(3).normal(size=train.shape)
    share = (shown > 0).mean()
    assert linear.neighbors(train, shown, noise, shown) == pytest.approx(share, abs=0.06)


def write_devkit(root: Path, num_images: int = 18) -> Path:
    """Images of one color per class and noise; every third one shows two classes."""
    folder = root / "VOCdevkit" / "VOC2007"
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, start in (("trainval", 0), ("test", 500)):
        images = [f"{start + i:06d}" for i in range(num_images)]
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
        for i, image in enumerate(images):
            shown = [list(COLORS)[i % 3]]
            pixels = np.full((48, 64, 3), COLORS[shown[0]]) + random.normal(0, 30, (48, 64, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / "JPEGImages" / f"{image}.jpg"
            )
            write_objects(folder, image, [(name, 0) for name in shown])
    return folder


def write_objects(folder: Path, image: str, objects: list[tuple[str, int]]) -> None:
    parts = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        "<part><name>head</name></part></object>"
        for name, difficult in objects
    )
    (folder / "Annotations" / f"{image}.xml").write_text(f"<annotation>{parts}</annotation>")


def column(labels: Labels, name: str) -> list[int]:
    return labels.values[:, labels.classes.index(name)].tolist()


def test_a_class_is_shown_unless_all_its_objects_are_difficult(tmp_path):
    folder = write_devkit(tmp_path)
    write_objects(folder, "000000", [("cat", 1), ("dog", 1), ("dog", 0)])
    train, _ = voc.read(folder, "trainval", "test")
    assert train.classes == ("boat", "cat", "dog")  # a part of an object is no object
    assert column(train, "cat")[:6] == [0, -1, -1, 1, -1, -1]
    assert column(train, "dog")[:6] == [1, 1, -1, -1, 1, -1]
    as_virtex = voc07.read(folder, None, None, difficult="negative")
    assert column(as_virtex.train, "cat")[:4] == [-1, -1, -1, 1]


def run_voc07(run: Path, folder: Path, *more: str) -> dict:
    to = run.parent / "result.json"
    voc07.main([f"--run={run}", f"--voc={folder}", f"--to={to}", "--device=cpu", "--jobs=1", *more])
    return json.loads(to.read_text())


def test_the_command_tells_colors_apart_whatever_the_order_of_the_images(tmp_path, capsys):
    run, folder = write_run(tmp_path / "mine"), write_devkit(tmp_path)
    other = write_run(tmp_path / "plain", seed=1, loss__localization_weight=0.0)
    first = run_voc07(run, folder.parent, f"--also={other}")
    names = [row["name"] for row in first["rows"]]
    assert names == ["random initialization", "mine", "plain, contrastive only"]
    assert first["rows"][1]["map"] > 0.9 and first["rows"][1]["knn"] > 0.9
    assert list(first["rows"][1]["low_shot"]) == ["1", "2", "4"]
    assert (first["num_train"], first["num_test"], first["left_out"]) == (18, 18, {})
    printed = capsys.readouterr().out
    assert f"{100 * first['rows'][1]['map']:6.2f}" in printed and "k=4" in printed

    for file in (folder / "ImageSets/Main").iterdir():
        file.write_text("\n".join(reversed(file.read_text().split())))
    again = run_voc07(run, folder, f"--also={other}")
    for row in (*first["rows"], *again["rows"]):
        row.pop("seconds")
    assert again["rows"] == first["rows"]


def test_a_class_without_positives_is_named_and_not_in_the_mean(tmp_path):
    run, folder = write_run(tmp_path / "mine"), write_devkit(tmp_path)
    write_objects(folder, "000000", [("cat", 0), ("unicorn", 0)])
    write_objects(folder, "000500", [("cat", 0), ("ghost", 0)])
    result = run_voc07(run, folder, "--protocols", "svm")
    assert result["classes"] == ["boat", "cat", "dog"]
    assert result["left_out"] == {
        "class ghost": "0 positive image(s) to train on, 3 needed",
        "class unicorn": "1 positive image(s) to train on, 3 needed",
    }
    for image in (folder / "Annotations").iterdir():
        write_objects(folder, image.stem, [])
    write_objects(folder, "000000", [("cat", 0)])
    with pytest.raises(SystemExit, match="no class can be scored: class cat: 1 positive"):
        run_voc07(run, folder)


def test_damaged_images_are_refused_or_left_out_by_name(tmp_path):
    run, folder = write_run(tmp_path / "mine"), write_devkit(tmp_path)
    whole = (folder / "JPEGImages/000501.jpg").read_bytes()
    (folder / "JPEGImages/000501.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "JPEGImages/000002.jpg").unlink()
    with pytest.raises(SystemExit, match="2 image.s. cannot be read: 000002: .*000501"):
        run_voc07(run, folder)
    result = run_voc07(run, folder, "--skip-damaged", "--protocols", "svm")
    assert (result["num_train"], result["num_test"]) == (17, 17)
    assert list(result["left_out"]) == ["image 000002", "image 000501"]
    assert result["rows"][0]["classes"]["boat"]["num_train"] == 5


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations/000003.xml", None, r"1 annotation\(s\) of trainval unusable: 000003.xml"),
        ("Annotations/000003.xml", "<annotation><obj", "000003.xml"),
        ("Annotations/000003.xml", "<annotation><object/></annotation>", "object has no name"),
        ("ImageSets/Main/test.txt", "000001\n", "1 image.s. are in both train and test"),
        ("ImageSets/Main/test.txt", "000501\n000501\n", "names images twice: 000501"),
        ("ImageSets/Main/test.txt", "\n", "names no image"),
        ("ImageSets/Main/test.txt", None, "has no pair of sets"),
    ],
)
def test_a_broken_devkit_is_refused_in_words(tmp_path, file, content, message):
    folder = write_devkit(tmp_path)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        voc07.read(folder, None, None)


def test_a_folder_that_is_no_devkit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no VOCdevkit"):
        voc.find(tmp_path)


def test_genuine_annotations_agree_with_the_class_files_beside_them(shared_data):
    folder = voc.find(shared_data / "voc")
    train, test = voc.read(folder, *voc.splits(folder))
    assert (len(train), len(test), len(train.classes)) == (366, 390, 20)
    for labels, split in ((train, "train"), (test, "test")):
        for name in labels.classes:
            lines = (folder / "ImageSets/Main" / f"{name}_{split}.txt").read_text().splitlines()
            listed = {image: int(value) for image, value in map(str.split, lines)}
            found = dict(zip(labels.images, column(labels, name), strict=True))
            assert found == listed
