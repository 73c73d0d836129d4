"""Named settings to start from."""

from collections.abc import Mapping
from types import MappingProxyType

from loctex.settings import Settings, from_dict, with_values

TINY = from_dict(
    {
        "data": {"image_size": 96, "max_tokens": 64, "min_scale": 0.8, "color": 0.2},
        "model": {
            "backbone": "resnet18",
            "backbone_options": {
                "layers": [1, 1, 1],
                "channels": [32, 64, 160],
                "stem_type": "deep",
                "stem_width": 8,
            },
            "text_layers": 2,
            "text_width": 128,
            "text_heads": 4,
            "text_dropout": 0.0,
            "vocabulary": 1000,
            "embedding": 128,
            "attention": 128,
        },
        "train": {
            "steps": 550,
            "batch_size": 64,
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "text_learning_rate": 1e-3,
            "weight_decay": 0.05,
            "warmup_steps": 50,
            "evaluate_every": 250,
            "checkpoint_every": 100,
            "film_every": 50,
        },
    }
)


SOFTMASK = from_dict(
    {
        "data": {"distort": 2},
        "model": {"text_layers": 2},
        "loss": {
            "focal": 2.0,
            "matching_weight": 1.0,
            "masked_words_weight": 1.0,
            "soft_mask_weight": 1.0,
        },
    }
)


# Chosen on a fifth of COCO's training images and on the animals' validation split (RESULTS).
PHOTOS = from_dict(
    {
        "data": {"image_size": 320, "min_scale": 0.5, "color": 0.0},
        "model": {
            "init": "timm",
            "backbone": "tf_efficientnet_lite0",
            "freeze": True,
            "backbone_head": True,
            "attention_scales": 2,
            "contrastive_share": 0.5,
            "text_layers": 2,
            "text_width": 256,
            "text_heads": 4,
            "text_dropout": 0.3,
            "vocabulary": 4000,
            "embedding": 256,
            "attention": 256,
        },
        "train": {
            "steps": 400,
            "batch_size": 64,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "text_learning_rate": 5e-4,
            "scale_rate": 20.0,
            "weight_decay": 0.05,
            "warmup_steps": 50,
            "evaluate_every": 200,
            "film_every": 50,
            "checkpoint_every": 200,
        },
    }
)

# The backbone learns too, at a tenth of the heads' rate and after them (METHOD section 6).
PHOTOS_FINETUNE = with_values(
    PHOTOS,
    {
        "data": {"image_size": 224, "color": 0.4},
        "model": {"freeze": False},
        "train": {"backbone_rate": 0.1, "backbone_wait": 100, "steps": 1500, "warmup_steps": 100},
    },
)

PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "photos": PHOTOS,
        "photos-finetune": PHOTOS_FINETUNE,
        "tiny": TINY,
        "r50": Settings(),
        "softmask": SOFTMASK,
    }
)
