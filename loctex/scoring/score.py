"""Scores a model on a split: retrieval, pointing, traces (METHOD section 3)."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from loctex.loading import tokenization
from loctex.loading.frozen_features import FeatureMaps
from loctex.model.backbones import maps_in_parts
from loctex.model.model import LocTexModel
from loctex.records.items import Item, Split
from loctex.records.word_classes import word_class
from loctex.scoring import metrics
from loctex.scoring.predictor import normalise, square, token_maps
from loctex.scoring.reranking import Reranker
from loctex.scoring.word_scores import Pair, by_word, score_words

BATCH = 64  # images encoded at once
RERANK = 16  # candidates that the matching head orders


@dataclass
class Scores:
    """metrics: name -> fraction. words: one row per scored word, for tables and the atlas:
    {"word", "start", "end" (caption characters), "x", "y" (where it is, in fractions), "center"
    (what pointing at the middle scores)} and "pointing_trace", or "pointing_region" for a
    region's words."""

    metrics: dict[str, float]
    num_images: int
    num_narratives: int
    num_words: int
    words: list[dict] = field(repr=False)
    intervals: dict[str, list[float]] = field(default_factory=dict)  # of `metrics.intervals`


@torch.inference_mode()
def score(
    model: LocTexModel,
    tokenizer: PreTrainedTokenizerFast,
    split: Split,
    *,
    limit: int | None = None,
    rerank: int = RERANK,
    features: FeatureMaps | None = None,
    has_progress: bool = False,
    has_intervals: bool = False,
) -> Scores:
    """All measures over the first `limit` images of a split; the model keeps its mode.

    features: what a frozen backbone says of the split's images, where that was kept.
    rerank: candidates that the matching head orders anew, where the model has one; 0: none.
    has_intervals: say also how sure the measures are, but those of the re-ranking.
    """
    was_training = model.training
    model.eval()
    count = min(len(split), limit or len(split))

    embeddings: dict[str, list[np.ndarray]] = defaultdict(list)
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    images: dict[str, list[np.ndarray]] = defaultdict(list)  # of each of the columns' scores
    rows: list[dict] = []
    image_of: list[int] = []
    captions: list[str] = []
    reranker = Reranker(model) if model.config.has_matching and rerank else None

    starts = range(0, count, BATCH)
    for start in tqdm(starts, unit="batch", disable=not has_progress):
        items = [split[i] for i in range(start, min(start + BATCH, count))]
        numbers: list[int] = []
        for number, item in enumerate(items, start):
            numbers += [number] * len(item.narratives)
            captions += [narrative.caption for narrative in item.narratives]

        image_of += numbers
        maps = features.maps(range(start, start + len(items))) if features else None
        pairs = encode(model, tokenizer, items, embeddings, reranker, maps)
        for number, pair in zip(numbers, pairs, strict=True):
            score_words(pair, model.config.word_margin, columns, rows)
            note_image(number, columns, images)

    model.train(was_training)
    if not image_of:
        raise ValueError(f"split {split.name!r} has no narrative to score")

    similarity = np.concatenate(embeddings["image"]) @ np.concatenate(embeddings["text"]).T
    joined = {name: np.concatenate(chunks) for name, chunks in columns.items()}
    joined = {name: scores for name, scores in joined.items() if not np.isnan(scores).all()}

    values = {name: float(np.nanmean(scores)) for name, scores in joined.items()}
    values |= metrics.retrieval(similarity, np.array(image_of), captions)
    if reranker:
        values |= reranker.retrieval(similarity, np.array(image_of), rerank, captions)

    num_words = sum("pointing_trace" in row for row in rows)
    result = Scores(values, count, len(image_of), num_words, rows)

    if has_intervals:
        owners = {name: np.concatenate(images[name]) for name in joined}
        ranks = metrics.retrieval_ranks(similarity, np.array(image_of), captions)
        for direction, (rank, rank_images) in ranks.items():
            for k in (1, 5, 10):
                joined[f"{direction}_r{k}"] = (rank <= k).astype(float)
                owners[f"{direction}_r{k}"] = rank_images
        result.intervals = metrics.intervals(joined, owners, count)

    return result


def note_image(
    number: int, columns: dict[str, list[np.ndarray]], images: dict[str, list[np.ndarray]]
) -> None:
    """Adds to `images` the number of the image to which the newest chunks of `columns` belong."""
    for name, chunks in columns.items():
        for chunk in chunks[len(images[name]) :]:
            images[name].append(np.full(len(chunk), number))


