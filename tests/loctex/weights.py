"""A run whose weights nobody trained: enough for what only hands weights on."""

from pathlib import Path

import torch

from loctex import settings
from loctex.loading import tokenization
from loctex.model import build
from loctex.model.model import LocTexModel
from loctex.settings import Settings
from loctex.training import checkpoint
from tests.loctex.small import small


def write_run(run: Path, seed: int = 0, snapshot: Path | str = "scenes", **values) -> Path:
    """A run of `small` settings with one checkpoint of random weights; its path."""
    return write_weights(run, small(snapshot, **values), seed)


def write_weights(run: Path, wanted: Settings, seed: int = 0) -> Path:
    """A run of these settings with one checkpoint of random weights; its path."""
    words = tokenization.train(["a red circle left of a blue square"] * 3, 300, 32)
    torch.manual_seed(seed)
    model = build.build(wanted, len(words), words.pad_token_id)
    enliven(model)
    run.mkdir(parents=True)
    settings_text = settings.dump(wanted)
    (run / "settings.yaml").write_text(settings_text)
    checkpoint.save(run, 1, model=model, tokenizer=words, state={"step": 1}, is_best=True)
    return run


def enliven(model: LocTexModel) -> None:
    """Random statistics for the batch norms, so that a lost or swapped buffer shows."""
    for name, value in model.backbone.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    for name, value in model.backbone.named_parameters():
        if value.ndim == 1 and name.endswith("weight"):
            value.data.uniform_(0.5, 1.5)  # timm starts the last norm of a block at 0
