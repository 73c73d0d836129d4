"""Losses as functions of tensors. B pairs, T tokens, N cells, D embedding size."""

from collections.abc import Sequence
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
    *,
    focal: float = 0.0,
    softness: float = 0.0,
) -> Tensor:
    """Symmetric InfoNCE (METHOD 1; van den Oord et al., 2018), focal by METHOD 2.

    image, text: (B, D), l2-normalised, the batch of all processes. scale: 1 / temperature.
    keys: (B, K) of each pair; twins by any of them (`twins`) are not each other's negatives.
    candidates: what each side is compared with, the batch first; None: the other side itself.
    focal: exponent of the focal loss. softness: share of the target that `candidates`' own
    similarities make (momentum distillation, ALBEF).
    Returns the mean over pairs and both directions.
    """
    images, texts = image, text
    if candidates is not None:
        images, texts = candidates.image, candidates.text

    excluded = None
    if keys is not None:
        candidate_keys = keys if candidates is None else candidates.keys
        excluded = twins(keys, candidate_keys).fill_diagonal_(False)

    directions = []
    for query, slow, against in ((image, images, texts), (text, texts, images)):
        target = None
        if softness:
            target = soft_targets(slow[: len(query)], against, scale, excluded, softness)
        directions.append(info_nce(query, against, scale, excluded, focal, target))
    return (directions[0] + directions[1]) / 2


@dataclass
class Candidates:
    """The C >= B embeddings that B queries are compared with; row i < B belongs to query i."""

    image: Tensor  # (C, D), l2-normalised, without gradient
    text: Tensor  # (C, D)
    keys: Tensor  # (C, K), as those of the queries


def twins(keys: Tensor, others: Tensor) -> Tensor:
    """(B, K) and (C, K) int64 keys -> (B, C) bool: pairs that share one of their K keys.

    The keys of a pair are those of its picture and of its caption (`Batch.keys`): what is true of
    one pair is then true of the other, so neither is the other's negative (METHOD 3). A key below 0
    equals nothing.
    """
    is_equal = (keys[:, None] == others[None, :]) & (keys[:, None] >= 0)
    return is_equal.any(dim=-1)


def info_nce(
    query: Tensor,
    candidates: Tensor,
    scale: Tensor,
    excluded: Tensor | None = None,
    focal: float = 0.0,
    target: Tensor | None = None,
) -> Tensor:
    """Mean over (B, D) queries of -log softmax of their own candidate, of the (C, D) there are.

    excluded: (B, C) bool, pairs that count neither for nor against. focal: exponent of the factor
    (1 - p) by which well-matched pairs count less. target: (B, C) rows of sum 1 in place of the
    own candidate alone; the loss is then -sum_j q_j (1 - p_j)^focal log p_j (METHOD 2).
    """
    logits = similarities(query, candidates, scale, excluded)
    own = torch.arange(len(logits), device=logits.device)
    if target is None and focal == 0:
        return F.cross_entropy(logits, own)

    log_p = F.log_softmax(logits, dim=-1)
    if target is None:
        log_p = log_p[own, own]
        return (-((-torch.expm1(log_p)) ** focal) * log_p).mean()

    if excluded is not None:
        log_p = log_p.masked_fill(excluded, 0.0)  # where the target is 0; not 0 x infinity
    return -(target * (-torch.expm1(log_p)) ** focal * log_p).sum(-1).mean()


def similarities(
    query: Tensor, candidates: Tensor, scale: Tensor, excluded: Tensor | None
) -> Tensor:
    """(B, C) float32 logits; those of excluded pairs are minus infinity."""
    logits = scale * query.float() @ candidates.float().T
    return logits if excluded is None else logits.masked_fill(excluded, float("-inf"))


@torch.no_grad()
def soft_targets(
    query: Tensor, candidates: Tensor, scale: Tensor, excluded: Tensor | None, softness: float
) -> Tensor:
    """(B, C) rows of sum 1: `softness` of the momentum encoders' answer, the rest the own one."""
    target = softness * similarities(query, candidates, scale, excluded).softmax(dim=-1)
    own = torch.arange(len(target), device=target.device)
    target[own, own] += 1 - softness
    return target


def matching(positive: Tensor, negative: Tensor, is_valid: Tensor) -> Tensor:
    """Two-way cross-entropy of the matching head (ITM of ALBEF), summed over the B pairs.

    positive: (B, 2) logits (no match, match) of the true pairs. negative: (K, B, 2) of each pair's
    K false ones, of which only those that `is_valid`, (K, B) bool, count.
    A pair's loss is the mean over its 1 + K decisions.
    """
    true = -F.log_softmax(positive.float(), dim=-1)[..., 1]
    false = -F.log_softmax(negative.float(), dim=-1)[..., 0]
    return (true + (false * is_valid).sum(0)).sum() / (1 + len(negative))


