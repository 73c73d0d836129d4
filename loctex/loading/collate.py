"""Examples -> Batch: the one place where padding happens."""

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from loctex.loading import augment
from loctex.loading.changed_words import Changed, WordSwaps
from loctex.loading.examples import Example, _decode, _said
from loctex.loading.tokenization import CaptionEncoder, padded, read
from loctex.loading.word_masking import hide_words
from loctex.records import trace, words
from loctex.settings import DataSettings


@dataclass
class Batch:
    """B pairs; T tokens; (h, w) the finest attention grid."""

    image: Tensor  # (B, H, W, 3) uint8, cropped and resized, not yet flipped or colored
    tokens: Tensor  # (B, T) int64
    offsets: Tensor  # (B, T, 2) int64 caption characters; (0, 0) for start, end and padding
    target: Tensor  # (B, T, h, w) float32 trace counts of each token's time window
    flip: Tensor  # (B,) bool
    color: Tensor  # (B, 3, 3) float32
    contrast: Tensor  # (B,) float32
    key: Tensor  # (B,) int64 of each picture's bytes, equal for copies in two snapshots
    caption_key: Tensor  # (B,) int64 of each caption as it is read here, mirrored where that is
    lengths: list[int]  # tokens of each caption, rising; on the host, so that nothing waits for it
    distortion: Tensor | None = None  # (B, 9) float32, as `distortions.apply` takes it
    word: Tensor | None = None  # (B, T) int64 number of each token's word; -1: none, or not counted
    hidden: Tensor | None = None  # (B, T) int64 tokens where some words are hidden
    changed: Tensor | None = None  # (B, T) int64 tokens of the caption with one word changed
    new_word: Tensor | None = None  # (B, T) bool: tokens of `changed` that say the new word
    kept_word: Tensor | None = None  # (B, T) bool: tokens of `changed` that say others, kept
    true_word: Tensor | None = None  # (B, T) bool: tokens of `tokens` that say the same ones
    hidden_at: Tensor | None = None  # (B, K) int64 places of hidden tokens, rising; 0: none
    crop: Tensor | None = None  # (B, 4) float32 box of the crop, in fractions, where there are maps
    maps: list[Tensor] | None = (
        None  # per scale, finest first, (B, C, h, w): whole images, unflipped
    )
    coarser: list[Tensor] = field(default_factory=list)  # (B, T, h, w) targets of the other grids

    @property
    def keys(self) -> Tensor:
        """(B, 2) by which pairs are twins, of picture and caption (`losses.twins`)."""
        return torch.stack((self.key, self.caption_key), dim=1)

    @property
    def targets(self) -> list[Tensor]:
        """(B, T, h, w) trace counts on each grid, the finest first."""
        return [self.target, *self.coarser]

    def to(self, device: torch.device | str) -> "Batch":
        """All tensors on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """All tensors in pinned memory: their copy to the GPU then makes nobody wait."""
        return self._each(torch.Tensor.pin_memory)  # what is pinned already stays

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                changed[item.name] = change(value)
        changed["coarser"] = [change(target) for target in self.coarser]
        if self.maps is not None:
            changed["maps"] = [change(scale) for scale in self.maps]
        return replace(self, **changed)

    def split(self, count: int) -> list["Batch"]:
        """At most `count` chunks of nearly equal size, in order."""
        edges = np.linspace(0, len(self.key), min(count, len(self.key)) + 1).astype(int).tolist()
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        present = {name: value for name, value in values.items() if value is not None}

        chunks = []
        for a, b in pairwise(edges):
            rows = {}
            for name, value in present.items():
                if name not in ("maps", "coarser"):
                    rows[name] = value[a:b]

            rows["coarser"] = [target[a:b] for target in self.coarser]
            if self.maps is not None:
                rows["maps"] = [scale[a:b] for scale in self.maps]
            chunks.append(replace(self, **rows))

        return chunks


def content_key(content: bytes) -> int:
    """63 bits of a hash: equal for equal bytes, never negative. Of 10 million pictures two that
    differ share one by a chance of 5 in a million."""
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def caption_key(caption: str) -> int:
    """`content_key` of what a caption says: whatever its case and spaces."""
    return content_key(words.plain(caption).encode())


class Collate:
    """Examples -> Batch; the one place where padding happens."""

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerFast,
        settings: DataSettings,
        grid: tuple[int, int],
        coarser_grids: Sequence[tuple[int, int]] = (),
        is_pinned: bool = False,
        numbers_words: bool = False,
        hides_words: bool = False,
        exchange: WordSwaps | None = None,
        features: Callable[[Sequence[int]], list[Tensor]] | None = None,
    ) -> None:
        """grid: of the finest attention map. coarser_grids: of the others; those of a transformer
        are the same and need no target of their own.

        features: a frozen backbone's maps by the examples' keys; pixels are then not read."""
        self.tokenizer = tokenizer
        self.encoder = CaptionEncoder(tokenizer, settings.max_tokens)
        self.settings = settings

        self.grids = [grid, *(other for other in coarser_grids if other != grid)]
        self.is_pinned = is_pinned

        self.numbers_words = numbers_words or hides_words or settings.skip_stop_words
        self.hides_words = hides_words
        self.exchange = exchange
        self.features = features

    def __call__(
        self, examples: Sequence[Example], pool: Executor | None = None, helpers: int = 0
    ) -> Batch:
        """Sorted by caption length: the text encoder works on parts of similar length.

        pool, helpers: so many of its threads decode while this one reads the words, then too.
        """
        pairs = [_said(example) for example in examples]
        captions = [caption for caption, _ in pairs]
        foils = self.foils(captions, examples)
        changed = [foil.caption for foil in foils]  # not said again: not remembered
        rows = self.encoder.rows(captions) + read(self.tokenizer, changed, self.settings.max_tokens)
        padded_rows = padded(rows, self.tokenizer.pad_token_id)
        tokens, offsets = (array[: len(captions)] for array in padded_rows)
        lengths = (tokens != self.tokenizer.pad_token_id).sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        examples, spans = [examples[i] for i in order], [pairs[i][1] for i in order]
        tokens, offsets = tokens[order], offsets[order]

        size = self.settings.image_size if self.features is None else 0
        shape = (len(examples), size, size, 3)
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=self.is_pinned)
        undecoded = deque(zip(examples, images.numpy(), strict=True) if size else ())
        helping = [pool.submit(_decode, undecoded) for _ in range(helpers)] if pool else []
        targets = self.targets(examples, spans, offsets)
        _decode(undecoded)
        for helper in helping:
            helper.result()  # waits, and raises what it raised
        augmentations = [example.augmentation for example in examples]
        colors = np.stack([np.eye(3) if a.color is None else a.color for a in augmentations])
        batch = Batch(
            image=images,
            tokens=torch.from_numpy(tokens),
            offsets=torch.from_numpy(offsets),
            target=targets[0],
            coarser=targets[1:],
            flip=torch.tensor([a.is_flipped for a in augmentations]),
            color=torch.from_numpy(colors.astype(np.float32)),
            contrast=torch.tensor([a.contrast for a in augmentations], dtype=torch.float32),
            key=torch.tensor([content_key(example.image) for example in examples]),
            caption_key=torch.tensor([caption_key(captions[i]) for i in order]),
            lengths=lengths[order].tolist(),
        )
        if self.features is not None:
            boxes = [example.augmentation.box for example in examples]
            batch.crop = torch.tensor(boxes, dtype=torch.float32)
            batch.maps = self.features([example.key for example in examples])
        if self.settings.distort:
            distortions = [a.distortion for a in augmentations if a.distortion is not None]
            batch.distortion = torch.stack([distortion.tensor() for distortion in distortions])
        if self.exchange is not None:
            theirs = (array[-len(order) :][order] for array in padded_rows)
            self.add_changes(batch, [foils[i] for i in order], *theirs)
        if self.numbers_words:
            self.add_words(batch, [captions[i] for i in order], [e.seed for e in examples])
        return batch.pin_memory() if self.is_pinned else batch

    def foils(self, captions: Sequence[str], examples: Sequence[Example]) -> list[Changed]:
        """Each caption with one word changed, where that is asked for."""
        if self.exchange is None:
            return []
        randoms = (np.random.default_rng((example.seed, 1)) for example in examples)
        return [self.exchange.change(*pair) for pair in zip(captions, randoms, strict=True)]

    def add_changes(
        self, batch: Batch, foils: Sequence[Changed], tokens: np.ndarray, offsets: np.ndarray
    ) -> None:
        """The changed captions, as (B, T) tokens at (B, T, 2) characters, and what changed."""
        batch.changed = torch.from_numpy(tokens)

        truth_places = batch.offsets.numpy()
        batch.new_word = _are_in(offsets, [foil.new for foil in foils])
        batch.kept_word = _are_in(offsets, [foil.kept for foil in foils])
        batch.true_word = _are_in(truth_places, [foil.true for foil in foils])

    def add_words(self, batch: Batch, captions: Sequence[str], seeds: Sequence[int]) -> None:
        """Which word each token belongs to, and which words are hidden."""
        offsets, skips = batch.offsets.numpy(), self.settings.skip_stop_words
        pairs = list(zip(captions, offsets, strict=True))
        batch.word = torch.from_numpy(np.stack([words.numbers(*pair, skips) for pair in pairs]))

        if skips:
            for target in batch.targets:
                target[batch.word < 0] = 0

        if not self.hides_words:
            return

        special, vocabulary = self.tokenizer.all_special_ids, len(self.tokenizer)
        ordinary_tokens = np.setdiff1d(np.arange(vocabulary), special)
        rows = [
            hide_words(
                row,
                words.numbers(*pair),
                self.settings.mask_words,
                np.random.default_rng(seed),
                mask=self.tokenizer.mask_token_id,
                vocabulary=ordinary_tokens,
            )
            for row, pair, seed in zip(batch.tokens.numpy(), pairs, seeds, strict=True)
        ]

        batch.hidden = torch.from_numpy(np.stack([hidden for hidden, _ in rows]))
        batch.hidden_at = torch.zeros(len(rows), max(len(p) for _, p in rows), dtype=torch.int64)
        for row, (_, places) in zip(batch.hidden_at, rows, strict=True):
            row[: len(places)] = torch.from_numpy(places)

        if self.settings.mask_captions:
            for target in batch.targets:
                target[batch.hidden != batch.tokens] = 0

    def targets(
        self, examples: Sequence[Example], spans: Sequence[list[words.Span]], offsets: np.ndarray
    ) -> list[Tensor]:
        """Per grid (B, T, h, w) trace counts of the tokens at (B, T, 2) characters."""
        narratives = [example.narrative for example in examples]
        narrated = [
            n.words if utterance_spans else ()
            for n, utterance_spans in zip(narratives, spans, strict=True)
        ]

        lengths = np.array([len(utterance_spans) for utterance_spans in spans])
        is_word = np.arange(lengths.max()) < lengths[:, None]  # (B, W)
        places, seconds = np.zeros((*is_word.shape, 2), np.int64), np.zeros((*is_word.shape, 2))

        flat = chain.from_iterable(chain.from_iterable(spans))
        places[is_word] = np.fromiter(flat, np.int64).reshape(-1, 2)
        seconds[is_word] = words.all_windows(narrated, self.settings.word_margin)
        windows = words.token_windows(offsets, places, seconds)

        strokes = [narrative.strokes for narrative in narratives]
        affines = np.stack([augment.affine(example.augmentation) for example in examples])
        maps = trace.rasterize_grids(strokes, list(windows), self.grids, affines)
        return [torch.from_numpy(np.stack(of_grid)) for of_grid in maps]


def _are_in(offsets: np.ndarray, spans: Sequence[list[words.Span]]) -> Tensor:
    """(B, T) bool: the tokens at (B, T, 2) characters that overlap their caption's spans."""
    rows = [
        words.overlaps(row, row_spans).any(axis=1)
        for row, row_spans in zip(offsets, spans, strict=True)
    ]
    return torch.from_numpy(np.stack(rows))
