"""A trained model that answers for one image at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from loctex import distributed
from loctex.jobs import checkpoint_files
from loctex.loading import augment, tokenization
from loctex.loading.changed_words import is_asked
from loctex.model import build
from loctex.model.config import LocTexConfig
from loctex.model.model import ImageFeatures, LocTexModel, TextFeatures
from loctex.model.soft_masks import soft_mask
from loctex.records import trace, words
from loctex.records.images import resize_into
from loctex.records.narrative import Word
from loctex.records.words import Span


@dataclass(frozen=True)
class Attention:
    """What `attend` answers for W words on a grid of h x w cells."""

    caption: str
    words: tuple[Word, ...]  # W utterances, times in seconds
    spans: tuple[Span, ...]  # caption characters of each
    maps: np.ndarray  # (W, h, w) float32, each of mass 1; 0 where the caption was cut before it
    trace: np.ndarray  # (W, 3) x, y (fractions), t (s): the map's center in the middle of the word
    boxes: np.ndarray  # (W, 4) x0, y0, x1, y1, as `trace.word_boxes` with the config's word_box
    score: float  # cosine of image and caption
    image: np.ndarray  # (D,) embedding of length 1, and the caption's
    text: np.ndarray


class Predictor:
    """A trained model that answers for one image at a time."""

    def __init__(self, model: LocTexModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._image: ImageFeatures | None = None
        self._caption: tuple[str, TextFeatures, np.ndarray] | None = None  # the last one read

    @classmethod
    def load(
        cls, run: Path | str, checkpoint_name: str = "best", device: torch.device | str = "auto"
    ) -> "Predictor":
        """From a run's checkpoint ("best", "last") or a folder of save_pretrained."""
        folder = checkpoint_files.find(run, checkpoint_name)
        model = build.load(folder, device=distributed.choose_device(str(device)))
        return cls(model, tokenization.load(folder))

    @torch.inference_mode()
    def set_image(self, image: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB of any size; the whole image is stretched to the model's square."""
        pixels = torch.from_numpy(square(image, self.model.config.image_size)[None])
        pixels = normalise(pixels.to(self.model.device), self.model.config)
        self._image = self.model.encode_image(pixels)

    @torch.inference_mode()
    def attend(self, caption: str, recorded: Sequence[Word] | None = None) -> Attention:
        """The attention of each word of `caption` on the image set before.

        recorded: the caption's utterances; None splits it at spaces on an estimated clock.
        Raises ValueError for an empty caption or where no image was set.
        """
        image, text, offsets, utterances, spans = self._read(caption, recorded)
        maps = word_maps(token_maps(self.model, image, text)[0], offsets, spans)
        middle = np.array([(word.start + word.end) / 2 for word in utterances])

        return Attention(
            caption=caption,
            words=utterances,
            spans=tuple(spans),
            maps=maps,
            trace=np.column_stack((trace.centroid(maps), middle)),
            boxes=trace.word_boxes(maps, self.model.config.word_box),
            score=float((image.embedding * text.embedding).sum()),
            image=image.embedding[0].float().cpu().numpy(),
            text=text.embedding[0].float().cpu().numpy(),
        )

    @torch.inference_mode()
    def embed(self, captions: Sequence[str]) -> np.ndarray:
        """(N, D) embeddings of length 1; their product with an image's is `Attention.score`."""
        tokens, _ = tokenization.encode(self.tokenizer, captions, self.model.config.max_tokens)
        text = self.model.encode_text(torch.from_numpy(tokens).to(self.model.device))
        return text.embedding.float().cpu().numpy()

    @torch.inference_mode()
    def layers(self, caption: str, recorded: Sequence[Word] | None = None) -> dict[str, np.ndarray]:
        """Every map the model has for the words of `caption`, by name: (W, h, w).

        The one that is scored comes first: "both 7x7", of attention and contrastive head, where the
        model's `contrastive_share` joins them. "attention 7x7" and so on for each trained scale;
        "contrastive": of the contrastive head (METHOD 3). With a matching head also "grad-cam":
        what makes it say that they match. These have mass 1 (0 where nothing does). "soft mask":
        Grad-CAM between 0 and 1, by which the image is dimmed (METHOD 2). Raises as `attend` does.
        """
        image, text, offsets, _, spans = self._read(caption, recorded)

        layer_maps = {}
        config, (height, width) = self.model.config, image.grids[-1]
        if config.localized and config.contrastive_share:
            both = self.model.locate(image, text)
            layer_maps[f"both {height}x{width}"] = both.unflatten(-1, (height, width))
        if config.localized:
            scales = zip(image.grids, self.model.attend(image, text), strict=True)
            for (h, w), maps in reversed(list(scales)):
                layer_maps[f"attention {h}x{w}"] = maps.unflatten(-1, (h, w))

        contrastive = self.model.attend_contrastive(image, text)
        layer_maps["contrastive"] = contrastive.unflatten(-1, image.grids[-1])

        if self.model.config.has_matching:
            layer_maps["grad-cam"] = self.model.grad_cam(image, text).unflatten(-1, image.grids[-1])

        result = {
            name: word_maps(maps[0].float().cpu().numpy(), offsets, spans)
            for name, maps in layer_maps.items()
        }

        if "grad-cam" in result:
            maps = torch.from_numpy(result["grad-cam"]).flatten(1)
            mass = maps.sum(1, keepdim=True)
            shape = result["grad-cam"].shape
            result["grad-cam"] = (maps / mass.where(mass > 0, 1)).view(shape).numpy()
            result["soft mask"] = soft_mask(maps).view(shape).numpy()
        return result

    @torch.inference_mode()
    def match(self, caption: str) -> float | None:
        """The matching head's probability that the caption is true of the image set before.

        None for a model without that head. Raises as `attend` does.
        """
        image, text, *_ = self._read(caption, None)
        if not self.model.config.has_matching:
            return None
        return float(self.model.match(image, text).sigmoid())

    @torch.inference_mode()
    def doubt(self, caption: str, recorded: Sequence[Word] | None = None) -> np.ndarray | None:
        """(W,) probability that a word of `caption` is not true of the image set before: the most
        doubtful of its tokens; 0 for words that were cut off, or that no training ever changed.

        None for a model that was not trained with changed words. Raises as `attend` does.
        """
        image, text, offsets, utterances, spans = self._read(caption, recorded)
        config = self.model.config
        if not config.has_changed_words:
            return None
        doubts = self.model.doubt(image, text)[0].float().cpu().numpy()
        is_known = np.array([is_asked(word.text, config.exclusive_words) for word in utterances])
        return (words.overlaps(spans, offsets) * doubts).max(axis=1, initial=0) * is_known

    def _read(
        self, caption: str, recorded: Sequence[Word] | None
    ) -> tuple[ImageFeatures, TextFeatures, np.ndarray, tuple[Word, ...], list[words.Span]]:
        """The image, the caption's features, characters of its tokens (T, 2), utterances, spans."""
        if self._image is None:
            raise ValueError("no image yet; call set_image first")
        if not caption.strip():
            raise ValueError("the caption is empty; type what to look for in the image")

        utterances = words.estimate(caption) if recorded is None else tuple(recorded)
        spans = words.spans(caption, utterances)

        if self._caption is None or self._caption[0] != caption:
            tokens, offsets = tokenization.encode(
                self.tokenizer, [caption], self.model.config.max_tokens
            )
            text = self.model.encode_text(torch.from_numpy(tokens).to(self.model.device))
            self._caption = caption, text, offsets[0]
        return self._image, *self._caption[1:], utterances, spans


def square(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3): the whole image, stretched (METHOD 3)."""
    out = np.empty((size, size, 3), dtype=np.uint8)
    resize_into(image, out)
    return out


def normalise(images: torch.Tensor, config: LocTexConfig) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) as the model sees images that are not distorted."""
    return augment.apply_to_pixels(
        images,
        torch.zeros(len(images), dtype=torch.bool, device=images.device),
        mean=config.pixel_mean,
        std=config.pixel_std,
    )


def token_maps(model: LocTexModel, image: ImageFeatures, text: TextFeatures) -> np.ndarray:
    """(B, T, h, w) float32: where each token is, by `LocTexModel.locate`."""
    maps = model.locate(image, text)
    return maps.float().cpu().numpy().reshape(*maps.shape[:2], *image.grids[-1])


def word_maps(maps: np.ndarray, offsets: np.ndarray, spans: Sequence[words.Span]) -> np.ndarray:
    """(T, h, w) of tokens, their (T, 2) characters -> (W, h, w): the mean over a word's tokens."""
    covers = words.overlaps(spans, offsets).astype(np.float32)  # (W, T)
    covers /= np.maximum(covers.sum(axis=1, keepdims=True), 1)
    return np.einsum("wt,thx->whx", covers, maps)
