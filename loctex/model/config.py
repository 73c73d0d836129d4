"""What a saved model says of itself in its config.json."""

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, BertConfig, PretrainedConfig

# Of ImageNet's pixels, as torchvision's weights expect; all models before 0.1.0 were fed so.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LocTexConfig(PretrainedConfig):
    """All that is needed to build the model and to feed it; see `loctex.settings` for the terms."""

    model_type = "loctex"

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        backbone_options: dict | None = None,
        backbone_head: bool = False,
        attention_scales: int = 1,
        text_layers: int = 4,
        text_width: int = 1024,
        text_heads: int = 16,
        text_dropout: float = 0.1,
        vocab_size: int = 10_000,
        pad_token_id: int = 0,
        embedding: int = 1024,
        attention: int = 1024,
        contrastive_share: float = 0.0,
        localization: str = "ce",
        localized: bool = True,
        start_temperature: float = 0.07,
        learn_temperature: bool = True,
        fusion_layers: int = 0,
        fusion_width: int = 0,
        gradcam_layer: int = 0,
        has_matching: bool = False,
        has_masked_words: bool = False,
        has_changed_words: bool = False,
        exclusive_words: str = "",
        image_size: int = 224,
        max_tokens: int = 64,
        word_margin: float = 0.2,
        pixel_mean: Sequence[float] = IMAGENET_MEAN,
        pixel_std: Sequence[float] = IMAGENET_STD,
        frozen_backbone: bool = False,
        word_box: Sequence[float] | None = None,
        **options,
    ) -> None:
        self.backbone = backbone
        self.backbone_options = backbone_options or {}
        self.backbone_head = backbone_head  # True: also what follows an EfficientNet's last stage
        self.attention_scales = attention_scales
        self.text_layers = text_layers
        self.text_width = text_width
        self.text_heads = text_heads
        self.text_dropout = text_dropout
        self.vocab_size = vocab_size
        self.embedding = embedding
        self.attention = attention
        self.contrastive_share = contrastive_share  # in where a word is, beside the attention
        self.localization = localization
        self.localized = localized  # False: no loss trained the attention maps
        self.start_temperature = start_temperature
        self.learn_temperature = learn_temperature
        self.fusion_layers = fusion_layers  # 0: no fusion encoder
        self.fusion_width = fusion_width or text_width
        self.gradcam_layer = gradcam_layer or (fusion_layers + 1) // 2  # counted from 1
        self.has_matching = has_matching
        self.has_masked_words = has_masked_words
        self.has_changed_words = has_changed_words
        self.exclusive_words = exclusive_words  # the sets that the changes were drawn from
        self.image_size = image_size
        self.max_tokens = max_tokens
        self.word_margin = word_margin
        self.pixel_mean = list(pixel_mean)  # of RGB in 0..1, as the backbone wants it
        self.pixel_std = list(pixel_std)
        self.frozen_backbone = frozen_backbone  # True: it stays as its weights were loaded
        # Usual width and height of what people's pointing at a word fills, learned once a run.
        self.word_box = word_box and list(word_box)
        super().__init__(**{"pad_token_id": pad_token_id} | options)

    def bert(self, width: int, layers: int) -> BertConfig:
        """Of the text encoder, and of the fusion encoder's layers."""
        options: dict[str, Any] = dict(
            vocab_size=self.vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=self.text_heads,
            intermediate_size=4 * width,
            hidden_dropout_prob=self.text_dropout,
            attention_probs_dropout_prob=self.text_dropout,
            max_position_embeddings=self.max_tokens,
            type_vocab_size=1,
            pad_token_id=self.pad_token_id,
            attn_implementation="sdpa",
        )
        return BertConfig(**options)


AutoConfig.register(LocTexConfig.model_type, LocTexConfig, exist_ok=True)
