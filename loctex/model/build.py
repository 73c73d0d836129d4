"""From settings, or a folder of save_pretrained, to a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from loctex.model import pretrained
from loctex.model.backbones import Backbone
from loctex.model.config import LocTexConfig
from loctex.model.losses import ATTENTION
from loctex.model.model import LocTexModel
from loctex.settings import Settings, backbone_options


def build(settings: Settings, vocab_size: int, pad_token_id: int) -> LocTexModel:
    """A model from settings; `model.init` says whether timm's weights are put into its backbone."""
    model, data = settings.model, settings.data
    config = LocTexConfig(
        backbone=model.backbone,
        backbone_options=model.backbone_options,
        backbone_head=model.backbone_head,
        attention_scales=model.attention_scales,
        text_layers=model.text_layers,
        text_width=model.text_width,
        text_heads=model.text_heads,
        text_dropout=model.text_dropout,
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
        embedding=model.embedding,
        attention=model.attention,
        max_tokens=data.max_tokens,
        start_temperature=settings.loss.temperature,
        **pixels(settings),
        **overrides(settings),
        **fusion_settings(settings),
    )

    result = LocTexModel(config)
    if result.fusion is not None and model.fusion_init == "text":
        result.fusion.start_from(result.text_encoder)

    if model.init == "timm":
        weights = pretrained_weights(settings)
        backbone = pretrained_backbone(settings, weights)
        result.backbone.load_state_dict(backbone.state_dict())
        if result.backbone_head is not None:
            names = result.backbone_head.state_dict()
            result.backbone_head.load_state_dict({name: weights[name] for name in names})

    return result


def pretrained_weights(settings: Settings) -> dict[str, Tensor]:
    """Those of the whole timm model, by its names. ValueError says which file to fetch, and where
    to name it."""
    file = pretrained.weights_file(settings.model.backbone, settings.model.weights)
    return pretrained.load_weights(settings.model.backbone, file)


def pretrained_backbone(settings: Settings, weights: Mapping[str, Tensor]) -> Backbone:
    """The backbone with these weights; ValueError where the options changed its sizes."""
    model = settings.model
    try:
        return Backbone(
            name=model.backbone,
            num_scales=model.attention_scales,
            options=model.backbone_options,
            weights=weights,
        )
    except RuntimeError as error:  # timm's, of sizes that the options changed
        raise ValueError(
            f"the weights of {model.backbone} do not fit model.backbone_options "
            f"{model.backbone_options}: {error}"
        ) from error


def pixels(settings: Settings) -> dict[str, Any]:
    """How the pixels are made: as a pre-trained backbone wants them, else as ImageNet's."""
    own = pretrained.pixels_of(settings.model.backbone) if settings.model.init == "timm" else None
    return {"pixel_mean": own.mean, "pixel_std": own.std} if own else {}


def overrides(settings: Settings) -> dict[str, Any]:
    """What a run may set anew in a model that it starts from."""
    return {
        "contrastive_share": settings.model.contrastive_share,
        "localization": settings.loss.localization,
        "localized": settings.loss.localization_weight > 0,
        "learn_temperature": settings.loss.learn_temperature,
        "image_size": settings.data.image_size,
        "word_margin": settings.data.word_margin,
        "frozen_backbone": settings.model.freeze,
    }


def fusion_settings(settings: Settings) -> dict[str, Any]:
    """The fusion encoder that these losses need: of no layers where none does."""
    model, loss, data = settings.model, settings.loss, settings.data
    is_needed = any(
        (loss.matching_weight, loss.masked_words_weight, loss.fusion_localization_weight)
    )

    return {
        "fusion_layers": model.fusion_layers if is_needed else 0,
        "fusion_width": model.fusion_width,
        "gradcam_layer": model.gradcam_layer,
        "has_matching": loss.matching_weight > 0,
        "has_masked_words": loss.masked_words_weight > 0,
        "has_changed_words": loss.changed_word_weight > 0,
        "exclusive_words": data.exclusive_words if loss.changed_word_weight > 0 else "",
    }


def with_fusion(model: LocTexModel, settings: Settings) -> LocTexModel:
    """The model with the fusion encoder that the losses need; its other weights are the same.

    What the model has of it already stays; what it lacks starts anew, by `model.fusion_init`.
    """
    config = LocTexConfig.from_dict(model.config.to_dict() | fusion_settings(settings))
    if config.to_dict() == model.config.to_dict():
        return model
    result = LocTexModel(config)
    if result.fusion is not None and settings.model.fusion_init == "text":
        result.fusion.start_from(model.text_encoder)

    own = result.state_dict()
    fitting = {}
    for name, value in model.state_dict().items():
        if name in own and own[name].shape == value.shape:
            fitting[name] = value
    result.load_state_dict(fitting, strict=False)
    return result


def load(
    folder: Path | str,
    changes: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> LocTexModel:
    """A model saved with `save_pretrained`, with `changes` to its config, on `device`.

    ValueError says what the folder lacks.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} holds no saved model (config.json is missing); name a run that has written "
            "a checkpoint, or a folder of save_pretrained"
        )

    try:
        config = LocTexConfig.from_pretrained(folder, **(changes or {}))
        if config.localization not in ATTENTION:
            raise ValueError(
                f"{folder}: its localization is {config.localization!r}, which this version does "
                "not know; open it with the version that trained it"
            )
        backbone_options.check(config.backbone_options, f"{folder}/config.json: backbone_options")
        loaded: Any = LocTexModel.from_pretrained(
            folder, config=config, output_loading_info=True, local_files_only=True
        )
        model: LocTexModel = loaded[0]
        loading: dict[str, Any] = loaded[1]
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{folder}: the weights or config.json are damaged or missing ({error}); use another "
            "checkpoint"
        ) from error
    except RuntimeError as error:  # transformers, of sizes that differ
        raise ValueError(
            f"{folder}: the weights do not fit its config.json; it was made by another version of "
            "the studio, or changed by hand. Open it with the version that trained it"
        ) from error

    wrong = {k: sorted(map(str, v)) for k, v in loading.items() if v}
    if wrong:
        raise ValueError(f"{folder}: the weights do not fit its config.json: {wrong!r:.300}")
    model.hold_still()
    return on_device(model, device)


def on_device(model: LocTexModel, device: torch.device | str) -> LocTexModel:
    """The model itself, moved (transformers' wrapper of `to` hides its types)."""
    move: Any = model.to
    return move(device)
