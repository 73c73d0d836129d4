"""One training step of ours against one of open_clip's RN50.

    python -m tests.benchmarks.peer [--cpu] [--compile] [--tuned] [--batch 256]

The same batch size, bf16, 224 px and 64 tokens; the peer is trained as open_clip does it, with its
own loss and AdamW, on images that are floats on the device already. --tuned: a second peer,
channels-last and compiled, as its makers would run it. Needs open_clip_torch, which nothing else
here does.
"""

from collections.abc import Sequence

import open_clip
import torch

from loctex import settings
from loctex.loading.collate import Batch
from loctex.settings import presets
from loctex.training import step
from tests.benchmarks import turns
from tests.benchmarks.step import Trainer, device_of, finished, made_batch, parser, size_of


class Peer:
    """open_clip's RN50 with texts of `length` tokens."""

    def __init__(
        self, length: int, pixels: int, device: torch.device, is_tuned: bool = False
    ) -> None:
        torch.manual_seed(0)
        config = open_clip.get_model_config("RN50")
        config["text_cfg"]["context_length"] = length
        config["vision_cfg"]["image_size"] = pixels
        self.model = open_clip.CLIP(**config).to(device).train()
        if is_tuned:
            self.model = self.model.to(memory_format=torch.channels_last)
            self.model.compile()
        self.loss = open_clip.ClipLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def step(self, images: torch.Tensor, tokens: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with step.autocast(images.device, "bf16"):
            loss = self.loss(*self.model(images, tokens))
        loss.backward()
        self.optimizer.step()


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("peer", __doc__)
    options.add_argument("--tuned", action="store_true", help="also the peer at its best")
    given = options.parse_args(arguments)
    device = device_of(given)
    size, count = size_of(given), given.turns or (3 if given.cpu else 20)
    values = {"train": {"compile": given.compile}}
    ours = Trainer(
        settings.with_values(presets.PRESETS[given.preset], values),
        device,
        compile_pairs=size if given.compile else 0,
    )
    batch: Batch = made_batch(size, ours.wanted, *ours.model.grids()).to(device)
    peer = Peer(batch.tokens.shape[1], batch.image.shape[1], device)
    images = step.pixels(batch, ours.model.config).contiguous()
    steps = [
        finished(lambda: ours.step(batch), device),
        finished(lambda: peer.step(images, batch.tokens), device),
    ]
    if given.tuned:
        tuned = Peer(batch.tokens.shape[1], batch.image.shape[1], device, is_tuned=True)
        laid_out = images.contiguous(memory_format=torch.channels_last)
        steps.append(finished(lambda: tuned.step(laid_out, batch.tokens), device))

    fast, slow, *others = turns.seconds(steps, count)
    print(f"{size} pairs a step; open_clip {size / slow:,.1f} pairs/s, ours {size / fast:,.1f}")
    for seconds in others:
        print(f"open_clip tuned {size / seconds:,.1f} pairs/s, ratio_tuned {seconds / fast:.2f}")
    print(f"ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
