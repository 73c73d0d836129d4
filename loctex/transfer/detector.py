"""Torchvision's Mask R-CNN on a feature pyramid of our backbone, all of it trained.

The parts and numbers are those of torchvision's maskrcnn_resnet50_fpn but for the batch norms: in
backbone and pyramid they learn and keep statistics (METHOD section 4), as VirTex's have it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from loctex.model.backbones import Backbone
from loctex.transfer.encoders import Encoder

FINEST = 4  # stride of the first map of the pyramid, in pixels


class Pyramid(nn.Module):
    """(B, 3, H, W) -> maps of `out_channels` channels, finest first, and a coarser one, "pool"."""

    def __init__(self, *, backbone: Backbone, out_channels: int = 256) -> None:
        super().__init__()
        self.body = backbone
        self.out_channels = out_channels
        self.fpn = FeaturePyramidNetwork(
            backbone.channels, out_channels, LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.body(images.contiguous(memory_format=torch.channels_last))
        return self.fpn(OrderedDict((str(k), features) for k, features in enumerate(maps)))


def build(
    encoder: Encoder, num_categories: int, *, has_masks: bool, size: int, num_rois: int = 512
) -> FasterRCNN:
    """The detector, whose backbone starts from the encoder's weights.

    size: pixels of the short side; training draws one of five from .8 of it to all of it, as
    detectron2 does with 640 to 800. num_rois: regions an image that the second stage learns from.
    ValueError where the backbone has no maps of strides 4, 8, 16 ...
    """
    backbone = every_stage(encoder.backbone)
    levels = [str(k) for k in range(len(backbone.strides))]
    sides = [8 * stride for stride in [*backbone.strides, 2 * backbone.strides[-1]]]
    ratios = ((0.5, 1.0, 2.0),) * len(sides)

    options = {
        "min_size": tuple(round(size * (0.8 + 0.05 * k)) for k in range(5)),
        "max_size": round(size * 1333 / 800),
        "image_mean": list(encoder.mean),
        "image_std": list(encoder.std),
        "rpn_anchor_generator": AnchorGenerator(tuple((side,) for side in sides), ratios),
        "box_roi_pool": MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        "box_batch_size_per_image": num_rois,
    }

    pyramid = Pyramid(backbone=backbone)
    if not has_masks:
        return FasterRCNN(pyramid, num_categories + 1, **options)

    mask_pool = MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2)
    return MaskRCNN(pyramid, num_categories + 1, mask_roi_pool=mask_pool, **options)


def every_stage(backbone: Backbone) -> Backbone:
    """The same weights, with all maps from stride 4 on."""
    stages: Any = backbone.stages
    all_strides = [stage["reduction"] for stage in stages.feature_info.info]
    strides = [stride for stride in all_strides if stride >= FINEST]
    if strides != [FINEST * 2**k for k in range(len(strides))] or len(strides) < 2:
        raise ValueError(
            f"{backbone.name} has maps of strides {', '.join(map(str, all_strides))}; a feature "
            "pyramid needs 4, 8, 16 ...: take a ResNet or another convolutional backbone"
        )
    all_stages = Backbone(name=backbone.name, num_scales=len(strides), options=backbone.options)
    all_stages.load_state_dict(backbone.state_dict())
    return all_stages


def measure_statistics(model: FasterRCNN, images: Iterable[list[Tensor]]) -> None:
    """Precise batch norm (METHOD section 4): statistics anew, averaged over these batches.

    images: batches of (3, H, W) in 0..1, on the model's device. What was learned stays.
    """
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]

    usual = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # PyTorch's word for a plain average

    model.train()
    with torch.no_grad():
        for batch in images:
            model.backbone(model.transform(batch)[0].tensors)

    for module, momentum in zip(norms, usual, strict=True):
        module.momentum = momentum
