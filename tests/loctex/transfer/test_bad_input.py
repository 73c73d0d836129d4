"""What people have instead of clean data: named and left out, or refused; never counted silently.

Classes without positives, labels of missing files and damaged images are also in test_voc07.py,
test_efficiency.py and test_instances.py; damaged archives in tests/data_tools/test_archives.py.
"""

import json

import datasets
import pytest
from PIL import Image

from loctex.transfer import coco, efficiency, instances, precision
from tests.loctex.transfer.shapes import change, write
from tests.loctex.transfer.test_coco import words
from tests.loctex.transfer.test_instances import answers
from tests.loctex.transfer.test_sources import KINDS, picture, write_folders
from tests.loctex.weights import write_run


def evaluate(tmp_path, labels, *more: str) -> dict:
    run = tmp_path / "mine"
    if not run.exists():
        write_run(run)
    to = tmp_path / "out" / "result.json"
    efficiency.main(
        [f"--run={run}", f"--labels={labels}", f"--to={to}", "--device=cpu", "--seeds=1", *more]
    )
    return json.loads(to.read_text())


def test_a_category_without_a_thing_is_not_in_the_mean(tmp_path) -> None:
    file = change(write(tmp_path), categories=lambda rows: [*rows, {"id": 9, "name": "ghost"}])
    found = instances.read(file, tmp_path / "images")
    assert precision.score(found, answers(found))["box_ap"] == pytest.approx(1)


def test_one_image_is_too_few_to_compare_and_enough_to_learn_by_heart(tmp_path) -> None:
    (tmp_path / "one" / "ant").mkdir(parents=True)
    picture("ant", 1).save(tmp_path / "one" / "ant" / "1.png")
    with pytest.raises(SystemExit, match="holds no image to test on"):
        evaluate(tmp_path, tmp_path / "one")
    file = write(tmp_path / "shapes", 1)
    coco.main(words(tmp_path / "mine", file, tmp_path / "detector", "--schedule=1"))
    result = json.loads((tmp_path / "detector" / "result.json").read_text())
    assert (result["num_train"], result["num_test"]) == (1, 1)


def test_gray_cmyk_and_turned_files_count_like_any_other(tmp_path) -> None:
    folder = write_folders(tmp_path / "insects")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("ant", 31).convert("CMYK").save(folder / "ant" / "0.jpg")
    picture("bee", 32).convert("L").save(folder / "bee" / "0.png")
    picture("bee", 33).save(folder / "bee" / "1.jpg", exif=exif)
    result = evaluate(tmp_path, folder)
    assert result["num_train"] + result["num_test"] == 22 and result["left_out"] == {}


def test_a_damaged_file_is_refused_and_named_or_left_out_and_named(tmp_path) -> None:
    folder = write_folders(tmp_path / "insects")
    cut = folder / "bee" / "7.png"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(SystemExit, match=r"1 image\(s\) cannot be read: bee/7.png: .*--skip-damag"):
        evaluate(tmp_path, folder)
    result = evaluate(tmp_path, folder, "--skip-damaged")
    assert result["num_train"] + result["num_test"] == 19
    assert list(result["left_out"]) == ["image bee/7.png"]


@pytest.mark.parametrize("kind", ["saved dataset", "COCO JSON"])
def test_a_cut_source_is_refused_in_words(tmp_path, kind) -> None:
    if kind == "COCO JSON":
        source = write(tmp_path / "shapes")
        source.write_text(source.read_text()[:500])
        message = "is not JSON"
    else:
        rows = [{"image": picture(name, i), "label": name} for name in KINDS for i in range(5)]
        source = tmp_path / "saved"
        datasets.Dataset.from_list(rows).save_to_disk(str(source))
        file = next(source.glob("*.arrow"))
        file.write_bytes(file.read_bytes()[:100])
        message = "error: .*saved.* cannot be read"
    with pytest.raises(SystemExit, match=message):
        evaluate(tmp_path, source)
