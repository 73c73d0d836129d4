"""Hand-over: what others load computes what the run computes, or there is no export."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
import yaml
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, pipeline

from loctex import settings
from loctex.export import card, onnx_parts, wheel
from loctex.export import formats as export
from loctex.export.__main__ import main as export_command
from loctex.jobs import checkpoint_files
from loctex.loading import tokenization
from loctex.model import build
from loctex.model.config import LocTexConfig
from loctex.model.model import LocTexModel
from loctex.records import terms
from loctex.scoring import predictor as answers
from tests.loctex.small import BACKBONE, small
from tests.loctex.weights import write_run, write_weights

SWIN = {"img_size": 64, "window_size": 2, "depths": [1, 1, 1, 1], "embed_dim": 48}
NAMES = {name for _, part in onnx_parts.NAMES.values() for name in part}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "garden")


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the papers' backbone and small heads, on small images."""
    wanted = settings.with_values(
        small("scenes"), {"model": {"backbone": "resnet50", "backbone_options": {}}}
    )
    return write_weights(tmp_path_factory.mktemp("runs") / "r50", wanted)


def load(run: Path) -> LocTexModel:
    return build.load(checkpoint_files.find(run)).eval()


def snippets_of(card_text: str) -> list[str]:
    """The Python that a card shows."""
    return re.findall(r"```python\n(.*?)```", card_text, re.DOTALL)


@torch.no_grad()
def features(model: LocTexModel, images: torch.Tensor) -> np.ndarray:
    return model.encode_image(images).pooled.numpy()


def test_torchvision_resnet50_loads_strictly_with_equal_features(resnet50, tmp_path):
    differences = export.export(resnet50, tmp_path / "out", "torchvision")
    assert set(differences) == {"image_features"} and differences["image_features"] <= 1e-5

    theirs = torchvision.models.resnet50().eval()
    theirs.fc = torch.nn.Identity()
    weights = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert len(weights) == 318
    theirs.load_state_dict(weights, strict=True)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert np.allclose(theirs(images), features(load(resnet50), images), rtol=0, atol=1e-5)


def test_detectron2_names_are_those_of_its_own_converter(resnet50, tmp_path):
    export.export(resnet50, tmp_path / "out", "detectron2")
    content = pickle.loads((tmp_path / "out" / "model.pkl").read_bytes())
    assert content["matching_heuristics"] is True
    names = set(content["model"])
    norm = ("weight", "bias", "running_mean", "running_var")
    wanted = {"stem.conv1.weight", *(f"stem.conv1.norm.{key}" for key in norm)}
    for stage, num_blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(num_blocks):
            layers = ["conv1", "conv2", "conv3", *(["shortcut"] if block == 0 else [])]
            for layer in layers:
                start = f"res{stage}.{block}.{layer}"
                wanted |= {f"{start}.weight", *(f"{start}.norm.{key}" for key in norm)}
    assert names == wanted and len(names) == 265
    stem = load(resnet50).backbone.stages.conv1.weight.detach().numpy()
    assert np.array_equal(content["model"]["stem.conv1.weight"], stem)


def test_timm_loads_the_backbone_in_one_line(run, tmp_path):
    export.export(run, tmp_path / "out", "timm")
    theirs = timm.create_model(
        "resnet18",
        features_only=True,
        out_indices=(-1,),
        checkpoint_path=str(tmp_path / "out" / "model.safetensors"),
        **BACKBONE,
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = theirs(images)[-1].mean((2, 3))
    assert np.allclose(found, features(load(run), images), rtol=0, atol=1e-5)


def test_timm_opens_the_folder_by_itself_with_the_run_s_pixels_and_equal_features(tmp_path):
    stages = {"layers": [1, 1, 1, 1], "channels": [16, 16, 16, 16]}
    run = write_run(tmp_path / "garden", model__backbone_options=BACKBONE | stages)
    export.export(run, tmp_path / "out", "timm")
    theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    wanted = load(run)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert np.array_equal(theirs(images), features(wanted, images))

    told = resolve_model_data_config(theirs)
    assert tuple(told["input_size"]) == (3, 64, 64) and told["interpolation"] == "bilinear"
    assert (told["crop_pct"], told["crop_mode"]) == (1.0, "squash")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = create_transform(**told)(Image.fromarray(picture))
    ours = answers.normalise(torch.from_numpy(picture[None]), wanted.config)[0]
    assert torch.allclose(pixels, ours, rtol=0, atol=1e-5)
    wide = create_transform(**told)(Image.new("RGB", (640, 480)))  # stretched, never cut
    assert wide.shape == (3, 64, 64)

    tuned = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=7)
    assert tuned(images).shape == (3, 7)
    stem, loaded = wanted.backbone.state_dict()["stages.conv1.0.weight"], tuned.state_dict()
    assert torch.equal(loaded["conv1.0.weight"], stem)


