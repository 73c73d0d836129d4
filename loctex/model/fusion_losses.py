"""The losses that need the fusion encoder: matching, soft masks, hidden words, its attention.

METHOD 2. B pairs of one chunk of one process, T tokens, N cells. Hard negatives are drawn inside
the chunk, so that a pair's features are there with their graph; the contrastive loss alone sees
the batch of all processes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loctex.loading.collate import Batch
from loctex.model import losses
from loctex.model.features import Output
from loctex.model.fusion import Fused, FusionEncoder
from loctex.model.model import LocTexModel
from loctex.model.soft_masks import draw_word, grad_cam, soft_mask, word_map
from loctex.settings import Settings


@dataclass(frozen=True)
class FusionInput:
    """What the fusion encoder is given of B pairs."""

    hidden: Tensor  # (B, T, text width)
    is_token: Tensor  # (B, T) bool
    cells: Tensor  # (B, N, W)


def fused_losses(
    bare: LocTexModel, output: Output, batch: Batch, settings: Settings
) -> dict[str, Tensor]:
    """Sums over pairs (matching, soft_mask, changed_word), hidden words, grounded tokens; by name.

    output: what the model made of the batch, with its graph. Only what has a weight is computed.
    """
    fusion, loss = bare.fusion_encoder(), settings.loss
    assert output.last is not None and output.hidden is not None  # a model with fusion gives them
    grid = output.last.shape[-2], output.last.shape[-1]
    is_token = batch.tokens != bare.config.pad_token_id
    true_pair = FusionInput(output.hidden, is_token, fusion.cells(output.last))
    has_matching = loss.matching_weight > 0
    sums: dict[str, Tensor] = {}

    if has_matching or loss.fusion_localization_weight > 0:
        positive = fusion(
            true_pair.hidden,
            true_pair.is_token,
            true_pair.cells,
            grid,
            is_inspected=_reads_weights(settings),
        )
    if loss.fusion_localization_weight > 0:
        target = losses.at_grid(batch.targets, output.cosine[-1].shape[-1])
        sums["fusion_localization"] = losses.localization_of_attention(positive.weights, target)[0]

    # All other passes of the fusion encoder are one, of the inputs joined.
    inputs: list[FusionInput] = []
    if has_matching:
        inputs, is_valid = negatives(true_pair, output, batch, bare)
    if has_matching and loss.soft_mask_weight > 0:
        cells = dimmed(true_pair.cells, positive, output, batch, bare, settings)
        inputs += [replace(true_pair, cells=cells), replace(inputs[0], cells=cells)]
    if loss.masked_words_weight > 0:
        assert output.guessing is not None
        inputs.append(replace(true_pair, hidden=output.guessing))
    answers = _fuse(bare, inputs, grid)

    if loss.masked_words_weight > 0:
        sums["masked_words"] = guess(bare, answers.pop(), batch)
    if not has_matching:
        return sums
    logits = [fusion.judge(answer.start) for answer in (positive, *answers)]
    false_logits = torch.stack(logits[1 : 1 + len(is_valid)])
    sums["matching"] = losses.matching(logits[0], false_logits, is_valid)
    if loss.changed_word_weight > 0:
        sums["changed_word"] = changed_word_loss(fusion, positive, answers[CHANGED], batch)
    if loss.soft_mask_weight > 0:  # the last two: dimmed cells with the true and a false caption
        sums["soft_mask"] = losses.matching(logits[-2], logits[-1][None], is_valid[:1])
    return sums


CHANGED = 2  # place of the changed captions among `negatives`


def changed_word_loss(
    fusion: FusionEncoder, positive: Fused, changed: Fused, batch: Batch
) -> Tensor:
    """`losses.changed_words` of the true captions and of those with one word changed."""
    assert batch.true_word is not None  # the collate made the three together
    assert batch.new_word is not None and batch.kept_word is not None
    return losses.changed_words(
        fusion.truth_of(positive.hidden),
        fusion.truth_of(changed.hidden),
        batch.true_word,
        batch.new_word,
        batch.kept_word,
    )


def _reads_weights(settings: Settings) -> bool:
    loss = settings.loss
    reads = loss.soft_mask_weight > 0 and loss.mask_source == "gradcam"
    return reads or loss.fusion_localization_weight > 0


def _fuse(bare: LocTexModel, inputs: list[FusionInput], grid: tuple[int, int]) -> list[Fused]:
    """One pass of the fusion encoder for all."""
    if not inputs:
        return []
    size = len(inputs[0].hidden)
    joined = bare.fusion_encoder()(
        torch.cat([fusion_input.hidden for fusion_input in inputs]),
        torch.cat([fusion_input.is_token for fusion_input in inputs]),
        torch.cat([fusion_input.cells for fusion_input in inputs]),
        grid,
    )
    return [Fused(fusion_input, None) for fusion_input in joined.hidden.split(size)]


def negatives(
    true_pair: FusionInput, output: Output, batch: Batch, bare: LocTexModel
) -> tuple[list[FusionInput], Tensor]:
    """For each image a caption, for each caption an image, likely where they seem to match; and
    the caption with one word changed, where it was asked for.

    Returns K inputs, and (K, B) bool: False where a chunk holds nothing but twins, or no word
    changed.
    """
    with torch.no_grad():
        is_same = losses.twins(batch.keys, batch.keys)
        logits = losses.similarities(output.image, output.text, bare.scale, None)
        texts, images = hard_negatives(logits, is_same), hard_negatives(logits.T, is_same)

    other_captions = replace(
        true_pair, hidden=true_pair.hidden[texts], is_token=true_pair.is_token[texts]
    )
    other_images = replace(true_pair, cells=true_pair.cells[images])
    inputs = [other_captions, other_images]
    is_valid = [(~is_same).any(dim=1)] * 2
    if output.changed is not None:
        assert batch.changed is not None
        is_token = batch.changed != bare.config.pad_token_id
        inputs.append(FusionInput(output.changed, is_token, true_pair.cells))
        is_valid.append((batch.changed != batch.tokens).any(dim=1))
    return inputs, torch.stack(is_valid)


def hard_negatives(logits: Tensor, excluded: Tensor) -> Tensor:
    """(B, B) similarities -> (B,) columns, one for each row, drawn by softmax (ALBEF).

    excluded: (B, B) bool, never drawn but in a row that has nothing else.
    """
    chance = logits.masked_fill(excluded, float("-inf")).softmax(dim=-1)
    chance = chance.clamp_min(torch.finfo(chance.dtype).tiny).masked_fill(excluded, 0.0)
    return torch.multinomial(chance + excluded.all(dim=1, keepdim=True), 1)[:, 0]


def dimmed(
    cells: Tensor,
    positive: Fused,
    output: Output,
    batch: Batch,
    bare: LocTexModel,
    settings: Settings,
) -> Tensor:
    """(B, N, W) cells of the images, dimmed where one word of their own caption points.

    The false caption of an image is matched with the dimmed cells too: were only true pairs
    dimmed, the head would learn that what is dimmed matches, and nothing else (it did).
    """
    maps, word = token_maps(positive, output, batch, bare, settings)
    mask = soft_mask(word_map(maps, draw_word(word)), settings.loss.mask_kind)
    return cells * (1 - mask[..., None]).to(cells.dtype)


def token_maps(
    positive: Fused, output: Output, batch: Batch, bare: LocTexModel, settings: Settings
) -> tuple[Tensor, Tensor]:
    """(B, T, N) maps by `mask_source`, and (B, T) the words that have one."""
    assert batch.word is not None  # the collate numbers words where there are soft masks
    source = settings.loss.mask_source

    if source == "gradcam":
        assert positive.weights is not None
        score = bare.fusion_encoder().judge(positive.start)[:, 1]
        return grad_cam(score, positive.weights), batch.word

    if source == "attention":
        form = losses.ATTENTION[settings.loss.localization]
        scale = bare.attention_heads()[-1].scale.detach()
        return form(output.cosine[-1].detach(), scale), batch.word

    target = losses.at_grid(batch.targets, output.cosine[-1].shape[-1])
    return target, batch.word.masked_fill(target.sum(-1) == 0, -1)


def guess(bare: LocTexModel, fused: Fused, batch: Batch) -> Tensor:
    """The loss of guessing hidden words, summed over their tokens."""
    head, places = bare.fusion_encoder().guess, batch.hidden_at
    assert head is not None and places is not None  # as loss.masked_words_weight says
    words = batch.tokens.gather(1, places).masked_fill(places == 0, -100)
    hidden = fused.hidden.gather(1, places[..., None].expand(-1, -1, fused.hidden.shape[-1]))
    embedding = bare.text_encoder.embeddings.word_embeddings.weight
    return losses.masked_words(head(hidden, embedding), words)[0]
