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
        self.keys = torch.full((size,), -1, dtype=torch.int64, device=device)
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
        """The batch of all processes, then the queue; the queue then takes the batch."""
        image, text, keys = (distributed.gather(tensor) for tensor in (image, text, keys))
        filled = slice(0, self.num_filled)
        joined = Candidates(
            image=torch.cat((image, self.image[filled])),
            text=torch.cat((text, self.text[filled])),
            keys=torch.cat((keys, self.keys[filled])),
        )
        size = len(self.keys)
        if size == 0:
            return joined
        rows = (self.place + torch.arange(len(keys), device=keys.device)) % size
        self.image[rows], self.text[rows], self.keys[rows] = (
            image[-size:],
            text[-size:],
            keys[-size:],
        )
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
        queue = {
            name: getattr(self, name) for name in ("image", "text", "keys", "place", "num_filled")
        }
        return {"model": self.model.state_dict(), **queue}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        for name in ("image", "text", "keys"):
            getattr(self, name).copy_(state[name])
        self.place, self.num_filled = state["place"], state["num_filled"]
