"""Mask R-CNN from our backbone: torchvision's numbers, the published schedule, bits on resuming."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from loctex.transfer import coco, detection_training, detector, encoders, instances
from loctex.transfer.detection_training import Schedule
from tests.loctex.transfer.shapes import change, write
from tests.loctex.weights import write_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "mine")


def words(run: Path, file: Path, to: Path, *more: str) -> list[str]:
    given = {
        "init": run,
        "train": file,
        "images": file.parent / "images",
        "val": file,
        "to": to,
        "schedule": 4,
        "batch": 2,
        "size": 64,
        "rois": 16,
        "workers": 0,
        "log-every": 1,
        "device": "cpu",
    }
    return [*(f"--{name}={value}" for name, value in given.items()), *more]


def test_2x_on_coco_is_the_published_schedule_and_scales_with_images_and_batch() -> None:
    full = Schedule.scaled("2x", 117_266, 16)
    assert (full.steps, full.highest, full.warmup) == (180_000, 0.02, 1000)
    assert [full.rate(step) for step in (500, 1000, 120_000)] == [0.01, 0.02, 0.02]
    assert full.rate(120_001) == full.rate(160_000) == pytest.approx(0.002)
    assert full.rate(160_001) == full.rate(180_000) == pytest.approx(0.0002)
    assert Schedule.scaled("1x", 58_633, 8) == Schedule(90_000, 8, 0.01, 1000)
    assert Schedule.scaled("30", 5, 4, 0.1) == Schedule(30, 4, 0.1, 3)
    for wrong in ("x", "0", "fast"):
        with pytest.raises(ValueError, match=f"--schedule {wrong}"):
            Schedule.scaled(wrong, 100, 16)


def test_it_is_torchvision_s_mask_rcnn_with_batch_norms_that_learn() -> None:
    """Torchvision's own parts, put together by its own function, give the same to the last bits."""
    encoder = encoders.from_name("random:resnet18", seed=3)
    ours = detector.build(encoder, 5, has_masks=True, size=96)
    stages = {f"layer{k}": str(k - 1) for k in (1, 2, 3, 4)}
    channels, norm = [64, 128, 256, 512], nn.BatchNorm2d
    body = BackboneWithFPN(resnet18(), stages, channels, 256, norm_layer=norm)
    theirs = MaskRCNN(body, 6, min_size=96, max_size=160)
    theirs.load_state_dict({k.replace(".stages.", "."): v for k, v in ours.state_dict().items()})
    assert all(p.requires_grad for p in ours.parameters())
    for model in (ours, theirs):
        model.eval()
        model.roi_heads.score_thresh = 0.0
    image = torch.rand(3, 80, 110, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = ours([image])[0], theirs([image])[0]
    assert len(found["boxes"]) > 10
    for name in ("boxes", "labels", "scores", "masks"):
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-4)


def test_the_detector_starts_from_the_run_s_weights(run) -> None:
    encoder = encoders.from_name(str(run))
    body = detector.build(encoder, 2, has_masks=True, size=64).backbone.body.state_dict()
    assert {name: value.tolist() for name, value in body.items()} == {
        name: value.tolist() for name, value in encoder.backbone.state_dict().items()
    }
    with pytest.raises(ValueError, match="vit_tiny.* strides 16, 16, .* needs 4, 8, 16"):
        detector.build(encoders.from_name("random:vit_tiny_patch16_224"), 2, has_masks=True, size=9)


