"""What the encoders make of images and captions. B pairs, T tokens, N cells, C channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class ImageFeatures:
    """What an image is to any caption; computed once."""

    embedding: Tensor  # (B, D), l2-normalised
    cells: list[Tensor]  # per scale, finest first: (B, N, A), l2-normalised
    grids: list[tuple[int, int]]
    pooled: Tensor  # (B, C) of the last stage
    last: Tensor  # (B, D, h, w) of the last stage, or of the head convolution behind it

    def select(self, rows: Sequence[int]) -> "ImageFeatures":
        """The features of these images, in this order, repeated where named twice."""
        return ImageFeatures(
            embedding=self.embedding[rows],
            cells=[cells[rows] for cells in self.cells],
            grids=self.grids,
            pooled=self.pooled[rows],
            last=self.last[rows],
        )


@dataclass
class TextFeatures:
    """What a caption is to any image."""

    embedding: Tensor  # (B, D), l2-normalised
    tokens: list[Tensor]  # per scale: (B, T, A), l2-normalised
    hidden: Tensor  # (B, T, width)
    is_token: Tensor  # (B, T) bool, False for padding


@dataclass
class Output:
    """image, text: (B, D), l2-normalised. cosine: per scale, finest first, (B, T, N).

    The rest is for the fusion encoder, where there is one. last: as `ImageFeatures.last`.
    hidden: (B, T, width) of the caption. guessing, changed: of the caption with hidden words, and
    with one word changed.
    """

    image: Tensor
    text: Tensor
    cosine: list[Tensor]
    last: Tensor | None = None
    hidden: Tensor | None = None
    guessing: Tensor | None = None
    changed: Tensor | None = None


@dataclass
class PipelineOutput(ModelOutput):
    """What transformers' pipelines read, by their names; None for the side that was not asked.

    logits_per_image: (B, N) scaled cosines of B images and N captions. last_hidden_state:
    (B, h * w, C) of an image's last stage, or (N, T, width) of a caption alone. pooler_output:
    (B, C) its mean. image_embeds, text_embeds: (B, D), (N, D), l2-normalised.
    """

    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None


def cosines(image: ImageFeatures, text: TextFeatures) -> list[Tensor]:
    """Per scale: (B, T, N) cosine of each token with each cell."""
    pairs = zip(text.tokens, image.cells, strict=True)
    return [cosine(tokens, cells) for tokens, cells in pairs]


def direction(vectors: Tensor) -> Tensor:
    """(..., A) of any length and precision -> float32 of length 1."""
    return F.normalize(vectors.float(), dim=-1)


def cosine(tokens: Tensor, cells: Tensor) -> Tensor:
    """(B, T, A) and (B, N, A), each a `direction` -> (B, T, N) in float32 under autocast too:
    bf16 knows a cosine near 1 to 1/256, which a scale of 100 makes .4 of a logit."""
    with torch.autocast(tokens.device.type, enabled=False):
        return tokens @ cells.transpose(1, 2)
