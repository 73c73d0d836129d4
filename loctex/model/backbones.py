"""Visual backbones: any timm model that returns feature maps, behind one interface."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from loctex.settings import backbone_options

# That the classifier's weights find no place in feature maps is no news to whoever trains.
logging.getLogger("timm").setLevel(logging.ERROR)

# What a processor is given at once (maps_in_parts).
PIXELS_AT_ONCE = 204_800
REFUSALS = (TypeError, AssertionError, IndexError, KeyError, AttributeError, ValueError)  # of timm


class Backbone(nn.Module):
    """The last feature maps of a timm model, finest first.

    name: a timm model. num_scales: 1 gives the last stage, 2 also the stage before it.
    options: more arguments for `timm.create_model`; ValueError where they do more than shape it.
    weights: what it starts from, by timm's names; None starts it from random numbers.
    Parameters of a ResNet are named as torchvision's, below `stages.`.
    """

    def __init__(
        self,
        *,
        name: str,
        num_scales: int,
        options: dict | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = (
                ", ".join(timm.list_models(f"*{name}*")[:5]) or "resnet50, vit_small_patch16_224"
            )
            raise ValueError(f"model.backbone: timm has no model {name!r}; it has {close}")

        self.name, self.options = name, dict(options or {})
        backbone_options.check(self.options)  # also those of a config.json

        source: dict[str, Any] = {"pretrained": False}
        if weights is not None:
            source = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": weights}}

        try:
            self.stages = timm.create_model(
                name,
                features_only=True,
                out_indices=tuple(range(-num_scales, 0)),
                **source,
                **self.options,
            )
        except REFUSALS as error:
            sentence = f"timm cannot make {name} ({error})"
            if self.options:
                raise ValueError(
                    f"model.backbone_options {self.options}: {sentence}; options belong to one "
                    "backbone, so leave them out or give this one's"
                ) from error
            raise ValueError(
                f"model.backbone: {sentence}; name another, or fewer model.attention_scales than "
                f"{num_scales}"
            ) from error

        stages: Any = self.stages  # timm's models say no more of themselves than nn.Module
        self.channels: list[int] = stages.feature_info.channels()
        self.strides: list[int] = stages.feature_info.reduction()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> per scale, finest first, (B, C, h, w)."""
        maps = self.stages(images)
        return [  # Swin and its kin answer (B, h, w, C)
            features if features.shape[1] == channels else features.permute(0, 3, 1, 2)
            for features, channels in zip(maps, self.channels, strict=True)
        ]


def maps_in_parts(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """What the backbone says of (B, 3, H, W) images, for one that is not learning now.

    A processor gets so few at once that their activations stay in its cache: of Lite0 on two cores
    4 images of 224 px are 2 to 3 times as fast as 64, and so are 2 of 320 px.
    """
    if images.device.type != "cpu":
        return backbone(images)
    num_at_once = max(1, PIXELS_AT_ONCE // images.shape[-2:].numel())
    parts = [backbone(part) for part in images.split(num_at_once)]
    return [torch.cat(scale) for scale in zip(*parts, strict=True)]


@torch.no_grad()
def folded(backbone: Backbone, image_size: int) -> Backbone:
    """A copy whose convolutions carry the batch norms behind them, for a backbone that has stopped
    learning: the same maps (tests ask for 1e-4), about a seventh faster on a processor.

    A norm is taken to follow the convolution that is registered before it. Where that is not so
    the maps differ, which is looked at, and the backbone itself is returned.
    """
    copy = deepcopy(backbone).eval()
    for module in list(copy.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, norm_name, getattr(norm, "act", nn.Identity()))

    parameter = next(backbone.parameters())
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, image_size, image_size, generator=random).to(parameter)
    was_training = backbone.training
    expected = backbone.eval()(pixels)
    backbone.train(was_training)
    for maps, own in zip(expected, copy(pixels), strict=True):
        if not torch.allclose(maps, own, rtol=1e-3, atol=1e-3 * float(maps.abs().max())):
            return backbone
    return copy


def head_convolution(name: str, options: Mapping[str, Any]) -> tuple[nn.Sequential, int]:
    """What an EfficientNet puts behind its last stage, (B, C, h, w) -> (B, D, h, w) with D > C: a
    pointwise convolution, its norm and activation, from which its classes are read; and D.

    Raises ValueError for a timm model that has none.
    """
    whole: Any = timm.create_model(name, pretrained=False, **options)
    convolution, norm = (getattr(whole, part, None) for part in ("conv_head", "bn2"))
    if convolution is None or norm is None or convolution.kernel_size != (1, 1):
        raise ValueError(
            f"model.backbone_head: {name} has no convolution behind its last stage, as "
            "EfficientNets have; set it to false"
        )
    module = nn.Sequential(OrderedDict(conv_head=convolution, bn2=norm))
    return module, convolution.out_channels


def grids(backbone: Backbone, image_size: int) -> list[tuple[int, int]]:
    """Height and width of each feature map for a square image, measured on an empty one."""
    was_training = backbone.training
    backbone.eval()

    try:
        with torch.no_grad():
            parameter = next(backbone.parameters())
            maps = backbone(parameter.new_zeros(1, 3, image_size, image_size))
    except AssertionError as error:  # of timm, whose transformers are made for one size
        raise ValueError(
            f"data.image_size {image_size}: {backbone.name} does not take it ({error}); set the "
            'size it was made for, or make it for yours with model.backbone_options {"img_size": '
            f"{image_size}}}, a multiple of its patches"
        ) from error

    backbone.train(was_training)
    return [tuple(features.shape[-2:]) for features in maps]