def test_timm_opens_the_same_folder_from_the_hub(run, tmp_path, monkeypatch):
    """By timm's own hf-hub code, from the hub's cache as a download leaves it: no network."""
    cache = tmp_path / "cache" / "models--me--garden"
    export.export(run, cache / "snapshots" / ("0" * 40), "timm")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    theirs: Any = timm.create_model(
        "hf-hub:me/garden", pretrained=True, cache_dir=str(tmp_path / "cache")
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert np.array_equal(theirs(images)[-1].mean((2, 3)), features(load(run), images))


@pytest.mark.parametrize(
    "name, options, size, is_whole",
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2}, 64, False),
        ("convnext_atto", {"depths": [1, 1, 1, 1]}, 64, False),
        ("swin_tiny_patch4_window7_224", SWIN, 64, False),
        ("tf_efficientnet_lite0", {}, 64, False),
        ("regnetx_002", {}, 64, True),
        ("densenet121", {"block_config": [2, 2]}, 64, True),
        ("resnetv2_50", {"layers": [1, 1, 1, 1], "channels": [32, 32, 64, 64]}, 64, False),
    ],
)
def test_timm_opens_the_folder_of_any_family_of_backbones(
    name, options, size, is_whole, tmp_path, monkeypatch
):
    values = small("scenes", model__backbone_options=options, data__image_size=size)
    run = write_weights(
        tmp_path / name, settings.with_values(values, {"model": {"backbone": name}})
    )
    outputs = {"image_features", "pooled_output"} if is_whole else {"image_features"}
    differences = export.export(run, tmp_path / "out", "timm")
    assert set(differences) == outputs and max(differences.values()) <= 1e-5
    monkeypatch.chdir(tmp_path / "out")
    blocks = snippets_of((tmp_path / "out" / "README.md").read_text())
    names: dict[str, Any] = {}
    for code in blocks:
        exec(code, names)
    assert names["features"].shape == (1, load(run).backbone.channels[-1])


def test_an_efficientnet_with_its_head_convolution_opens_whole(tmp_path):
    values = {"model": {"backbone": "tf_efficientnet_lite0", "backbone_head": True}}
    small_run = small("scenes", model__backbone_options={})
    run = write_weights(tmp_path / "lite", settings.with_values(small_run, values))
    differences = export.export(run, tmp_path / "out", "timm")
    assert set(differences) == {"image_features", "pooled_output"}
    theirs: Any = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        last = load(run).encode_image(images).last.mean((2, 3))
        assert theirs.num_features == 1280 and torch.allclose(theirs(images), last, atol=1e-5)


def test_transformers_own_classes_and_pipelines_open_the_folder(run, tmp_path):
    export.export(run, tmp_path / "out", "huggingface")
    theirs, ours = AutoModel.from_pretrained(tmp_path / "out").eval(), load(run)
    assert type(theirs) is LocTexModel
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    picture = Image.effect_mandelbrot((80, 60), (-2, -1.5, 1, 1.5), 20).convert("RGB")
    captions = ["a red circle left of a blue square", "a dog"]
    pixels = processor(images=[picture, picture.rotate(90)], return_tensors="pt")
    words = tokenizer(captions, padding=True, return_tensors="pt")

    with torch.no_grad():
        image = theirs.get_image_features(**pixels)
        text = theirs.get_text_features(**words)
        assert torch.equal(image, ours.encode_image(pixels["pixel_values"]).embedding)
        logits = theirs(**pixels, **words).logits_per_image
        alone = theirs(**pixels)
    predictor = answers.Predictor(ours, tokenization.load(checkpoint_files.find(run)))
    assert np.allclose(text, predictor.embed(captions), rtol=0, atol=1e-6)
    assert torch.allclose(logits, theirs.logit_scale.exp() * image @ text.T, atol=1e-5)
    assert alone.logits_per_image is None and torch.equal(alone.image_embeds, image)
    with pytest.raises(ValueError, match="needs pixel_values, input_ids, or images with tokens"):
        theirs()

    classify = pipeline("zero-shot-image-classification", model=str(tmp_path / "out"))
    scores = classify(picture, candidate_labels=captions, hypothesis_template="{}")
    expected = logits[0].softmax(-1)
    assert {one["label"]: one["score"] for one in scores} == pytest.approx(
        dict(zip(captions, expected.tolist(), strict=True)), abs=1e-5
    )
    extract = pipeline("image-feature-extraction", model=str(tmp_path / "out"))
    (pooled,) = extract(picture, pool=True)
    assert np.allclose(pooled, features(ours, pixels["pixel_values"][:1])[0], rtol=0, atol=1e-5)


