"""Features of frozen backbones: what a file is does not matter, what it shows does."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from loctex.model import pretrained
from loctex.model.backbones import Backbone
from loctex.settings import presets
from loctex.transfer import encoders
from loctex.transfer.encoders import Crop, Encoder, center_square, read_square

OPTIONS = presets.TINY.model.backbone_options


def encoder(seed: int = 0, size: int = 64) -> Encoder:
    torch.manual_seed(seed)
    backbone = Backbone(name="resnet18", num_scales=1, options=OPTIONS)
    return Encoder("tiny", backbone, Crop.of(size))


def photo(seed: int = 0, size: tuple[int, int] = (90, 120)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))


def test_the_middle_square_of_a_256_px_short_side_is_224_px_wide() -> None:
    ramp = np.tile(np.arange(512, dtype=np.float32) / 2, (256, 1)).astype(np.uint8)
    square = center_square(np.stack([ramp] * 3, axis=-1), Crop())
    assert square.shape == (224, 224, 3)
    assert np.array_equal(square[0, :, 0], ramp[0, 144 : 144 + 224])
    assert Crop.of(112) == Crop(short=128, size=112)


def test_gray_cmyk_and_turned_files_give_the_pixels_of_the_plain_one(tmp_path: Path) -> None:
    gray = photo().convert("L")
    plain = gray.convert("RGB")
    turned = plain.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it"
    plain.save(tmp_path / "plain.png")
    gray.save(tmp_path / "gray.png")
    turned.save(tmp_path / "turned.png", exif=exif)
    plain.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    wanted = read_square(tmp_path / "plain.png", Crop.of(64)).astype(int)
    assert np.array_equal(read_square(tmp_path / "gray.png", Crop.of(64)), wanted)
    assert np.array_equal(read_square(tmp_path / "turned.png", Crop.of(64)), wanted)
    assert np.abs(read_square(tmp_path / "cmyk.jpg", Crop.of(64)) - wanted).mean() < 3


def test_features_are_the_pooled_last_stage_of_length_1(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    tiny = encoder()
    rows = encoders.extract(tiny, [tmp_path / "a.png"], tmp_path / "cache").rows
    pixels = torch.from_numpy(read_square(tmp_path / "a.png", tiny.crop)) / 255
    pixels = (pixels - torch.tensor(tiny.mean)) / torch.tensor(tiny.std)
    with torch.no_grad():
        last = tiny.backbone.eval()(pixels.permute(2, 0, 1)[None])[-1]
    wanted = last.mean((2, 3)) / last.mean((2, 3)).norm()
    assert rows == pytest.approx(wanted.numpy(), abs=1e-6)


def test_a_second_reading_computes_nothing(tmp_path: Path, monkeypatch) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        photo(i).save(path)
    first = encoders.extract(encoder(), paths, tmp_path / "cache").rows
    monkeypatch.setattr(Encoder, "__call__", lambda *_: pytest.fail("computed again"))
    again = encoders.extract(encoder(), [*paths[::-1], paths[0]], tmp_path / "cache").rows
    assert np.array_equal(again, first[[2, 1, 0, 0]])


def test_other_weights_or_another_crop_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    rows = [
        encoders.extract(one, [tmp_path / "a.png"], tmp_path / "cache").rows
        for one in (encoder(0), encoder(1), encoder(0, size=96))
    ]
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert min(np.abs(rows[0] - rows[1]).max(), np.abs(rows[0] - rows[2]).max()) > 1e-3


def test_files_that_cannot_be_read_are_named_and_have_no_feature(tmp_path: Path) -> None:
    photo().save(tmp_path / "good.jpg")
    content = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not found")
    names = ("cut", "good", "text", "gone")
    for _ in range(2):  # the second time the good one comes from the cache
        found = encoders.extract(
            encoder(), [tmp_path / f"{name}.jpg" for name in names], tmp_path / "cache"
        )
        assert np.isnan(found.rows).all(axis=1).tolist() == [True, False, True, True]
        assert list(found.problems) == [0, 2, 3]
        assert "damaged or incomplete JPEG" in found.problems[0]
        assert "not an image" in found.problems[2]
        assert "No such file" in found.problems[3]


def test_timm_weights_come_from_a_named_file(tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights = Backbone(name="resnet18", num_scales=1).stages.state_dict()
    weights |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    save_file(weights, tmp_path / "r18.safetensors")
    found = encoders.from_timm(f"resnet18={tmp_path / 'r18.safetensors'}")
    assert torch.equal(found.backbone.stages.conv1.weight, weights["conv1.weight"])
    assert (found.name, found.crop) == ("timm resnet18", Crop(256, 224))


def test_timm_weights_that_are_not_there_are_not_downloaded(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(ValueError, match="hf download timm/resnet18.* timm:resnet18=FILE"):
        encoders.from_timm("resnet18")
    with pytest.raises(ValueError, match="holds no weights of resnet18"):
        encoders.from_timm(f"resnet18={tmp_path / 'gone.safetensors'}")
    with pytest.raises(ValueError, match="no model 'resnet1'"):
        encoders.from_timm("resnet1")
