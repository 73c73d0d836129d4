"""The losses that need the fusion encoder: matching, soft masks, hidden words, its attention.

METHOD 2. B pairs of one chunk of one process, T tokens, N cells. Hard negatives are drawn inside
the chunk, so that a pair's features are there with their graph; the contrastive loss alone sees
the batch of all processes.
"""

import torch
from torch import Tensor

from loctex import losses
from loctex.dataset import Batch
from loctex.encoded import Output
from loctex.fusion import Fused
from loctex.model import LocTexModel
from loctex.settings import Settings
from loctex.soft_masks import draw_word, grad_cam, soft_mask, word_map

Rows = tuple[Tensor, Tensor, Tensor]  # hidden (B, T, width), is_token (B, T), cells (B, N, W)


def fused_losses(
    bare: LocTexModel, output: Output, batch: Batch, wanted: Settings
) -> dict[str, Tensor]:
    """Sums over pairs (matching, soft_mask, changed_word), hidden words, grounded tokens; by name.

    output: what the model made of the batch, with its graph. Only what has a weight is computed.
    """
    fusion, loss = bare.fusion, wanted.loss
    grid = tuple(output.last.shape[-2:])
    is_token = batch.tokens != bare.config.pad_token_id
    true = (output.hidden, is_token, fusion.cells(output.last))
    guesses = loss.masked_words_weight > 0
    sums: dict[str, Tensor] = {}
    positive, rows, is_valid = None, [], None
    if loss.matching_weight > 0 or loss.fusion_localization_weight > 0:
        positive = fusion(*true, grid, is_inspected=_reads_weights(wanted))
    if loss.fusion_localization_weight > 0:
        target = losses.at_grid(batch.target, output.cosine[-1].shape[-1])
        sums["fusion_localization"] = losses.localization_of_attention(positive.weights, target)[0]
    if loss.matching_weight > 0:
        rows, is_valid = negatives(true, output, batch, bare)
        if loss.soft_mask_weight > 0:
            cells = dimmed(true, positive, output, batch, bare, wanted)
            rows += [(*true[:2], cells), (*rows[0][:2], cells)]
    if guesses:
        rows.append((output.guessing, *true[1:]))
    parts = _fuse(bare, rows, grid)
    if guesses:
        sums["masked_words"] = guess(bare, parts.pop(), batch)
    if loss.matching_weight > 0:
        answers = [fusion.matching(part.first) for part in (positive, *parts)]
        negative = torch.stack(answers[1 : 1 + len(is_valid)])
        sums["matching"] = losses.matching(answers[0], negative, is_valid)
        if loss.changed_word_weight > 0:
            hidden = positive.hidden, parts[2].hidden  # of the true and of the changed captions
            words = batch.true_word, batch.new_word, batch.kept_word
            sums["changed_word"] = losses.changed_words(*map(fusion.truth, hidden), *words)
        if loss.soft_mask_weight > 0:
            sums["soft_mask"] = losses.matching(answers[-2], answers[-1][None], is_valid[:1])
    return sums


def _reads_weights(wanted: Settings) -> bool:
    loss = wanted.loss
    reads = loss.soft_mask_weight > 0 and loss.mask_source == "gradcam"
    return reads or loss.fusion_localization_weight > 0


def _fuse(bare: LocTexModel, rows: list[Rows], grid: tuple[int, int]) -> list[Fused]:
    """One pass of the fusion encoder for all."""
    if not rows:
        return []
    size = len(rows[0][0])
    joined = bare.fusion(*(torch.cat(parts) for parts in zip(*rows, strict=True)), grid)
    return [Fused(part, None) for part in joined.hidden.split(size)]


def negatives(
    true: Rows, output: Output, batch: Batch, bare: LocTexModel
) -> tuple[list[Rows], Tensor]:
    """For each image a caption, for each caption an image, likely where they seem to match; and
    the caption with one word changed, where it was asked for.

    Returns K rows, and (K, B) bool: False where a chunk holds no other image, or no word changed.
    """
    hidden, is_token, cells = true
    with torch.no_grad():
        same = batch.key[:, None] == batch.key[None, :]
        logits = losses.similarities(output.image, output.text, bare.scale, None)
        texts, images = hard_negatives(logits, same), hard_negatives(logits.T, same)
    rows = [(hidden[texts], is_token[texts], cells), (hidden, is_token, cells[images])]
    is_valid = [(~same).any(dim=1)] * 2
    if output.changed is not None:
        rows.append((output.changed, batch.changed != bare.config.pad_token_id, cells))
        is_valid.append((batch.changed != batch.tokens).any(dim=1))
    return rows, torch.stack(is_valid)


def hard_negatives(logits: Tensor, excluded: Tensor) -> Tensor:
    """(B, B) similarities -> (B,) columns, one for each row, drawn by softmax (ALBEF).

    excluded: (B, B) bool, never drawn but in a row that has nothing else.
    """
    chance = logits.masked_fill(excluded, float("-inf")).softmax(dim=-1)
    chance = chance.clamp_min(torch.finfo(chance.dtype).tiny).masked_fill(excluded, 0.0)
    return torch.multinomial(chance + excluded.all(dim=1, keepdim=True), 1)[:, 0]


def dimmed(
    true: Rows, positive: Fused, output: Output, batch: Batch, bare: LocTexModel, wanted: Settings
) -> Tensor:
    """(B, N, W) cells of the images, dimmed where one word of their own caption points.

    The false caption of an image is matched with the dimmed cells too: were only true pairs
    dimmed, the head would learn that what is dimmed matches, and nothing else (it did).
    """
    cells = true[2]
    maps, word = token_maps(positive, output, batch, bare, wanted)
    mask = soft_mask(word_map(maps, draw_word(word)), wanted.loss.mask_kind)
    return cells * (1 - mask[..., None]).to(cells.dtype)


def token_maps(
    positive: Fused, output: Output, batch: Batch, bare: LocTexModel, wanted: Settings
) -> tuple[Tensor, Tensor]:
    """(B, T, N) maps by `mask_source`, and (B, T) the words that have one."""
    source = wanted.loss.mask_source
    if source == "gradcam":
        score = bare.fusion.matching(positive.first)[:, 1]
        return grad_cam(score, positive.weights), batch.word
    if source == "attention":
        form = losses.ATTENTION[wanted.loss.localization]
        return form(output.cosine[-1].detach(), bare.attention[-1].scale.detach()), batch.word
    target = losses.at_grid(batch.target, output.cosine[-1].shape[-1])
    return target, batch.word.masked_fill(target.sum(-1) == 0, -1)


def guess(bare: LocTexModel, fused: Fused, batch: Batch) -> Tensor:
    """The loss of guessing hidden words, summed over their tokens."""
    places = batch.hidden_at
    words = batch.tokens.gather(1, places).masked_fill(places == 0, -100)
    read = fused.hidden.gather(1, places[..., None].expand(-1, -1, fused.hidden.shape[-1]))
    embedding = bare.text_encoder.embeddings.word_embeddings.weight
    return losses.masked_words(bare.fusion.guess(read, embedding), words)[0]