def test_the_files_of_an_export_have_the_mode_that_the_umask_says(run, tmp_path):
    before = os.umask(0o027)
    try:
        export.export(run, tmp_path / "out", "huggingface")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert set(modes.values()) == {0o640} and "loctex-0.1.0-py3-none-any.whl" in modes


def test_the_license_of_the_weights_is_what_is_stated(run, tmp_path):
    export_command(
        [f"--run={run}", f"--to={tmp_path / 'out'}", "--format=timm", "--license=cc-by-4.0"]
    )
    text = (tmp_path / "out/README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "cc-by-4.0" and "license_name" not in head
    assert "The weights: cc-by-4.0, as whoever exported them stated." in text


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torchvision", "timm", "huggingface", "onnx"])
def test_the_card_s_snippets_run_as_they_stand_where_no_checkout_is(
    format, run, resnet50, tmp_path
):
    """In a folder of its own, with the wheel of loctex alone beside what it needs."""
    out = tmp_path / "out"
    export.export(resnet50 if format == "torchvision" else run, out, format)
    site = tmp_path / "site"
    site.mkdir()
    if format == "huggingface":
        (file,) = out.glob("*.whl")
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"--target={site}"]
        subprocess.run([*install, file], check=True, timeout=120)
    blocks = snippets_of((out / "README.md").read_text())
    assert len(blocks) == {"huggingface": 3, "timm": 2}.get(format, 1)
    environment = os.environ | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    for code in blocks:
        if format == "huggingface":
            code += f"\nimport loctex; assert loctex.__file__.startswith({str(site)!r})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=out,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr


def test_huggingface_holds_model_tokenizer_and_preprocessing(run, tmp_path):
    export.export(run, tmp_path / "out", "huggingface")
    ours, theirs = load(run), LocTexModel.from_pretrained(tmp_path / "out").eval()
    images = torch.randn(2, 3, 64, 64)
    assert np.array_equal(features(theirs, images), features(ours, images))

    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    caption = "A red circle left of a Blue square"
    known = tokenization.load(checkpoint_files.find(run))
    assert words(caption)["input_ids"] == tokenization.encode(known, [caption], 96)[0][0].tolist()

    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    wanted = answers.normalise(torch.from_numpy(picture[None]), LocTexConfig())
    assert torch.allclose(pixels, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.0), (1.0, 0.4), (0.0, 0.0)])
def test_onnx_answers_as_the_predictor_does_at_any_batch_and_length(tmp_path, weight, share):
    run = write_run(
        tmp_path / "run", loss__localization_weight=weight, model__contrastive_share=share
    )
    differences = export.export(run, tmp_path / "out", "onnx")
    assert set(differences) == NAMES and max(differences.values()) <= 1e-5

    model = load(run)
    images, tokens = onnx_parts.examples(model, 5, 11)
    found = dict(onnx_parts.answers(tmp_path / "out", images, tokens))
    with torch.no_grad():
        image, text = model.encode_image(images), model.encode_text(tokens)
        maps = answers.token_maps(model, image, text)
    assert np.allclose(found["attention_maps"], maps, rtol=0, atol=1e-5)
    assert found["attention_maps"].sum((2, 3)) == pytest.approx(1.0, abs=1e-5)
    assert np.allclose(found["text_embedding"], text.embedding, rtol=0, atol=1e-5)


def test_an_unknown_or_missing_or_reshaped_key_fails_the_export(resnet50, monkeypatch, tmp_path):
    stages = export.stages
    for change, message in (
        (lambda found: found | {"layer5.weight": torch.zeros(1)}, "unknown 1 .*layer5.weight"),
        (lambda found: {k: v for k, v in found.items() if k != "bn1.bias"}, "lacks 1 .*bn1.bias"),
        (lambda found: found | {"bn1.bias": torch.zeros(3)}, "reshaped 1 .*bn1.bias"),
    ):
        monkeypatch.setattr(export, "stages", lambda model, change=change: change(stages(model)))
        for format in ("torchvision", "timm", "detectron2"):
            with pytest.raises(ValueError, match=message):
                export.export(resnet50, tmp_path / "out", format)
    assert list(tmp_path.iterdir()) == []


