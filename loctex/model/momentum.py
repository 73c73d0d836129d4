"""Momentum encoders with a queue of earlier embeddings (MoCo, He et al., 2020; as in ALBEF)."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from loctex import distributed
from loctex.model.losses import Candidates
from loctex.model.model import LocTexModel


class MomentumEncoders:
    """A slowly following copy of the model, and a queue of what it made of earlier batches.

    size: rows of the queue. decay: how slowly the copy follows (ALBEF: .995).
    """

    def __init__(self, model: LocTexModel, *, size: int, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.model.fusion = None  # the queue holds what the encoders make
        self.decay = decay
        device, width = model.device, model.config.embedding
        self.image = F.normalize(torch.zeros(size, width, device=device), dim=-1)
        self.text = self.image.clone()
        # (size,) of the pictures and of the captions; -1 equals nothing.
        self.keys = torch.full((size,), -1, dtype=torch.int64, device=device)
        self.caption_keys = self.keys.clone()
        self.place = 0  # of the oldest row
        self.num_filled = 0

    @torch.no_grad()
    def encode(
        self,
        images: Tensor,
        tokens: Tensor,
        lengths: Sequence[int] | None = None,
        maps: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(b, D) image and text embeddings of this process's batch or chunk, as the model takes
        them."""
        encode = self.model.encode_image
        image = encode(images) if maps is None else self.model.encode_maps(maps)
        text = self.model.encode_text(tokens, lengths)
        return image.embedding.float(), text.embedding.float()

    @torch.no_grad()
    def candidates(self, image: Tensor, text: Tensor, keys: Tensor) -> Candidates:
        """The batch of all processes, then the queue; the queue then takes the batch.

        keys: (b, 2) of this process's pairs, as `Batch.keys`.
        """
        image, text, keys = (distributed.gather(tensor) for tensor in (image, text, keys))

        filled = slice(0, self.num_filled)
        queue_keys = torch.stack((self.keys, self.caption_keys), dim=1)
        joined = Candidates(
            image=torch.cat((image, self.image[filled])),
            text=torch.cat((text, self.text[filled])),
            keys=torch.cat((keys, queue_keys[filled])),
        )

        size = len(self.keys)
        if size == 0:
            return joined

        rows = (self.place + torch.arange(len(keys), device=keys.device)) % size
        self.image[rows], self.text[rows] = image[-size:], text[-size:]
        self.keys[rows], self.caption_keys[rows] = keys[-size:].T
        self.place = (self.place + len(keys)) % size
        self.num_filled = min(size, self.num_filled + len(keys))

        return joined

    @torch.no_grad()
    def follow(self, model: LocTexModel) -> None:
        """One step of the moving average, after the optimizer's."""
        fast = dict(model.named_parameters())
        for name, slow in self.model.named_parameters():
            slow.lerp_(fast[name].detach(), 1 - self.decay)

    def state_dict(self) -> dict:
        names = ("image", "text", "keys", "caption_keys", "place", "num_filled")
        queue = {name: getattr(self, name) for name in names}
        return {"model": self.model.state_dict(), **queue}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for name in ("image", "text", "keys"):
            getattr(self, name).copy_(state[name])
        if "caption_keys" in state:  # else of an older run: they stay -1 and equal nothing
            self.caption_keys.copy_(state["caption_keys"])
        self.place, self.num_filled = state["place"], state["num_filled"]
