"""What each part of the second system costs: time of the step, against the counted operations.

    python -m tests.benchmarks.parts [--cpu] [--preset tiny] [--batch 64] [--parts matching gradcam]

Each part on its own beside the plain step of the same run. `predicted` is the ratio of the counted
operations (matrix products and convolutions, forward and backward), `measured` that of the times;
the last line is the largest measured / predicted.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from loctex import settings
from loctex.loading.collate import Batch
from loctex.settings import Settings, presets
from tests.benchmarks import step, turns

MATCH = {"matching_weight": 1.0}
PARTS = {
    "focal": {"loss": {"focal": 2.0}},
    "matching": {"loss": MATCH},
    "changed captions": {"loss": MATCH | {"changed_captions": True}},
    "changed words": {
        "loss": MATCH | {"changed_captions": True, "changed_word_weight": 1.0},
    },
    "fusion localization": {"loss": {"fusion_localization_weight": 1.0}},
    "hidden words": {"loss": {"masked_words_weight": 1.0}},
    "mask by gradcam": {"loss": MATCH | {"soft_mask_weight": 1.0}},
    "mask by attention": {"loss": MATCH | {"soft_mask_weight": 1.0, "mask_source": "attention"}},
    "mask by trace": {"loss": MATCH | {"soft_mask_weight": 1.0, "mask_source": "trace"}},
    "distortions": {"data": {"distort": 2}},
}


def batch_of(size: int, wanted: Settings, *grids: tuple[int, int]) -> Batch:
    """Random pairs of which each word has one token; one word in seven is hidden."""
    made = step.made_batch(size, wanted, *grids)
    is_said = made.tokens > 0
    made.word = torch.where(is_said, torch.arange(made.tokens.shape[1]), -1)
    made.word[:, 0] = -1
    hidden = is_said & (made.word > 0) & (made.word % 7 == 0)
    if wanted.loss.masked_words_weight > 0:
        made.hidden = made.tokens.masked_fill(hidden, 3)
        most = int(hidden.sum(1).max())
        made.hidden_at = (made.word * hidden).topk(most, dim=1).values.clamp_min(0)
    if wanted.loss.changed_captions:
        made.changed = made.tokens.clone()
        made.changed[:, 3] = 5
        made.new_word = made.changed != made.tokens
        made.kept_word, made.true_word = is_said & ~made.new_word, is_said
    if wanted.data.distort:
        made.distortion = torch.tensor([[1, 0.1, 0.1, -0.1, 1, 0, 0.9, 64, 0.1]]).repeat(size, 1)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser: argparse.ArgumentParser = step.parser("parts", __doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    given = parser.parse_args(arguments)
    device = step.device_of(given)
    size, count = given.batch or (16 if given.cpu else 256), given.turns or (5 if given.cpu else 20)
    names = ["plain", *given.parts]
    base = presets.PRESETS[given.preset]
    calls, costs = [], []
    for name in names:
        wanted = settings.with_values(base, PARTS.get(name, {}))
        trainer = step.Trainer(wanted, device)
        batch = batch_of(size, wanted, *trainer.model.grids()).to(device)
        costs.append(step.operations(trainer, batch))
        calls.append(step.finished(lambda t=trainer, b=batch: t.step(b), device))
    times = np.array(turns.seconds(calls, count))
    print(f"preset {given.preset}, {size} pairs on {device.type}, medians of {count} turns")
    measured, predicted = times / times[0], np.array(costs) / costs[0]
    for row in zip(names, times, measured, predicted, measured / predicted, strict=True):
        print("{:22s} {:7.3f} s  measured {:5.2f}  predicted {:5.2f}  ratio {:5.2f}".format(*row))
    print(f"ratio {(measured / predicted).max():.2f}")


if __name__ == "__main__":
    main()
