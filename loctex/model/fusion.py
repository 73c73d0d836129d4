"""The fusion encoder: the caption's tokens attend to each other and to the image's cells.

The multi-modal encoder of ALBEF (Li et al., 2021) and of text-driven soft masks (Park and Han,
2023; METHOD 2). B pairs, T tokens, N cells, C channels, W the width of this encoder.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertAttention, BertIntermediate, BertOutput


@dataclass
class Fused:
    """hidden: (B, T, W). weights: (B, heads, T, N) of the layer that was asked for, rows of sum 1.

    The weights are part of the graph: what is computed from `hidden` has a gradient in them,
    unless they are the last layer's.
    """

    hidden: Tensor
    weights: Tensor | None

    @property
    def start(self) -> Tensor:
        """(B, W) of the start token, which the matching head reads."""
        return self.hidden[:, 0]


class CrossAttention(nn.Module):
    """Tokens attend to cells. Ours, because the fast kernels return no weights."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, hidden: Tensor, cells: Tensor, is_inspected: bool
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, W) and (B, N, W) -> (B, T, W), and the (B, heads, T, N) weights if asked."""
        heads = self.config.num_attention_heads
        query, key, value = (
            projected.unflatten(-1, (heads, -1)).transpose(1, 2)
            for projected in (self.query(hidden), self.key(cells), self.value(cells))
        )

        weights, rate = None, self.dropout.p if self.training else 0.0
        if is_inspected or self.config._attn_implementation == "eager":
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
            mixed = F.dropout(weights, rate).to(value.dtype) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)

        mixed = self.output(mixed.transpose(1, 2).flatten(2))
        return self.norm(hidden + self.dropout(mixed)), weights if is_inspected else None


class FusionLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward: Bert's own, but for the second."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.cross = CrossAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(
        self, hidden: Tensor, bias: Tensor, cells: Tensor, is_inspected: bool
    ) -> tuple[Tensor, Tensor | None]:
        """bias: (B, 1, 1, T), 0 for tokens and very negative for padding."""
        hidden = self.attention(hidden, bias)[0]
        hidden, weights = self.cross(hidden, cells, is_inspected)
        return self.output(self.intermediate(hidden), hidden), weights


class FusionEncoder(nn.Module):
    """Fusion layers, and the heads that read them.

    config: of width, heads and dropout. channels: of the image's last feature map. text_width: of
    the text encoder. gradcam_layer: the layer, counted from 1, whose weights are asked for.
    """

    def __init__(
        self,
        config: BertConfig,
        *,
        channels: int,
        text_width: int,
        gradcam_layer: int,
        has_matching: bool,
        has_masked_words: bool,
        has_changed_words: bool = False,
    ) -> None:
        super().__init__()

        width = config.hidden_size
        self.config = config
        self.inspected = gradcam_layer - 1

        self.cell = nn.Linear(channels, width, bias=False)
        self.token = nn.Identity() if text_width == width else nn.Linear(text_width, width)
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(config.num_hidden_layers))
        self.matching = nn.Linear(width, 2) if has_matching else None
        self.truth = nn.Linear(width, 2) if has_changed_words else None
        self.guess = GuessHead(width, text_width, config.vocab_size) if has_masked_words else None

    def cells(self, features: Tensor) -> Tensor:
        """(B, C, h, w) features -> (B, N, W). Linear, so that a mask on the cells is one on the
        features."""
        return self.cell(features.flatten(2).transpose(1, 2))

    def forward(
        self,
        hidden: Tensor,
        is_token: Tensor,
        cells: Tensor,
        grid: tuple[int, int],
        is_inspected: bool = False,
    ) -> Fused:
        """(B, T, text width), (B, T) bool, (B, N, W) -> Fused."""
        height, width = grid
        place = build_sincos2d_pos_embed(
            [height, width], self.config.hidden_size, temperature=100.0, device=cells.device
        )
        # Cells know their place by a fixed code (ours): "left of" cannot be seen in features alone.
        cells = cells + place.to(cells.dtype)
        hidden = self.token(hidden)
        lowest = torch.finfo(hidden.dtype).min
        bias = (~is_token).to(hidden.dtype)[:, None, None, :] * lowest
        inspected_weights = None
        for number, layer in enumerate(self.layers):
            is_this_layer = is_inspected and number == self.inspected
            hidden, weights = layer(hidden, bias, cells, is_this_layer)
            inspected_weights = weights if is_this_layer else inspected_weights
        return Fused(hidden, inspected_weights)

    def judge(self, start: Tensor) -> Tensor:
        """(B, W) of the start token -> (B, 2) logits (no match, match)."""
        if self.matching is None:
            raise ValueError("the model has no matching head; train with loss.matching_weight")
        return self.matching(start)

    def truth_of(self, hidden: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, 2) logits (false of the image, true of it) of each token."""
        if self.truth is None:
            raise ValueError("the model was not trained with loss.changed_word_weight")
        return self.truth(hidden)

    def match(
        self, hidden: Tensor, is_token: Tensor, cells: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """(B,) log-odds of a match, of the same as `forward`."""
        logits = self.judge(self(hidden, is_token, cells, grid).start)
        return logits[:, 1] - logits[:, 0]

    def start_from(self, text_encoder: BertModel) -> None:
        """Copies the text encoder's last layers, as many as there are; cross-attention stays new.

        ValueError where the widths differ.
        """
        own, theirs = list(self.layers), list(text_encoder.encoder.layer)
        if text_encoder.config.hidden_size != self.config.hidden_size:
            raise ValueError(
                "model.fusion_init text needs a fusion encoder as wide as the text encoder "
                f"({text_encoder.config.hidden_size}), not {self.config.hidden_size}"
            )

        pairs = zip(own[-len(theirs) :], theirs[-len(own) :], strict=True)
        for layer, source in pairs:
            for name in ("attention", "intermediate", "output"):
                getattr(layer, name).load_state_dict(getattr(source, name).state_dict())


class GuessHead(nn.Module):
    """Guesses hidden words; its last layer is the text encoder's word embedding (BERT)."""

    def __init__(self, width: int, text_width: int, vocabulary: int) -> None:
        super().__init__()
        self.transform = nn.Sequential(
            nn.Linear(width, text_width), nn.GELU(), nn.LayerNorm(text_width)
        )
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """(..., W) and (vocabulary, text width) -> (..., vocabulary) logits."""
        return F.linear(self.transform(hidden), embedding, self.bias)