def changed_words(
    true: Tensor, changed: Tensor, is_true: Tensor, is_new: Tensor, is_kept: Tensor
) -> Tensor:
    """Two-way cross-entropy of words: the changed one is false of the image; true are those beside
    it that were kept, and all of the true caption (else each word of a false caption is doubted).

    true, changed: (B, T, 2) logits (false, true) of the tokens of both captions. is_true: (B, T)
    bool, the words of the true one; is_new, is_kept: of the changed one. Each kind is a mean over
    its tokens; the false kind counts half, the true kinds the other. Summed over the B pairs, 0 of
    a caption without a changed word. Ours.
    """

    def mean(logits: Tensor, is_counted: Tensor, answer: int) -> Tensor:
        token_loss = -F.log_softmax(logits.float(), dim=-1)[..., answer] * is_counted
        return token_loss.sum(1) / is_counted.sum(1).clamp_min(1)

    right, unchanged = mean(true, is_true, 1), mean(changed, is_kept, 1)
    right = torch.where(is_kept.any(1), (right + unchanged) / 2, right)
    return (right + mean(changed, is_new, 0)).sum() / 2


def masked_words(logits: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of guessed words: (B, K, vocabulary) logits, (B, K) words, -100 for none.

    Returns the sum over hidden words and their number; the sum of none is 0 with a graph.
    """
    loss = F.cross_entropy(
        logits.flatten(0, 1).float(), words.flatten(), ignore_index=-100, reduction="sum"
    )
    return loss, (words >= 0).sum()


def localization_of_attention(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """`localization_ce` for a map that is attention already. Ours.

    weights: (B, heads, T, N), each row of sum 1; the heads' mean follows the trace.
    target: (B, T, N) trace counts. Returns the sum over grounded tokens and their number.
    """
    mass = target.sum(-1)
    distribution = target / mass.clamp_min(1)[..., None]
    token_loss = -(distribution * weights.float().mean(1).clamp_min(1e-6).log()).sum(-1)
    grounded = mass > 0
    return (token_loss * grounded).sum(), grounded.sum()


def localization_ce(cosine: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the attention against the rendered trace (METHOD 1, `ce`).

    cosine: (B, T, N) of tokens and cells. target: (B, T, N) trace counts; a token without any is
    ungrounded and takes no part. scale: sharpness of the softmax over cells.
    Returns the sum over grounded tokens and their number; the sum of none is 0 with a graph.
    """
    mass = target.sum(-1)
    distribution = target / mass.clamp_min(1)[..., None]
    token_loss = -(distribution * F.log_softmax(scale * cosine.float(), dim=-1)).sum(-1)  # (B, T)
    grounded = mass > 0
    return (token_loss * grounded).sum(), grounded.sum()


def localization_l2(cosine: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of relu(cosine) and rendered trace, each of l2 norm 1 (METHOD 1, `l2`).

    Arguments and result as `localization_ce`; `scale` stays in the graph with gradient 0.
    """
    attention = F.normalize(F.relu(cosine.float()), dim=-1, eps=1e-6)
    direction = F.normalize(target, dim=-1)
    token_loss = (attention - direction).square().sum(-1) + 0 * scale
    grounded = target.sum(-1) > 0
    return (token_loss * grounded).sum(), grounded.sum()


def attention_ce(cosine: Tensor, scale: Tensor) -> Tensor:
    """The map that `localization_ce` trains: (..., N) of mass 1."""
    return (scale * cosine.float()).softmax(dim=-1)


def attention_l2(cosine: Tensor, scale: Tensor) -> Tensor:
    """The map that `localization_l2` trains: (..., N) of mass 1 (0 where no cosine is positive)."""
    positive = F.relu(cosine.float())
    return positive / (positive.sum(-1, keepdim=True) + 1e-6)


def at_grid(targets: Sequence[Tensor], num_cells: int) -> Tensor:
    """(B, T, h, w) counts on each grid, of which one has so many cells -> (B, T, num_cells).

    The stages of a transformer share one grid.
    """
    sizes = [target.shape[-2:].numel() for target in targets]
    assert num_cells in sizes, f"no target of {num_cells} cells, only of {sizes}"
    return targets[sizes.index(num_cells)].flatten(2)


LOCALIZATION = {"ce": localization_ce, "l2": localization_l2}
ATTENTION = {"ce": attention_ce, "l2": attention_l2}