def encode(
    model: LocTexModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Item],
    embeddings: dict[str, list[np.ndarray]],
    reranker: Reranker | None = None,
    features: Sequence[Tensor] | None = None,
) -> Iterator[Pair]:
    """Encodes images and their captions; yields each pair, and adds the embeddings.

    features: the backbone's maps of the images, where they are known.
    """
    if features is None:
        size = model.config.image_size
        pixels = np.stack([square(simplejpeg.decode_jpeg(item.image), size) for item in items])
        images = torch.from_numpy(pixels).to(model.device)
        backbone_maps = maps_in_parts(model.backbone, normalise(images, model.config))
        image = model.encode_maps(backbone_maps)
    else:
        image = model.encode_maps([part.to(model.device).float() for part in features])

    embeddings["image"].append(image.embedding.float().cpu().numpy())
    if reranker:
        reranker.add(image=image)

    pairs = [(i, k) for i, item in enumerate(items) for k in range(len(item.narratives))]
    for first in range(0, len(pairs), BATCH):
        pairs_now = pairs[first : first + BATCH]
        narratives = [items[i].narratives[k] for i, k in pairs_now]
        captions = [narrative.caption for narrative in narratives]
        tokens, offsets = tokenization.encode(tokenizer, captions, model.config.max_tokens)

        text = model.encode_text(torch.from_numpy(tokens).to(model.device))
        embeddings["text"].append(text.embedding.float().cpu().numpy())
        if reranker:
            reranker.add(text=text)

        image_part = image.select([i for i, _ in pairs_now])
        maps = {"": token_maps(model, image_part, text)}
        if model.config.localized:
            *finer, coarsest = model.attend(image_part, text)
            for (h, w), attention in zip(image.grids[:-1], finer, strict=True):
                maps[f"_{h}x{w}"] = (
                    attention.float().cpu().numpy().reshape(len(pairs_now), -1, h, w)
                )
            if model.config.contrastive_share:
                alone = coarsest.float().cpu().numpy()
                maps["_attention"] = alone.reshape(maps[""].shape)
            contrastive = model.attend_contrastive(image_part, text).float().cpu().numpy()
            maps["_contrastive"] = contrastive.reshape(maps[""].shape)

        if model.config.has_matching:
            gradcam = model.grad_cam(image_part, text).float().cpu().numpy()
            maps["_gradcam"] = gradcam.reshape(maps[""].shape)

        for row, (i, k) in enumerate(pairs_now):
            maps_of_pair = {name: of_batch[row] for name, of_batch in maps.items()}
            yield Pair(
                narratives[row],
                items[i].regions[k],
                offsets[row],
                maps_of_pair,
                model.config.word_box,
            )


def summary(values: dict[str, float]) -> float:
    """The one number by which the best checkpoint is kept: the mean of R@1 and pointing (ours)."""
    recall = (values["image_to_text_r1"] + values["text_to_image_r1"]) / 2
    pointing = values.get("pointing_region", values.get("pointing_trace"))
    return recall if pointing is None else (recall + pointing) / 2


def table(scores: Scores, num_words: int = 20) -> str:
    """The measures as people read them, and the words that say most often what is where."""
    lines = [
        f"{scores.num_images} images, {scores.num_narratives} narratives, "
        f"{scores.num_words} words with a trace"
    ]

    for name, value in sorted(scores.metrics.items()):
        line = f"{name:32s} {value:8.3f}"
        if name in scores.intervals:
            low, high = scores.intervals[name]
            line += f"  [{low:.3f}, {high:.3f}]"
        lines.append(line)

    rows = {w: row for w, row in by_word(scores.words).items() if word_class(w) != "other"}
    if rows:
        lines.append(
            f"{'':20s}{'words':>7s}{'at the trace':>14s}{'regions':>9s}{'in it':>7s}"
            f"{'middle':>8s}{'chance':>8s}"
        )
    for word, row in list(rows.items())[:num_words]:
        lines.append(
            f"{word:20.20s}{row.get('count', 0):7d}{row.get('pointing_trace', math.nan):14.3f}"
            f"{row.get('num_regions', 0):9d}{row.get('pointing_region', math.nan):7.3f}"
            f"{row.get('pointing_region_center', math.nan):8.3f}"
            f"{row.get('pointing_region_chance', math.nan):8.3f}"
        )

    return "\n".join(lines).replace("nan", "  -")
