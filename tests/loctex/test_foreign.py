"""Settings, models and snapshots that somebody else made: what they may not do here."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
from pycocotools import mask as coco_mask

from loctex import settings
from loctex.jobs import provenance
from loctex.model import build
from loctex.model.backbones import Backbone
from loctex.model.config import LocTexConfig
from loctex.records.frozen import manifest
from loctex.records.items import Region
from loctex.records.snapshot import Snapshot, open_streamed
from loctex.settings import Settings, backbone_options
from loctex.settings.presets import PRESETS
from ui.evaluate.questions import snapshot_splits
from ui.train import forecast

HOSTILE_OPTIONS = [
    {"checkpoint_path": "evil.pth"},
    {"pretrained_cfg_overlay": {"url": "http://127.0.0.1/x.pth"}},
    {"pretrained_cfg_overlay": {"file": "evil.pth"}},
    {"pretrained_cfg": {"url": "http://127.0.0.1/x.pth"}},
    {"pretrained_cfg": "hf-hub:somebody/model"},
    {"pretrained": True},
    {"cache_dir": "/tmp/x"},
    {"features_only": False},
    {"feature_cls": "fx"},
    {"out_indices": [0]},
    {"scriptable": True},
    {"in_chans": 1},
    {"layers": "../../evil"},
    {"layers": [10**9]},
    {"layers": [[[[[1]]]]]},
    {"layers": list(range(1000))},
    {"layers": {"a": 1}},
]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> list:
    """What reached timm."""
    reached: list = []
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: reached.append((a, k)))
    return reached


@pytest.mark.parametrize("options", HOSTILE_OPTIONS, ids=lambda options: str(options)[:50])
def test_options_that_do_more_than_shape_a_backbone_never_reach_timm(
    options: dict, tmp_path: Path, untouched: list
) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"model.backbone_options: .*{name}"):
        settings.with_values(Settings(), {"model": {"backbone_options": options}})
    with pytest.raises(ValueError, match="model.backbone_options"):
        settings.from_arguments({"model.backbone_options": json.dumps(options)}, Settings())
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps({"model": {"backbone_options": options}}))
    with pytest.raises(ValueError, match="settings.yaml: model.backbone_options"):
        settings.load(file)
    with pytest.raises(ValueError, match="model.backbone_options"):
        Backbone(name="resnet18", num_scales=1, options=options)
    config = LocTexConfig(backbone="resnet18", backbone_options=options)
    config.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=f"model/config.json: backbone_options: .*{name}"):
        build.load(tmp_path / "model")
    assert untouched == []


def test_what_is_left_out_names_the_way_to_a_local_file() -> None:
    with pytest.raises(ValueError, match="--model.init timm --model.weights FILE"):
        backbone_options.check({"checkpoint_path": "x.pth"})
    with pytest.raises(ValueError, match="drop_rate must be a number"):
        backbone_options.check({"drop_rate": float("nan")})


@pytest.mark.parametrize(
    "options",
    [
        *(preset.model.backbone_options for preset in PRESETS.values()),
        {"layers": [1, 1, 1], "channels": [16, 16, 16], "stem_type": "deep", "stem_width": 8},
        {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2},
        {"output_stride": 16, "drop_path_rate": 0.1, "drop_rate": 0.2, "patch_size": 8},
        {"depths": [2, 2, 6, 2], "dims": [8, 16, 32, 64]},
        {"window_size": 7, "stem_type": None, "dynamic_img_size": True},
    ],
    ids=str,
)
def test_what_honest_runs_hold_stays(options: dict) -> None:
    chosen = settings.with_values(Settings(), {"model": {"backbone_options": options}})
    assert chosen.model.backbone_options == options


def test_the_installed_timm_is_one_that_reads_no_pickle() -> None:
    assert tuple(map(int, timm.__version__.split(".")[:3])) >= (1, 0, 26)


def shard(content: dict) -> dict:
    return content["shards"]["train"][0]


HOSTILE: dict[str, tuple[Callable[[dict], object], str]] = {
    "sha256 is a path": (lambda c: shard(c).update(sha256="../../../evil"), "sha256"),
    "sha256 is absolute": (lambda c: shard(c).update(sha256="/tmp/evil"), "sha256"),
    "sha256 is short": (lambda c: shard(c).update(sha256="ab" * 31), "sha256"),
    "sha256 is a number": (lambda c: shard(c).update(sha256=7), "sha256"),
    "file leads out": (lambda c: shard(c).update(file="../x-00000-of-00001.parquet"), "file"),
    "file is an address": (lambda c: shard(c).update(file="http://h/x.parquet"), "file"),
    "file is missing": (lambda c: shard(c).pop("file"), "file"),
    "rows are endless": (lambda c: shard(c).update(rows=1 << 62), "rows"),
    "rows are negative": (lambda c: shard(c).update(rows=-1), "rows"),
    "rows are true": (lambda c: shard(c).update(rows=True), "rows"),
    "bytes are text": (lambda c: shard(c).update(bytes="9"), "bytes"),
    "a group of none": (lambda c: c.update(rows_per_group=0), "rows_per_group"),
    "a group of all": (lambda c: c.update(rows_per_group=1 << 40), "rows_per_group"),
    "hash is a path": (lambda c: c.update(hash="../../evil"), "hash"),
    "hash is none": (lambda c: c.update(hash=None), "hash"),
    "split leads out": (lambda c: c["splits"].update({"../train": {}}), "splits"),
    "splits are a list": (lambda c: c.update(splits=["train"]), "splits"),
    "a count is text": (lambda c: c["splits"]["train"].update(images="x"), "splits.train.images"),
    "a count is huge": (lambda c: c["splits"]["train"].update(images=10**30), "images"),
    "shards of no split": (lambda c: c["shards"].update(other=[]), "shards"),
    "shards are text": (lambda c: c.update(shards="x"), "shards"),
    "sources are a list": (lambda c: c.update(sources=[1]), "sources"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_manifest_is_refused_by_every_reader(
    snapshot: Path, tmp_path: Path, how: str
) -> None:
    change, entry = HOSTILE[how]
    root = tmp_path / "root"
    frozen = shutil.copytree(snapshot, root / "frozen", ignore=shutil.ignore_patterns(".cache"))
    content = json.loads((frozen / "snapshot.json").read_bytes())
    change(content)
    (frozen / "snapshot.json").write_text(json.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    for reader in (
        Snapshot.open,
        lambda folder: open_streamed(folder.as_uri()),
        lambda folder: provenance.hashes([str(folder)]),
        lambda folder: snapshot_splits(str(folder)),
    ):
        with pytest.raises(ValueError, match=f"snapshot.json is damaged .*{entry}.*freeze again"):
            reader(frozen)
    assert forecast.of_snapshot(frozen).images == 0
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"hash": ' * 50_000, "9" * 10_000, "null", "[]", "{}", '{"hash": "a"}', ""],
    ids=lambda text: text[:12],
)
def test_a_manifest_that_is_deep_or_nothing_is_refused_at_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "snapshot.json").write_text(text)
    start = time.monotonic()
    with pytest.raises(ValueError, match="snapshot.json is damaged"):
        manifest.read(tmp_path)
    assert time.monotonic() - start < 2


def test_a_manifest_longer_than_any_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "LARGEST", 1 << 20)
    (tmp_path / "snapshot.json").write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(ValueError, match="longer than 1 MB"):
        manifest.read(tmp_path)


def runs(size: list[int], counts: str) -> Region:
    return Region(0, 1, rle={"size": size, "counts": counts})


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([2**31 - 1, 2**31 - 1], "0"),
        ([100_000, 1], "P3"),
        ([-4, 4], "0"),
        ([4], "0"),
        ([4, 4], "T" * 100),  # more runs than it has cells
        ([4, 4], "o" * 100_000),  # one run that never ends
        ([4, 4], "0" * 3_000_000),
        ([4, 4], ""),
    ],
)
def test_a_region_of_absurd_size_is_refused_at_once(size: list[int], counts: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match="a region's mask"):
        runs(size, counts).mask(7, 7)
    assert time.monotonic() - start < 2


def test_every_sound_mask_is_read_as_pycocotools_reads_it() -> None:
    random = np.random.default_rng(0)
    for height, width in ((1, 1), (5, 9), (333, 500), (480, 640)):
        for share in (0.0, 0.02, 0.5, 1.0):
            mask = (random.random((height, width)) < share).astype(np.uint8)
            rle = coco_mask.encode(np.asfortranarray(mask))
            region = runs([height, width], rle["counts"].decode())
            assert (region.mask(height, width) == mask).all(), (height, width, share)


def test_the_reader_needs_neither_torch_nor_numpy() -> None:
    import subprocess

    code = "import sys, loctex.records.frozen.manifest; print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=provenance.ROOT, capture_output=True, text=True
    )
    assert done.stdout == "set()\n"
