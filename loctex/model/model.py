"""LocTex: image encoder, text encoder, contrastive head, image-caption attention.

Liu et al., "LocTex", ICCV 2021; METHOD section 1 says what is sourced and what is ours.
B pairs, T tokens, C channels, N cells of a feature map, D embedding size.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForZeroShotImageClassification,
    BertModel,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from loctex.model.backbones import Backbone, grids, head_convolution
from loctex.model.config import LocTexConfig
from loctex.model.features import (
    ImageFeatures,
    Output,
    PipelineOutput,
    TextFeatures,
    cosine,
    cosines,
    direction,
)
from loctex.model.fusion import FusionEncoder
from loctex.model.losses import ATTENTION
from loctex.model.soft_masks import grad_cam

transformers_logging.disable_progress_bar()  # of reading and writing weights; ours are enough

GROUPS = 4  # parts of similar length that the text encoder works on; on a GPU one, see `read`


class AttentionMap(nn.Module):
    """Linear maps of cells and tokens to one space, where their cosine is the attention.

    The scale sharpens the softmax over cells (`ce`); it is learned and kept within [1, 100].
    """

    LIMITS = 0.0, math.log(100.0)

    def __init__(self, *, channels: int, width: int, size: int) -> None:
        super().__init__()
        self.cell = nn.Linear(channels, size)
        self.token = nn.Linear(width, size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp()


class LocTexModel(PreTrainedModel):
    """Image encoder, text encoder and the two heads; see `build` for the way from settings."""

    config_class = LocTexConfig
    main_input_name = "pixel_values"
    _no_split_modules = ["BertLayer"]
    config: LocTexConfig
    fusion: FusionEncoder | None
    padded_length: int | None = None  # of captions while training, where shapes must not change
    LIMITS = math.log(2.0), math.log(100.0)  # of the logarithm of the contrastive scale

    def __init__(self, config: LocTexConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(
            name=config.backbone,
            num_scales=config.attention_scales,
            options=config.backbone_options,
        )
        self.backbone_head: nn.Sequential | None = None
        num_channels = self.backbone.channels[-1]
        if config.backbone_head:
            self.backbone_head, num_channels = head_convolution(
                config.backbone, config.backbone_options
            )
        self.text_encoder = BertModel(
            config.bert(config.text_width, config.text_layers), add_pooling_layer=False
        )

        self.image_projection = nn.Linear(num_channels, config.embedding)
        self.text_projection = nn.Linear(config.text_width, config.embedding)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.start_temperature)))

        self.attention = nn.ModuleList(
            AttentionMap(channels=channels, width=config.text_width, size=config.attention)
            for channels in self.backbone.channels
        )

        self.fusion = None
        if config.fusion_layers:
            self.fusion = FusionEncoder(
                config.bert(config.fusion_width, config.fusion_layers),
                channels=num_channels,
                text_width=config.text_width,
                gradcam_layer=config.gradcam_layer,
                has_matching=config.has_matching,
                has_masked_words=config.has_masked_words,
                has_changed_words=config.has_changed_words,
            )

        self.hold_still()
        self.clamp_scales()
        self.post_init()

    def hold_still(self) -> None:
        """No gradient for what its config says is not learned; transformers' loading forgets it."""
        self.log_scale.requires_grad_(self.config.learn_temperature)
        self.attention.requires_grad_(self.config.localized)
        if self.config.frozen_backbone:
            for part in self._frozen_parts():
                part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LocTexModel":
        """As nn.Module's; a frozen backbone stays in evaluation mode, statistics included."""
        super().train(mode)
        if self.config.frozen_backbone:
            for part in self._frozen_parts():
                part.eval()
        return self

    def _frozen_parts(self) -> list[nn.Module]:
        """What `frozen_backbone` keeps as it is."""
        return [part for part in (self.backbone, self.backbone_head) if part is not None]

    def attention_heads(self) -> list[AttentionMap]:
        """The maps of each trained scale, finest first."""
        return cast(list[AttentionMap], list(self.attention))

    def fusion_encoder(self) -> FusionEncoder:
        """The fusion encoder; ValueError where the run's losses needed none."""
        if self.fusion is None:
            raise ValueError(
                "the model has no fusion encoder; train with --loss.matching_weight 1, "
                "or with --preset softmask"
            )
        return self.fusion

    def _init_weights(self, module: nn.Module) -> None:
        """timm and Bert start their own weights; the heads keep PyTorch's.

        What no file of weights holds, as the numbers of relative positions in a Swin, timm computes
        anew: transformers' loading leaves it empty.
        """
        compute_buffers: Any = getattr(module, "init_non_persistent_buffers", None)
        if compute_buffers is not None:
            compute_buffers()

    @property
    def scale(self) -> Tensor:
        """1 / temperature of the contrastive loss, the temperature kept within [.01, .5]."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Takes scales back into their limits, after each update (as ALBEF does).

        Clamped in the forward pass, a scale that has leapt too far has no gradient to come back.
        """
        self.log_scale.clamp_(*self.LIMITS)
        for head in self.attention_heads():
            head.log_scale.clamp_(*head.LIMITS)

    def grids(self) -> list[tuple[int, int]]:
        """Height and width of each attention map, finest first."""
        return grids(self.backbone, self.config.image_size)

    def encode_image(self, images: Tensor) -> ImageFeatures:
        """(B, 3, H, W) normalised pixels -> features."""
        return self.encode_maps(self.backbone(images))

    def encode_maps(self, maps: Sequence[Tensor]) -> ImageFeatures:
        """The backbone's maps, finest first, (B, C, h, w) each -> features."""
        last = maps[-1] if self.backbone_head is None else self.backbone_head(maps[-1])
        cells = [
            direction(head.cell(features.flatten(2).transpose(1, 2)))
            for head, features in zip(self.attention_heads(), maps, strict=True)
        ]
        return ImageFeatures(
            embedding=F.normalize(self.image_projection(last.mean(dim=(2, 3))), dim=-1),
            cells=cells,
            grids=[(features.shape[-2], features.shape[-1]) for features in maps],
            pooled=maps[-1].mean(dim=(2, 3)),
            last=last,
        )

    def encode_text(self, tokens: Tensor, lengths: Sequence[int] | None = None) -> TextFeatures:
        """(B, T) token numbers, padded with the config's pad_token_id -> features.

        lengths: tokens of each row, rising. On a processor the encoder then works on GROUPS parts
        of similar length, without most of the padding; the result is the same.
        """
        hidden, mask = self.read(tokens, lengths), tokens != self.config.pad_token_id
        weight = mask.to(hidden.dtype)[..., None]
        pooled = (hidden * weight).sum(1) / weight.sum(1)

        return TextFeatures(
            embedding=F.normalize(self.text_projection(pooled), dim=-1),
            tokens=[direction(head.token(hidden)) for head in self.attention_heads()],
            hidden=hidden,
            is_token=mask,
        )

    def read(self, tokens: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        """(B, T) tokens -> (B, T, width) of the text encoder's last layer."""
        mask = tokens != self.config.pad_token_id
        # Measured on an H100: padded 20 ms, in four parts 50 ms, for launching them takes longer.
        if lengths is None or tokens.is_cuda or self.padded_length is not None:
            return self._hidden(tokens, mask)
        hidden_groups = [
            F.pad(
                self._hidden(tokens[a:b, :longest], mask[a:b, :longest]),
                (0, 0, 0, tokens.shape[1] - longest),
            )
            for a, b, longest in _groups(lengths)
        ]
        return torch.cat(hidden_groups)

    def _hidden(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """mask: (B, T) bool. As a bias, ready to be added, nobody asks the device if it is full."""
        num_tokens = tokens.shape[1]
        if self.training and self.padded_length is not None:
            padding = (0, self.padded_length - num_tokens)
            tokens = F.pad(tokens, padding, value=self.config.pad_token_id)
            mask = F.pad(mask, padding, value=False)

        bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
        bias = bias[:, None, None, :].expand(-1, -1, mask.shape[1], -1)
        hidden = self.text_encoder(input_ids=tokens, attention_mask=bias).last_hidden_state
        return hidden[:, :num_tokens]

    def forward(
        self,
        images: Tensor | None = None,
        tokens: Tensor | None = None,
        lengths: Sequence[int] | None = None,
        guessing: Tensor | None = None,
        changed: Tensor | None = None,
        maps: Sequence[Tensor] | None = None,
        *,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Output | PipelineOutput:
        """guessing, changed: (B, T) tokens with some words hidden, with one changed, if needed.

        maps: what the backbone says of the images, where that is known; they are then not read.

        pixel_values, input_ids, attention_mask: as transformers' processors and tokenizers name
        images and captions, which need not be pairs; the answer is a PipelineOutput, of either
        alone too.
        """
        if images is None or tokens is None:
            return self._answer(pixel_values, input_ids, attention_mask)

        image = self.encode_image(images) if maps is None else self.encode_maps(maps)
        text = self.encode_text(tokens, lengths)
        output = Output(image=image.embedding, text=text.embedding, cosine=cosines(image, text))

        if self.fusion is not None:
            output.last, output.hidden = image.last, text.hidden
            output.guessing = text.hidden if guessing is None else self.read(guessing, lengths)
            output.changed = None if changed is None else self.read(changed)
        return output

    def _answer(
        self, pixel_values: Tensor | None, input_ids: Tensor | None, attention_mask: Tensor | None
    ) -> PipelineOutput:
        output = PipelineOutput()
        if pixel_values is None and input_ids is None:
            raise ValueError("LocTexModel needs pixel_values, input_ids, or images with tokens")

        if input_ids is not None:
            text = self.encode_text(self._without_masked(input_ids, attention_mask))
            output.text_embeds = text.embedding
            if pixel_values is None:
                output.last_hidden_state = text.hidden

        if pixel_values is not None:
            image = self.encode_image(pixel_values)
            output.image_embeds = image.embedding
            output.last_hidden_state = image.last.flatten(2).transpose(1, 2)
            output.pooler_output = image.last.mean(dim=(2, 3))

        if output.image_embeds is not None and output.text_embeds is not None:
            output.logits_per_image = self.scale * output.image_embeds @ output.text_embeds.T
            output.logits_per_text = output.logits_per_image.T
        return output

    def _without_masked(self, tokens: Tensor, attention_mask: Tensor | None) -> Tensor:
        """The tokens with padding where the mask is 0."""
        if attention_mask is None:
            return tokens
        return tokens.masked_fill(attention_mask == 0, self.config.pad_token_id)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), l2-normalised; as CLIP's models call it."""
        return self.encode_image(pixel_values).embedding

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """(N, T) tokens -> (N, D), l2-normalised; as CLIP's models call it."""
        return self.encode_text(self._without_masked(input_ids, attention_mask)).embedding

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of the contrastive scale; as CLIP's models call it."""
        return self.log_scale

    def attend(self, image: ImageFeatures, text: TextFeatures) -> list[Tensor]:
        """Per scale, finest first: (B, T, N) attention of each token, of mass 1."""
        form = ATTENTION[self.config.localization]
        return [
            form(scale_cosine, head.scale)
            for scale_cosine, head in zip(cosines(image, text), self.attention_heads(), strict=True)
        ]

    def locate(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """(B, T, N) where each word is, of mass 1, on the last stage's cells: shown and scored.

        The attention that traces trained; with `contrastive_share` a product of two experts
        (Hinton, 2002): attention x the contrastive head's map ^ share. The one says where people
        point at such a word, the other what in this image looks like it (ours). Of a model that
        was trained without localization the contrastive head's map alone.
        """
        if not self.config.localized:
            return self.attend_contrastive(image, text)

        attention = self.attend(image, text)[-1]
        if not self.config.contrastive_share:
            return attention
        both = attention * self.attend_contrastive(image, text) ** self.config.contrastive_share
        return both / both.sum(-1, keepdim=True).clamp_min(1e-30)

    def attend_contrastive(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """(B, T, N) map of the contrastive head alone, of mass 1 (METHOD 3).

        Its linear layers, applied to each cell and token before pooling, with which they commute.
        """
        cells = self.image_projection(image.last.flatten(2).transpose(1, 2))
        tokens = self.text_projection(text.hidden)
        return ATTENTION["ce"](cosine(direction(tokens), direction(cells)), self.scale)

    def match(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """(B,) log-odds that the captions are true of the images, by the matching head."""
        fusion = self.fusion_encoder()
        cells = fusion.cells(image.last)
        return fusion.match(text.hidden, text.is_token, cells, image.grids[-1])

    def doubt(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """(B, T) probability that a token's word is not true of the image, by the head that
        `loss.changed_word_weight` trains."""
        fusion = self.fusion_encoder()
        cells = fusion.cells(image.last)
        fused = fusion(text.hidden, text.is_token, cells, image.grids[-1])
        return fusion.truth_of(fused.hidden).softmax(-1)[..., 0]

    def grad_cam(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """(B, T, N) Grad-CAM of the match for each token, >= 0 (METHOD 2); in no_grad mode too."""
        fusion = self.fusion_encoder()
        with torch.inference_mode(False), torch.enable_grad():
            features = image.last.clone().requires_grad_()
            fused = fusion(
                text.hidden.clone(),
                text.is_token.clone(),
                fusion.cells(features),
                image.grids[-1],
                is_inspected=True,
            )
            return grad_cam(fusion.judge(fused.start)[:, 1], fused.weights)


for _auto_class in (AutoModel, AutoModelForZeroShotImageClassification):
    _auto_class.register(LocTexConfig, LocTexModel, exist_ok=True)


def _groups(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Rising lengths -> first row, last row + 1 and longest of each part; equal ones stay one."""
    edges = [round(i * len(lengths) / GROUPS) for i in range(GROUPS + 1)]
    groups = [(a, b, lengths[b - 1]) for a, b in pairwise(edges) if b > a]
    return groups if lengths[0] < lengths[-1] else [(0, len(lengths), lengths[-1])]
