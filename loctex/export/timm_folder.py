"""The folder that timm opens by itself: timm.create_model("local-dir:FOLDER", pretrained=True), and
"hf-hub:OWNER/NAME" once it lies on the hub.

config.json names the architecture, how the model is built and how its pixels are made, in the
layout of timm's own hub; model.safetensors has the weights under the names of timm's whole model.
Where the run trained all that the whole model has without its classifier, it opens as such and
answers (B, C) features; where parts are missing that no loss ever saw (the last norm of a
transformer, the head convolution of an EfficientNet), as feature maps.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from loctex.model.backbones import REFUSALS, head_convolution
from loctex.model.config import LocTexConfig
from loctex.records.files import write_whole

WEIGHTS = "model.safetensors"
FEATURES: dict[str, Any] = {"features_only": True, "out_indices": [-1]}
# timm loads a part of its whole model only where the classifier is to be another one.
SOME_CLASSIFIER = 1


def write(config: LocTexConfig, state: Mapping[str, Tensor], folder: Path) -> None:
    """model.safetensors and config.json, of the backbone's parameters and its head convolution's.

    ValueError: timm's whole model has no such parameters.
    """
    names = whole_names(config, list(state))
    weights = {names[name]: value.contiguous() for name, value in state.items()}
    write_whole(folder / WEIGHTS, save(weights, {"format": "pt"}))
    write_whole(folder / "config.json", json.dumps(description(config), indent=2))


def expected_weights(config: LocTexConfig) -> dict[str, Tensor]:
    """Names and shapes of what model.safetensors has to hold; the numbers are random."""
    state = _stages(config).state_dict()
    if config.backbone_head:
        state |= head_convolution(config.backbone, config.backbone_options)[0].state_dict()
    names = whole_names(config, list(state))
    return {names[name]: value for name, value in state.items()}


def whole_names(config: LocTexConfig, part_names: list[str]) -> dict[str, str]:
    """Names of a features-only model -> those of the whole one: timm writes stages_0.x or
    model.stages.0.x for stages.0.x. ValueError names what finds no place."""
    whole = {_plain(name): name for name in _whole(config).state_dict()}
    lost = [name for name in part_names if _plain(name) not in whole]
    if lost:
        raise ValueError(
            f"the backbone has unknown {len(lost)} parameter(s) of timm's {config.backbone}: "
            f"{', '.join(lost[:3])}; export to huggingface instead"
        )
    return {name: whole[_plain(name)] for name in part_names}


def _plain(name: str) -> str:
    return name.removeprefix("model.").replace(".", "_")


def _stages(config: LocTexConfig) -> Any:
    return timm.create_model(config.backbone, **FEATURES, **config.backbone_options).eval()


def _whole(config: LocTexConfig) -> Any:
    return timm.create_model(config.backbone, num_classes=0, **config.backbone_options).eval()


def is_whole(config: LocTexConfig) -> bool:
    """Whether timm's whole model without its classifier is what the run trained: it then answers
    the features that the run's backbone has, pooled."""
    options = json.dumps(config.backbone_options, sort_keys=True)
    return _is_whole(config.backbone, options, config.backbone_head, config.image_size)


@lru_cache(maxsize=16)
@torch.no_grad()
def _is_whole(backbone: str, options: str, has_head: bool, image_size: int) -> bool:
    config = LocTexConfig(
        backbone=backbone, backbone_options=json.loads(options), backbone_head=has_head
    )
    if has_head:
        return True

    whole = _whole(config)
    stages = _stages(config)
    state, part = whole.state_dict(), stages.state_dict()
    names = whole_names(config, list(part))
    if set(names.values()) != set(state):
        return False

    stages.load_state_dict({name: state[names[name]] for name in part})
    pixels = torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    try:
        answer = whole(pixels)
    except (*REFUSALS, RuntimeError):  # of stages that its options left out
        return False
    features = pooled(stages, pixels)
    return answer.shape == features.shape and torch.allclose(answer, features, atol=1e-5)


def pooled(stages: nn.Module, images: Tensor) -> Tensor:
    """(B, C) the mean of a features-only model's last map."""
    last = stages(images)[-1]
    return last.mean(dim=(1, 2) if is_channels_last(stages) else (2, 3))


def is_channels_last(stages: Any) -> bool:
    """Whether its maps are (B, h, w, C), as those of Swin and its kin."""
    return str(getattr(stages, "output_fmt", "NCHW")).endswith("NHWC")


def answers_channels_last(config: LocTexConfig) -> bool:
    """The same of the model that the folder opens as."""
    return is_channels_last(_stages(config))


def has_own_names(config: LocTexConfig) -> bool:
    """Whether a features-only model calls its parameters as the whole one does, so that the file
    of weights can be named by itself (checkpoint_path)."""
    names = whole_names(config, list(_stages(config).state_dict()))
    return all(name == whole for name, whole in names.items())


def description(config: LocTexConfig) -> dict[str, Any]:
    """config.json as timm's hub has it. Whole images are stretched to the square, so nothing is
    cropped."""
    whole, size = _whole(config), config.image_size
    as_features = {} if is_whole(config) else FEATURES
    num_classes = SOME_CLASSIFIER if as_features else 0
    own = whole.pretrained_cfg
    return {
        "architecture": config.backbone,
        "num_classes": num_classes,
        "num_features": whole.num_features,
        "model_args": config.backbone_options | as_features,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": bool(own.get("fixed_input_size")),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(config.pixel_mean),
            "std": list(config.pixel_std),
            "num_classes": num_classes,
            "first_conv": own.get("first_conv"),
            "classifier": own.get("classifier"),
        },
    }


@torch.no_grad()
def answers(folder: Path, images: Tensor) -> dict[str, Tensor]:
    """What timm makes of the folder: image_features (B, C), and pooled_output where its whole
    model opens."""
    source = f"local-dir:{folder}"
    stages = timm.create_model(source, pretrained=True, **FEATURES).eval()
    features = {"image_features": pooled(stages, images)}
    if "features_only" not in json.loads((folder / "config.json").read_bytes())["model_args"]:
        whole: Any = timm.create_model(source, pretrained=True).eval()
        features["pooled_output"] = whole(images)
    return features
