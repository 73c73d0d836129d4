"""Text-driven soft masks: where one word of the caption points, and the image dimmed there.

Park and Han, CVPR 2023; METHOD 2 says what is sourced and what is ours. B pairs, T tokens, N cells.
Nothing here has a gradient: a mask is chosen, never learned.
"""

import torch
from torch import Tensor

HARD = 0.5  # of a map between 0 and 1: what an all-or-nothing mask removes


def grad_cam(score: Tensor, weights: Tensor) -> Tensor:
    """(B,) scores, (B, heads, T, N) attention weights in their graph -> (B, T, N) maps >= 0.

    The weights times their gradient where it is positive, the mean over heads (Selvaraju et al.,
    2017, as in ALBEF). One backward pass from the scores to these weights and no further: no
    parameter's `.grad` is touched, the graph stays for the loss, no second order is built.
    """
    (gradient,) = torch.autograd.grad(score.sum(), weights, retain_graph=True)
    return (weights.detach() * gradient.clamp_min(0)).mean(dim=1)


@torch.no_grad()
def draw_word(word: Tensor) -> Tensor:
    """(B, T) number of each token's word, -1 for none -> (B, T) bool: the tokens of one word each.

    Each word has the same chance; no token of a row without words.
    """
    is_word = word >= 0
    size = ((word[:, :, None] == word[:, None, :]) & is_word[:, None, :]).sum(-1)
    chance = is_word / size.clamp_min(1) + ~is_word.any(dim=1, keepdim=True)
    number = word.gather(1, torch.multinomial(chance, 1))
    return (word == number) & is_word


@torch.no_grad()
def word_map(maps: Tensor, is_of_word: Tensor) -> Tensor:
    """(B, T, N) maps of tokens, (B, T) bool -> (B, N): the mean over the chosen ones; 0 of none."""
    share = is_of_word / is_of_word.sum(1, keepdim=True).clamp_min(1)
    return torch.einsum("bt,btn->bn", share.to(maps.dtype), maps)


@torch.no_grad()
def soft_mask(maps: Tensor, kind: str = "soft") -> Tensor:
    """(..., N) maps -> n in [0, 1], by which features are dimmed to 1 - n; a constant map gives 0.

    kind: soft (the map between its least and most), hard (0 or 1), random (the soft one with its
    cells in random order: as much is dimmed, elsewhere).
    """
    maps = maps.float()
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    spread = high - low
    mask = torch.where(spread > 0, (maps - low) / spread.clamp_min(1e-30), 0.0)

    if kind == "hard":
        return (mask > HARD).float()
    if kind == "random":
        return mask.gather(-1, torch.rand_like(mask).argsort(dim=-1))
    return mask
