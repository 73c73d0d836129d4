"""Settings of runs that take seconds."""

from loctex import settings
from loctex.settings import Settings, presets

# No 1x1 convolution with stride 2 may have fewer than 16 channels coming in: on the CPU oneDNN 3.13
# then writes past its buffer on the way back (uxlfoundation/oneDNN issue 6035).
BACKBONE = {"layers": [1, 1, 1], "channels": [16, 16, 16], "stem_type": "deep", "stem_width": 8}


def small(snapshot, **values) -> Settings:
    """8 steps of a model with 50K parameters; values as section__name=value."""
    base = settings.with_values(
        presets.TINY,
        {
            "data": {
                "snapshots": [str(snapshot)],
                "image_size": 64,
                "threads": 1,
                "max_tokens": 96,
            },
            "model": {
                "backbone_options": BACKBONE,
                "text_layers": 1,
                "text_width": 32,
                "text_heads": 2,
                "vocabulary": 300,
                "embedding": 16,
                "attention": 16,
            },
            "train": {
                "steps": 8,
                "batch_size": 8,
                "log_every": 2,
                "evaluate_every": 4,
                "checkpoint_every": 4,
                "warmup_steps": 2,
                "device": "cpu",
            },
        },
    )
    changes: dict[str, dict] = {}
    for name, value in values.items():
        section, key = name.split("__")
        changes.setdefault(section, {})[key] = value
    return settings.with_values(base, changes)
