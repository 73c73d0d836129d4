"""Losses as functions of tensors. B pairs, T tokens, N cells, D embedding size."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    keys: Tensor | None = None,
    candidates: "Candidates | None" = None,
) -> Tensor:
    """Symmetric InfoNCE (METHOD 1; van den Oord et al., 2018).

    image, text: (B, D), l2-normalised, the batch of all processes. scale: 1 / temperature.
    keys: (B,) numbers of the images; two pairs of one image are not each other's negatives.
    candidates: what each side is compared with, the batch first; None: the other side itself.
    Returns the mean over pairs and both directions.
    """
    images, texts, others = image, text, keys
    if candidates is not None:
        images, texts, others = candidates.image, candidates.text, candidates.keys
    excluded = None
    if keys is not None:
        excluded = keys[:, None] == others[None, :]
        excluded.fill_diagonal_(False)
    return (info_nce(image, texts, scale, excluded) + info_nce(text, images, scale, excluded)) / 2


@dataclass
class Candidates:
    """The C >= B embeddings that B queries are compared with; row i < B belongs to query i."""

    image: Tensor  # (C, D), l2-normalised, without gradient
    text: Tensor  # (C, D)
    keys: Tensor  # (C,) numbers of the images


def info_nce(query: Tensor, candidates: Tensor, scale: Tensor, excluded: Tensor | None) -> Tensor:
    """Mean over (B, D) queries of -log softmax of their own candidate, of the (C, D) there are.

    excluded: (B, C) bool, pairs that count neither for nor against.
    """
    logits = scale * query.float() @ candidates.float().T  # (B, C)
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def localization_ce(cosine: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the attention against the rendered trace (METHOD 1, `ce`).

    cosine: (B, T, N) of tokens and cells. target: (B, T, N) trace counts; a token without any is
    ungrounded and takes no part. scale: sharpness of the softmax over cells.
    Returns the sum over grounded tokens and their number; the sum of none is 0 with a graph.
    """
    mass = target.sum(-1)
    wanted = target / mass.clamp_min(1)[..., None]
    each = -(wanted * F.log_softmax(scale * cosine.float(), dim=-1)).sum(-1)  # (B, T)
    grounded = mass > 0
    return (each * grounded).sum(), grounded.sum()


def localization_l2(cosine: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of relu(cosine) and rendered trace, each of l2 norm 1 (METHOD 1, `l2`).

    Arguments and result as `localization_ce`; `scale` stays in the graph with gradient 0.
    """
    attention = F.normalize(F.relu(cosine.float()), dim=-1, eps=1e-6)
    wanted = F.normalize(target, dim=-1)
    each = (attention - wanted).square().sum(-1) + 0 * scale
    grounded = target.sum(-1) > 0
    return (each * grounded).sum(), grounded.sum()


def attention_ce(cosine: Tensor, scale: Tensor) -> Tensor:
    """The map that `localization_ce` trains: (..., N) of mass 1."""
    return (scale * cosine.float()).softmax(dim=-1)


def attention_l2(cosine: Tensor, scale: Tensor) -> Tensor:
    """The map that `localization_l2` trains: (..., N) of mass 1 (0 where no cosine is positive)."""
    positive = F.relu(cosine.float())
    return positive / (positive.sum(-1, keepdim=True) + 1e-6)


LOCALIZATION = {"ce": localization_ce, "l2": localization_l2}
ATTENTION = {"ce": attention_ce, "l2": attention_l2}
