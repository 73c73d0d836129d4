"""LocTex: visual features from captions and the mouse traces that were drawn with them.

What is public, each imported when it is asked for; the first three bring no torch:

    Narrative     a caption with word times and mouse trace, one line of the public format
    Snapshot      frozen images with their narratives, read at random
    Settings      all settings of a training run
    LocTexModel   the model, a transformers PreTrainedModel
    Predictor     where a trained model looks for each word of a caption
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loctex.model.model import LocTexModel
    from loctex.records.narrative import Narrative
    from loctex.records.snapshot import Snapshot
    from loctex.scoring.predictor import Predictor
    from loctex.settings import Settings

__version__ = "0.1.0"
__all__ = ["LocTexModel", "Narrative", "Predictor", "Settings", "Snapshot", "__version__"]

_HOMES = {
    "LocTexModel": "loctex.model.model",
    "Narrative": "loctex.records.narrative",
    "Predictor": "loctex.scoring.predictor",
    "Settings": "loctex.settings",
    "Snapshot": "loctex.records.snapshot",
}

# What Apple's GPUs lack runs on the CPU, with PyTorch's own warning; read when torch is loaded.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
