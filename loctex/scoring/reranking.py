"""Retrieval in two steps: cosines choose some candidates, the matching head orders them (ALBEF)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from loctex.model.features import ImageFeatures, TextFeatures
from loctex.model.model import LocTexModel
from loctex.scoring import metrics

PAIRS = 256  # fused at once


class Reranker:
    """Keeps what the fusion encoder needs of a split, on the CPU: at r50 .5 MB a pair."""

    def __init__(self, model: LocTexModel) -> None:
        self.model = model
        self.cells: list[Tensor] = []  # (b, N, W) each
        self.hidden: list[Tensor] = []  # (b, max_tokens, width)
        self.is_token: list[Tensor] = []  # (b, max_tokens)
        self.grid = (0, 0)

    def add(self, image: ImageFeatures | None = None, text: TextFeatures | None = None) -> None:
        """Images and captions in the order of the similarity's rows and columns."""
        if image is not None:
            self.cells.append(self.model.fusion_encoder().cells(image.last).cpu())
            self.grid = image.grids[-1]
        if text is not None:
            missing = self.model.config.max_tokens - text.hidden.shape[1]
            self.hidden.append(F.pad(text.hidden, (0, 0, 0, missing)).cpu())
            self.is_token.append(F.pad(text.is_token, (0, missing)).cpu())

    def retrieval(
        self,
        similarity: np.ndarray,
        image_of: np.ndarray,
        top: int,
        captions: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """The measures of `metrics.retrieval`, named ..._reranked and ..._reranked_alone.

        similarity: (images, captions) cosines. top: candidates of each image and each caption;
        what is not among them keeps its place behind. captions: their texts, as `metrics.retrieval`
        takes them. `alone` ranks by the head's log-odds, as
        ALBEF does. The other adds the contrastive logit (as BLIP adds the cosine): the head's
        negatives were drawn by that logit, so that what it learned is what the logit lacks.
        """
        ranks = [(-similarity).argsort(axis).argsort(axis) for axis in (1, 0)]
        is_candidate = [rank < top for rank in ranks]
        pairs = np.argwhere(is_candidate[0] | is_candidate[1])

        alone = np.zeros_like(similarity, dtype=np.float64)
        alone[tuple(pairs.T)] = self.match(torch.from_numpy(pairs))
        summed = alone + float(self.model.scale) * similarity

        values: dict[str, float] = {}

        for ending, matched in (("reranked", summed), ("reranked_alone", alone)):
            above = matched - matched.min() + 2  # any cosine is below
            for direction, is_chosen in zip(
                ("image_to_text", "text_to_image"), is_candidate, strict=True
            ):
                ranked = np.where(is_chosen, above, similarity)
                scores = metrics.retrieval(ranked, image_of, captions)
                values |= {
                    f"{name}_{ending}": value
                    for name, value in scores.items()
                    if name.startswith(direction)
                }
        return values

    def match(self, pairs: Tensor) -> np.ndarray:
        """(P, 2) numbers of image and caption -> (P,) log-odds."""
        cells, hidden, is_token = map(torch.cat, (self.cells, self.hidden, self.is_token))
        fusion, device = self.model.fusion_encoder(), self.model.device
        answers: list[Tensor] = []

        order = is_token.sum(1)[pairs[:, 1]].argsort()  # captions of similar length together
        for pairs_now in pairs[order].split(PAIRS):
            image, text = pairs_now.T
            length = int(is_token[text].sum(1).max())
            rows = hidden[text, :length], is_token[text, :length], cells[image]
            hidden_rows, token_rows, cell_rows = (row.to(device) for row in rows)
            log_odds = fusion.match(hidden_rows, token_rows, cell_rows, self.grid)
            answers.append(log_odds.float().cpu())

        result = torch.empty(len(pairs))
        result[order] = torch.cat(answers)
        return result.numpy()