def test_statistics_measured_anew_are_those_of_the_batches(run) -> None:
    model = detector.build(encoders.from_name(str(run)), 2, has_masks=False, size=64)
    first = model.backbone.body.stages.conv1[0]  # of the deep stem
    norm = model.backbone.body.stages.conv1[1]
    batches = [[torch.rand(3, 64, 64)] for _ in range(3)]
    torch.manual_seed(0)
    detector.measure_statistics(model, batches)
    torch.manual_seed(0)
    outputs = [first(model.transform(batch)[0].tensors) for batch in batches]
    wanted = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, wanted, rtol=1e-4, atol=1e-6)
    assert norm.momentum == 0.1


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    run, shapes, tmp_path, monkeypatch, capsys
) -> None:
    coco.main(words(run, shapes, tmp_path / "whole"))
    result = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert result["rows"][0]["name"] == "mine" and result["steps"] == 4
    assert {"box_ap", "mask_ap75"} < set(result["rows"][0])
    assert "6 images to train on (100%), 6 to test on, 4 steps of 2" in capsys.readouterr().out
    asked = []
    monkeypatch.setattr(
        detection_training, "should_stop", lambda *_: asked.append(1) or len(asked) == 2
    )
    coco.main(words(run, shapes, tmp_path / "parts"))
    assert not (tmp_path / "parts" / "result.json").exists()
    coco.main([f"--to={tmp_path / 'parts'}", "--resume"])
    assert json.loads((tmp_path / "parts" / "result.json").read_text()) == result
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    logs = [
        [(row["step"], row["loss"]) for row in map(json.loads, file.read_text().splitlines())]
        for file in (tmp_path / name / "metrics.jsonl" for name in ("whole", "parts"))
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4
    with pytest.raises(SystemExit, match="is in use; name another folder, or add --resume"):
        coco.main(words(run, shapes, tmp_path / "whole"))


def test_boxes_alone_a_share_and_another_start_are_learned_too(run, shapes, tmp_path) -> None:
    file = change(shapes, annotations=lambda rows: [r | {"segmentation": None} for r in rows])
    to = tmp_path / "out"
    more = ("--share=0.5", "--seed=2", "--schedule=2", "--precision=bf16", f"--init=random:{run}")
    coco.main(words(run, file, to, *more))
    result = json.loads((to / "result.json").read_text())
    assert (result["num_train"], result["num_test"]) == (3, 6)
    assert result["rows"][0]["name"] == "random initialization"
    assert "box_ap" in result["rows"][0] and "mask_ap" not in result["rows"][0]
    subset = json.loads((to / "subset.json").read_text())
    whole = instances.read(file, shapes.parent / "images")
    assert subset["images"] == [photo.id for photo in whole.share(0.5, 2).photos]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--share=0"], "--share 0.0: must lie above 0"),
        (["--init=/gone"], "/gone has no checkpoint"),
        (["--val-images=/gone"], "6 image.s. .* 0.png: is not there"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_words(run, shapes, tmp_path, more, message) -> None:
    with pytest.raises(SystemExit, match=message):
        coco.main(words(run, shapes, tmp_path / "out", *more))


def test_other_categories_to_score_are_refused(run, shapes, tmp_path) -> None:
    def shifted(rows):
        return [row | {"name": name["name"]} for row, name in zip(rows, rows[::-1], strict=True)]

    file = change(shapes, categories=shifted)
    with pytest.raises(SystemExit, match="has other categories than"):
        coco.main(words(run, shapes, tmp_path / "out", f"--val={file}"))


@pytest.mark.slow
def test_two_processes_train_and_score_together(run, shapes, tmp_path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "-m",
        "--",
        "loctex.transfer.coco",
        *words(run, shapes, tmp_path / "out"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["num_test"] == 6 and result["rows"][0]["box_ap"] >= 0


def of_few_things(shared_data: Path, count: int, to: Path) -> Path:
    """The first real images with one to three things, none of them a crowd or tiny."""
    content = json.loads((shared_data / "coco" / "instances_train.json").read_text())
    things: dict[int, list] = {image["id"]: [] for image in content["images"]}
    for row in content["annotations"]:
        things[row["image_id"]].append(row)
    kept = []
    for image in content["images"]:
        least = 0.04 * image["width"] * image["height"]
        found = things[image["id"]]
        if 1 <= len(found) <= 3 and all(not r["iscrowd"] and r["area"] >= least for r in found):
            kept.append(image)
    content["images"] = kept[:count]
    content["annotations"] = [row for image in kept[:count] for row in things[image["id"]]]
    (to / "few.json").write_text(json.dumps(content))
    return to / "few.json"


def learn(shared_data: Path, file: Path, *more: str) -> dict:
    images, to = shared_data / "coco" / "images", file.parent / "out"
    given = [f"--train={file}", f"--val={file}", f"--images={images}", f"--to={to}", *more]
    coco.main(given)
    return json.loads((to / "result.json").read_text())["rows"][0]


@pytest.mark.slow
def test_it_learns_four_real_images_by_heart_on_the_cpu(shared_data, tmp_path) -> None:
    """400 steps of about 3 s on a quiet core. docs/RESULTS.md says how far it was run."""
    found = learn(
        shared_data,
        of_few_things(shared_data, 4, tmp_path),
        "--init=random:resnet18",
        "--batch=4",
        "--size=192",
        "--rois=32",
        "--schedule=400",
        "--learning-rate=0.02",
        "--precision=bf16",
        "--workers=0",
        "--device=cpu",
    )
    assert found["mask_ap"] >= 0.5 and found["box_ap"] >= 0.5


@pytest.mark.gpu
def test_it_learns_sixteen_real_images_by_heart(shared_data, tmp_path) -> None:
    found = learn(
        shared_data,
        of_few_things(shared_data, 16, tmp_path),
        "--init=random:resnet50",
        "--batch=16",
        "--size=320",
        "--rois=128",
        "--schedule=800",
        "--learning-rate=0.02",
        "--device=cuda",
    )
    assert found["mask_ap"] >= 0.5


def test_the_weights_are_there_before_scoring_begins(run, shapes, tmp_path, monkeypatch) -> None:
    def fail(*_):
        raise ValueError("scoring failed")

    monkeypatch.setattr(coco, "evaluate", fail)
    with pytest.raises(SystemExit, match="scoring failed"):
        coco.main(words(run, shapes, tmp_path / "to", "--schedule=1"))
    weights = load_file(tmp_path / "to" / coco.WEIGHTS)
    assert len(weights) > 100 and all(value.isfinite().all() for value in weights.values())