def test_a_huggingface_export_with_another_key_fails(run, monkeypatch, tmp_path):
    def spoilt(model, words, folder):
        export.write_huggingface(model, words, folder)
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        weights["attention.9.cell.weight"] = torch.zeros(2, 2)
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})

    form = export.Format(spoilt, export.read_huggingface)
    monkeypatch.setitem(export.FORMATS, "huggingface", form)
    with pytest.raises(ValueError, match="do not fit.*attention.9.cell.weight"):
        export.export(run, tmp_path / "out", "huggingface")
    assert list(tmp_path.iterdir()) == []


def test_features_that_differ_by_1e_4_fail_the_export(run, monkeypatch, tmp_path):
    def bent(model, *arguments):
        return {k: v * (1 + 1e-4) for k, v in export.read_timm(model, *arguments).items()}

    monkeypatch.setitem(export.FORMATS, "timm", export.Format(export.write_timm, bent))
    with pytest.raises(ValueError, match="differs by more than 1e-05"):
        export.export(run, tmp_path / "out", "timm")
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_that_torchvision_lacks_is_refused_with_the_way_out(run, tmp_path):
    with pytest.raises(ValueError, match="resnet18.*"):
        export.export(run, tmp_path / "out", "torchvision")
    vit = small(
        "scenes",
        model__backbone="vit_small_patch16_224",
        model__backbone_options={"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2},
    )
    other = write_weights(tmp_path / "vit", vit)
    with pytest.raises(ValueError, match="torchvision has no vit_small.*timm or huggingface"):
        export.export(other, tmp_path / "out", "torchvision")
    assert export.export(other, tmp_path / "out", "timm")["image_features"] <= 1e-5


def test_a_folder_with_files_is_not_written_over(run, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="is not empty; name a new folder"):
        export.export(run, tmp_path, "timm")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_card_says_what_the_run_says(snapshot, tmp_path, monkeypatch):
    run = write_run(tmp_path / "garden", snapshot=f"{snapshot}=2")
    (run / "result.json").write_text(json.dumps({"metrics": {"pointing_region": 0.8125}}))
    rows = [{"name": "random initialization", "map": 0.125}, {"name": "garden", "map": 0.5}]
    (run / "transfer/voc07-best").mkdir(parents=True)
    (run / "transfer/voc07-best/result.json").write_text(json.dumps({"rows": rows}))
    curve = {
        "measure": "accuracy",
        "counts": [5, 40],
        "rows": [{"name": "a", "mean": [0.3, 0.625]}],
    }
    (run / "transfer/efficiency-mine-best").mkdir(parents=True)
    (run / "transfer/efficiency-mine-best/result.json").write_text(json.dumps(curve))
    export_command([f"--run={run}", f"--to={tmp_path / 'out'}", "--format=timm"])
    text = (tmp_path / "out/README.md").read_text()
    manifest = json.loads((snapshot / "snapshot.json").read_text())
    assert text.startswith('---\nlibrary_name: "timm"\n')
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["pipeline_tag"] == "image-feature-extraction"
    assert (head["license"], head["license_name"]) == ("other", "not-stated")
    assert manifest["hash"] in text and "32 images and 32 narratives" in text
    assert "images: rendered by this software, free; narratives: simulated by this" in text
    assert "| validation at the end of training | pointing_region | 0.812 |" in text
    assert "| voc07-best, garden | map | 0.500 |" in text
    assert "| efficiency-mine-best, a | accuracy, 40 labels | 0.625 |" in text
    assert "steps: 8" in text and "Checkpoint `step-00000001`" in text
    assert str(tmp_path) not in text and str(snapshot.parent) not in text
    monkeypatch.chdir(tmp_path / "out")
    for code in snippets_of(text):
        names: dict[str, Any] = {}
        exec(code, names)
        assert names["model"].feature_info.channels() == [16]
        if "features" in names:
            assert names["features"].shape == (1, 16)


def test_the_card_of_bare_weights_admits_what_it_does_not_know(run, tmp_path):
    folder = checkpoint_files.find(run)
    text = card.write(folder, folder, load(run).config, "timm", {"image_features": 0.0})
    assert "Unknown: the run did not record it." in text
    assert "Unknown: the export was made from weights without a run." in text
    assert "None was measured." in text


def test_the_card_names_the_pixels_that_this_backbone_was_fed(run):
    config = load(run).config
    assert "less the mean (0.485, 0.456, 0.406)" in card.write(
        run, run / "best", config, "timm", {}
    )
    config.pixel_mean, config.pixel_std = [0.5, 0.5, 0.5], [0.25, 0.5, 0.5]
    text = card.write(run, run / "best", config, "timm", {})
    assert "less the mean (0.500, 0.500, 0.500), divided by (0.250, 0.500, 0.500)" in text
    text = card.write(run, run / "best", config, "detectron2", {})
    assert "PIXEL_MEAN = [127.500, 127.500, 127.500]" in text


def test_the_card_names_what_was_trained_on_even_where_it_is_gone_or_changed(snapshot, tmp_path):
    gone = tmp_path / "gone"
    run = write_run(tmp_path / "runs" / "garden", snapshot=gone)
    start = {
        "snapshots": {str(gone): "abc123"},
        "code": {"hash": "f" * 64, "commit": "0123abcd", "is_changed": False},
        "environment": {
            "python": "3.11.2",
            "gpus": ["One GPU"],
            "processes": 8,
            "packages": {"torch": "2.15"},
        },
    }
    (run / "starts.jsonl").write_text(json.dumps(start) + "\n")
    studio = {"run": "garden", "metrics": {"auc": 0.75}}
    for name, content in (("mine", studio), ("other", studio | {"run": "rose"})):
        (tmp_path / "evaluations" / "runs" / name).mkdir(parents=True)
        (tmp_path / "evaluations" / "runs" / name / "result.json").write_text(json.dumps(content))
    text = card.preview(run, run / "best", "onnx")
    assert "`gone`: no longer where it was" in text and "its content hash was abc123" in text
    assert "code ffffffffffffffff, commit 0123abcd; started once." in text
    assert "Python 3.11.2 on One GPU, 8 processes; torch 2.15." in text
    assert "| mine | auc | 0.750 |" in text and "| other |" not in text
    assert "Not made yet" in text
    shutil.copytree(snapshot, gone)
    assert "was trained on with hash abc123, and was changed" in card.preview(run, run, "onnx")


@pytest.mark.parametrize(
    "dataset_id, said",
    [
        ("mscoco_val2017", "COCO, from Flickr .*; narratives: Localized Narratives, CC BY 4.0"),
        ("Flickr30k_train", "non-commercial research"),
        ("open_images_train_v6", "CC BY 2.0"),
        ("ADE20k_validation", "ADE20K, non-commercial"),
        ("coco_train_simulated", "COCO.*; narratives: simulated .* nobody spoke or pointed"),
        ("animalpose_voc_train_simulated", "VOC.*nobody spoke"),
        ("vidln_oops_train", "Video Localized Narratives, CC BY 4.0"),
    ],
)
def test_the_terms_of_public_data_are_known_by_its_id(dataset_id, said):
    assert re.search(said, str(terms.of(dataset_id)))


def test_terms_that_are_not_known_are_not_made_up():
    assert terms.of("our_microscope") is None


def test_it_is_uploaded_only_when_asked(run, monkeypatch, tmp_path, capsys):
    uploads = []

    class Api:
        def create_repo(self, name, private, exist_ok):
            assert private
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path):
            uploads.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    export_command([f"--run={run}", f"--to={tmp_path / 'one'}", "--format=timm"])
    assert uploads == []
    export_command(
        [f"--run={run}", f"--to={tmp_path / 'two'}", "--format=timm", "--push=me/garden"]
    )
    assert uploads == [("me/garden", ["README.md", "config.json", "model.safetensors"])]
    assert "uploaded to https://hub/me/garden" in capsys.readouterr().out


@pytest.mark.slow
def test_an_installed_package_hands_on_a_wheel_that_installs_again(run, tmp_path):
    """Where pip installed loctex there is no checkout to build from: its own files are packed."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    wheel.write_wheel(tmp_path)
    sites = [tmp_path / "site", tmp_path / "again"]
    subprocess.run([*install, sites[0], tmp_path / wheel.wheel_name()], check=True, timeout=120)

    code = "import sys; from pathlib import Path; from loctex.export.wheel import write_wheel; "
    code += "print(write_wheel(Path(sys.argv[1])))"
    (tmp_path / "repacked").mkdir()
    environment = os.environ | {"PYTHONPATH": str(sites[0])}
    command = [sys.executable, "-c", code, str(tmp_path / "repacked")]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    repacked = tmp_path / "repacked" / wheel.wheel_name()
    subprocess.run([*install, sites[1], repacked], check=True, timeout=120)

    contents = [
        {path.relative_to(site): path.read_bytes() for path in site.rglob("*.py")} for site in sites
    ]
    assert contents[0] == contents[1] and len(contents[0]) > 90
    (record,) = sites[1].glob("loctex-*.dist-info/METADATA")
    assert "Requires-Dist: torch>=2.11" in record.read_text()
