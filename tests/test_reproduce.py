"""docs/REPRODUCE.md: its commands, read from the file, run top to bottom on stand-in data."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools import archives, coco
from data_tools.exchange import public_files
from loctex.records.narrative import read_jsonl, write_jsonl
from tests.loctex.transfer.shapes import write

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "REPRODUCE.md"
BACKBONE = '{"layers":[1,1,1],"channels":[16,16,16],"stem_type":"deep","stem_width":8}'
SMALL = {  # what the first block says instead; all other blocks run as they stand
    "PRETRAIN": f"--preset r50 --model.backbone resnet18 --model.backbone_options {BACKBONE} "
    "--model.text_layers 1 --model.text_width 32 --model.text_heads 2 --model.vocabulary 300 "
    "--model.embedding 16 --model.attention 16 --data.image_size 64 --train.steps 2 "
    "--train.batch_size 4 --train.precision fp32 --train.device cpu --train.learning_rate .01",
    "DETECT": "--schedule 1 --batch 2 --size 64 --rois 8 --workers 0 --device cpu",
    "SHARES": "0.5 1",
    "EACH": "python -m",
}


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", FILE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_command_of_the_file_is_one_of_ours() -> None:
    """Each module that is named can be run, and knows each option it is given."""
    text = "\n".join(blocks()).replace("\\\n", " ")
    given: dict[str, set[str]] = {}
    for module, rest in re.findall(r"(?:python -m|\$EACH) ([\w.]+)([^\n]*)", text):
        given.setdefault(module, set()).update(re.findall(r"(?<=\s)--[\w.-]+", rest))
    assert len(given) >= 7
    for module, options in given.items():
        path = ROOT / module.replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        source = file.read_text()
        known = source + (ROOT / "loctex/settings/sections.py").read_text()
        for option in options:
            assert option in source or option.split(".")[-1] in known, f"{module} {option}"


def stand_in(data: Path) -> None:
    """What section 1 and 6 would download: few and small, under the public names."""
    (data / "narratives").mkdir(parents=True)
    (data / "annotations").mkdir()
    for split, first in (("train", 100), ("val", 200)):
        file = write(data / split, 8 if split == "train" else 4)
        content = json.loads(file.read_text())
        (data / f"{split}2017").mkdir()
        for i, image in enumerate(content["images"]):
            old = data / split / "images" / image["file_name"]
            image["file_name"] = f"{first + i:012d}.jpg"
            Image.open(old).save(data / f"{split}2017" / image["file_name"], quality=95)
            for row in content["annotations"]:
                if row["image_id"] == image["id"]:
                    row["image_id"] = first + i
            image["id"] = first + i
        labels = data / "annotations" / f"instances_{split}2017.json"
        labels.write_text(json.dumps(content))
        narratives(data, split, labels)
    devkit(data / "VOCdevkit" / "VOC2007")
    for rows in archives.ARCHIVES.values():
        for row in rows:
            archives.mark(row, data).touch()


def narratives(data: Path, split: str, labels: Path) -> None:
    """Simulated ones, under the names and ids of the public files of COCO and Open Images."""
    folder = data / f"simulated-{split}"
    images = data / f"{split}2017"
    coco.main(["simulate", str(labels), f"--images={images}", f"--to={folder}"])
    made = list(read_jsonl(folder / "narratives.jsonl"))
    assert made
    other = {"train": "open_images_train_v6", "val": "open_images_validation"}[split]
    (data / "open-images").mkdir(exist_ok=True)
    for name in (f"coco_{split}", other):
        items = public_files.narrative_items([name], data / "narratives")
        ids = f"mscoco_{split}2017" if name.startswith("coco") else name
        for part, item in enumerate(items):
            rows = [_renamed(row, ids) for row in made[part :: len(items)]] or [
                _renamed(made[0], ids)
            ]
            write_jsonl(item.path, rows)
    for row in made:
        picture = images / f"{int(row.image_id):012d}.jpg"
        (data / "open-images" / f"{row.image_id}.jpg").write_bytes(picture.read_bytes())


def _renamed(row, dataset_id: str):
    from dataclasses import replace

    return replace(row, dataset_id=dataset_id)


def devkit(folder: Path) -> None:
    """A VOC2007 of two classes."""
    for name in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("trainval", 12), ("test", 8)):
        names = []
        for i in range(count):
            name, kind = f"{split}{i}", ("dog", "cat")[i % 2]
            pixels = random.integers(0, 99, (60, 80, 3), dtype=np.uint8)
            pixels[20:40, 20:50] = (250, 40, 40) if i % 2 else (40, 40, 250)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
            (folder / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><object><name>{kind}</name><difficult>0</difficult></object>"
                "</annotation>"
            )
            names.append(name)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))


@pytest.mark.slow
def test_the_protocols_run_top_to_bottom_on_stand_in_data(tmp_path) -> None:
    stand_in(tmp_path / "data")
    first, *others = blocks()
    assert all(f"\n{name}=" in first for name in SMALL)
    values = SMALL | {"D": str(tmp_path / "data"), "RUNS": str(tmp_path / "runs")}
    settings = "\n".join(f"{name}='{value}'" for name, value in values.items())
    script = "\n".join(["set -eu", settings, *others])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = tmp_path / "runs"
    for name in ("loctex", "contrastive", "loctex-more", "softmask"):
        assert json.loads((runs / name / "result.json").read_text())["step"] == 2
    assert len(list(runs.glob("coco/*/*/result.json"))) == 6
    subsets = [json.loads(f.read_text())["images"] for f in runs.glob("coco/0.5/*/subset.json")]
    assert len(subsets) == 3 and subsets[0] == subsets[1] == subsets[2]
    assert (runs / "loctex/transfer/voc07-best/result.json").exists()
    assert (runs / "loctex/transfer/efficiency-VOCdevkit-best/result.json").exists()
    assert (runs / "handover/onnx/README.md").exists()
    assert (runs / "loctex/evaluations/ln-coco-val-best/result.json").exists()
