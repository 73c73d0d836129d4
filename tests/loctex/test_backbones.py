"""Another backbone than the preset's: its own options, its own size, and sentences for the rest."""

import argparse

import pytest
import torch

from loctex import settings
from loctex.jobs.run import Run
from loctex.model import backbones
from loctex.model.backbones import Backbone, folded, grids
from loctex.settings.presets import TINY
from loctex.train import main, settle_settings


def settled(tmp_path, *words, preset="tiny", file=None):
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    arguments = parser.parse_args(words)
    arguments.preset, arguments.settings, arguments.data = preset, file, []
    return settle_settings(arguments, Run(tmp_path / "run"), None).model


def num_parameters(model) -> int:
    backbone = Backbone(name=model.backbone, num_scales=1, options=model.backbone_options)
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"])
def test_norms_folded_into_convolutions_leave_the_maps_as_they_are(name, monkeypatch):
    backbone = Backbone(name=name, num_scales=2).eval()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = backbone(pixels)
        faster = folded(backbone, 224)
        for maps, own in zip(expected, faster(pixels), strict=True):
            torch.testing.assert_close(own, maps, rtol=1e-4, atol=1e-4 * float(maps.abs().max()))
    norms = [m for m in faster.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms and faster is not backbone

    if name == "resnet18":  # a norm that does not belong to its convolution is noticed
        monkeypatch.setattr(backbones, "fuse_conv_bn_eval", lambda convolution, norm: convolution)
        assert folded(backbone, 224) is backbone


def test_a_preset_s_backbone_options_do_not_travel_to_another_backbone(tmp_path):
    assert settled(tmp_path).backbone_options == TINY.model.backbone_options
    assert settled(tmp_path, "--model.backbone=resnet18").backbone_options
    assert num_parameters(settled(tmp_path, "--model.backbone=resnet50")) == 23_508_032
    vit = settled(tmp_path, "--model.backbone=vit_tiny_patch16_224")
    assert vit.backbone_options == {} and vit.embedding == 128  # the preset's other settings stay
    typed = '--model.backbone_options={"img_size": 96}'
    vit = settled(tmp_path, "--model.backbone=vit_tiny_patch16_224", typed)
    assert vit.backbone_options == {"img_size": 96}


def test_options_that_a_settings_file_names_stay_with_its_backbone(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model: {backbone: resnet34, backbone_options: {stem_type: deep}}")
    assert settled(tmp_path, file=file).backbone_options == {"stem_type": "deep"}
    file.write_text("model: {backbone: resnet34}")
    assert settled(tmp_path, file=file).backbone_options == {}
    file.write_text("model: {embedding: 64}")
    assert settled(tmp_path, file=file).backbone_options == TINY.model.backbone_options


@pytest.mark.parametrize(
    "name, options, num_scales, message",
    [
        ("vit_tiny_patch16_224", TINY.model.backbone_options, 1, "options belong to one backbone"),
        ("resnet18", {"nonsense": 3}, 1, "'nonsense' is none of the options"),
        ("resnet18", {"layers": "x"}, 1, "model.backbone_options .*timm cannot make resnet18"),
        ("resnet18", {}, 9, "fewer model.attention_scales than 9"),
        ("resnet81", {}, 1, "timm has no model 'resnet81'"),
    ],
)
def test_what_timm_refuses_is_a_sentence_with_the_way_out(name, options, num_scales, message):
    with pytest.raises(ValueError, match=message):
        Backbone(name=name, num_scales=num_scales, options=options)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_transformer_at_another_size_says_how_to_make_it_for_that_size(name):
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="data.image_size 96: .*img_size.: 96}, a multiple of"):
        grids(Backbone(name=name, num_scales=1), 96)
    cell = 16 if name.startswith("vit") else 32
    resized = Backbone(name=name, num_scales=1, options={"img_size": 96})
    assert grids(resized, 96) == [(96 // cell, 96 // cell)]


def test_a_training_ends_with_the_sentence_and_not_with_a_traceback(snapshot, tmp_path):
    words = [f"--data={snapshot}", "--preset=tiny", "--model.backbone=vit_tiny_patch16_224"]
    words += ["--train.device=cpu", f"--run={tmp_path / 'run'}"]
    with pytest.raises(SystemExit, match="error: data.image_size 96: vit_tiny_patch16_224 does no"):
        main(words)
