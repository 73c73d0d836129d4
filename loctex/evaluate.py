"""Scores a checkpoint on a split of a snapshot: retrieval, pointing, traces.

    python -m loctex.evaluate --run RUN --data SNAPSHOT [--split val] [--checkpoint best]

prints a table and writes RUN/evaluations/<snapshot>-<split>-<checkpoint>/result.json. The measures
are those of METHOD section 3; fractions, not percent. The trainer and the app call `score` too.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from loctex import checkpoint, metrics, tokenizer, trace, words
from loctex import model as models
from loctex.model import LocTexModel
from loctex.narrative import Narrative
from loctex.predictor import normalise, square, token_maps, word_maps
from loctex.reranking import Reranker
from loctex.runs import write_whole
from loctex.snapshot import Item, Region, Snapshot, Split

BATCH = 64  # images encoded at once
RERANK = 16  # candidates that the matching head orders


@dataclass
class Pair:
    """One narrative on its image, and the maps of its tokens."""

    narrative: Narrative
    regions: tuple[Region, ...]
    offsets: np.ndarray  # (T, 2) caption characters
    maps: dict[str, np.ndarray]  # (T, h, w) by the name of the head


@dataclass
class Scores:
    """metrics: name -> fraction. words: one row per scored word, for tables and the atlas:
    {"word", "start", "end" (caption characters), "x", "y" (where it is, in fractions)} and
    "pointing_trace", or "pointing_region" for a region's words."""

    metrics: dict[str, float]
    num_images: int
    num_narratives: int
    num_words: int
    words: list[dict] = field(repr=False)


@torch.inference_mode()
def score(
    model: LocTexModel,
    words_of: PreTrainedTokenizerFast,
    split: Split,
    *,
    limit: int | None = None,
    rerank: int = RERANK,
    has_progress: bool = False,
) -> Scores:
    """All measures over the first `limit` images of a split; the model keeps its mode.

    rerank: candidates that the matching head orders anew, where the model has one; 0: none.
    """
    was_training = model.training
    model.eval()
    count = min(len(split), limit or len(split))
    embeddings: dict[str, list[np.ndarray]] = defaultdict(list)
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    rows: list[dict] = []
    image_of: list[int] = []
    reranker = Reranker(model) if model.config.has_matching and rerank else None
    starts = range(0, count, BATCH)
    for start in tqdm(starts, unit="batch", disable=not has_progress):
        items = [split[i] for i in range(start, min(start + BATCH, count))]
        image_of += [start + i for i, item in enumerate(items) for _ in item.narratives]
        for pair in encode(model, words_of, items, embeddings, reranker):
            score_words(pair, model.config.word_margin, columns, rows)
    model.train(was_training)
    if not image_of:
        raise ValueError(f"split {split.name!r} has no narrative to score")
    similarity = np.concatenate(embeddings["image"]) @ np.concatenate(embeddings["text"]).T
    values = {name: float(np.nanmean(np.concatenate(parts))) for name, parts in columns.items()
              if not np.isnan(np.concatenate(parts)).all()}  # fmt: skip
    values |= metrics.retrieval(similarity, np.array(image_of))
    if reranker:
        values |= reranker.retrieval(similarity, np.array(image_of), rerank)
    num_words = sum("pointing_trace" in row for row in rows)
    return Scores(values, count, len(image_of), num_words, rows)


def encode(
    model: LocTexModel,
    words_of: PreTrainedTokenizerFast,
    items: Sequence[Item],
    embeddings: dict[str, list[np.ndarray]],
    reranker: Reranker | None = None,
) -> Iterator[Pair]:
    """Encodes images and their captions; yields each pair, and adds the embeddings."""
    size = model.config.image_size
    pixels = np.stack([square(simplejpeg.decode_jpeg(item.image), size) for item in items])
    image = model.encode_image(normalise(torch.from_numpy(pixels).to(model.device)))
    embeddings["image"].append(image.embedding.float().cpu().numpy())
    if reranker:
        reranker.add(image=image)
    pairs = [(i, k) for i, item in enumerate(items) for k in range(len(item.narratives))]
    for first in range(0, len(pairs), BATCH):
        part = pairs[first : first + BATCH]
        narratives = [items[i].narratives[k] for i, k in part]
        captions = [narrative.caption for narrative in narratives]
        tokens, offsets = tokenizer.encode(words_of, captions, model.config.max_tokens)
        text = model.encode_text(torch.from_numpy(tokens).to(model.device))
        embeddings["text"].append(text.embedding.float().cpu().numpy())
        if reranker:
            reranker.add(text=text)
        image_part = image.take([i for i, _ in part])
        maps = {"": token_maps(model, image_part, text)}
        if model.config.localized:
            contrastive = model.attend_contrastive(image_part, text).float().cpu().numpy()
            maps["_contrastive"] = contrastive.reshape(maps[""].shape)
        if model.config.has_matching:
            gradcam = model.grad_cam(image_part, text).float().cpu().numpy()
            maps["_gradcam"] = gradcam.reshape(maps[""].shape)
        for row, (i, k) in enumerate(part):
            chosen = {name: part[row] for name, part in maps.items()}
            yield Pair(narratives[row], items[i].regions[k], offsets[row], chosen)


def score_words(
    pair: Pair, margin: float, columns: dict[str, list[np.ndarray]], rows: list[dict]
) -> None:
    """Adds the measures of one pair's words to `columns`, and one row per word to `rows`."""
    grid = pair.maps[""].shape[1:]
    if pair.narrative.strokes:
        score_trace(pair, grid, margin, columns, rows)
    if pair.regions:
        spans = [(region.start, region.end) for region in pair.regions]
        near, cover = zip(*(_in_cells(region, grid) for region in pair.regions), strict=True)
        near, cover = np.stack(near), np.stack(cover)
        has_tokens = words.overlaps(spans, pair.offsets).any(axis=1) & near.any(axis=(1, 2))
        near, cover = near[has_tokens], cover[has_tokens]
        columns["pointing_region_chance"].append(metrics.pointing_chance(near))
        columns["pointing_region_center"].append(metrics.pointing_center(near))
        for name, maps in pair.maps.items():
            maps = word_maps(maps, pair.offsets, spans)[has_tokens]
            columns[f"pointing_region{name}"].append(metrics.pointing(maps, near))
            columns[f"energy{name}"].append(metrics.energy(maps, cover))
        caption, kept = pair.narrative.caption, np.flatnonzero(has_tokens)
        rows += [
            _row(caption[slice(*spans[i])], spans[i], trace.centroid(cover[k]),
                 pointing_region=columns["pointing_region"][-1][k])
            for k, i in enumerate(kept)
        ]  # fmt: skip


def score_trace(
    pair: Pair, grid: tuple[int, int], margin: float, columns: dict, rows: list[dict]
) -> None:
    """The measures against the recorded trace."""
    narrative = pair.narrative
    spans = words.spans(narrative.caption, narrative.words)
    windows = words.windows(narrative.words, margin)
    target = trace.rasterize(narrative.strokes, windows, grid)
    has_tokens = words.overlaps(spans, pair.offsets).any(axis=1)
    truth = trace.boxes(narrative.strokes, windows)
    grounded = has_tokens & target.any(axis=(1, 2))
    cells = metrics.trace_cells(target[grounded])
    columns["pointing_trace_chance"].append(metrics.pointing_chance(cells))
    columns["pointing_trace_center"].append(metrics.pointing_center(cells))
    for name, maps in pair.maps.items():
        maps = word_maps(maps, pair.offsets, spans)
        boxes = trace.mass_box(maps)
        maps = maps[grounded]
        columns[f"pointing_trace{name}"].append(metrics.pointing(maps, cells))
        columns[f"auc{name}"].append(metrics.auc(maps, cells))
        columns[f"iou{name}"].append(metrics.best_iou(maps, cells))
        for window in (0, 1):
            columns[f"lbm_{window}{name}"].append(np.array([metrics.lbm(boxes, truth, window)]))
    hits = columns["pointing_trace"][-1]
    rows += [
        _row(narrative.words[i].text, spans[i], (truth[i, :2] + truth[i, 2:]) / 2,
             pointing_trace=hits[k])
        for k, i in enumerate(np.flatnonzero(grounded))
    ]  # fmt: skip


def _row(word: str, span: words.Span, place: np.ndarray, **score: float) -> dict:
    row = {"word": word, "start": span[0], "end": span[1], "x": place[0], "y": place[1]} | score
    return {k: v if isinstance(v, str | int) else float(v) for k, v in row.items()}


def _in_cells(region: Region, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The cells whose choice is a hit, and the share of each that is covered."""
    if region.rle is None:
        return metrics.box_cells(region.box, grid), metrics.box_cover(region.box, grid)
    mask = region.mask(*region.rle["size"])
    return metrics.mask_cells(mask, grid), metrics.mask_cover(mask, grid)


def summary(values: dict[str, float]) -> float:
    """The one number by which the best checkpoint is kept: the mean of R@1 and pointing (ours)."""
    recall = (values["image_to_text_r1"] + values["text_to_image_r1"]) / 2
    pointing = values.get("pointing_region", values.get("pointing_trace"))
    return recall if pointing is None else (recall + pointing) / 2


def table(scores: Scores) -> str:
    """The measures as people read them."""
    lines = [f"{scores.num_images} images, {scores.num_narratives} narratives, "
             f"{scores.num_words} words with a trace"]  # fmt: skip
    lines += [f"{name:32s} {value:8.3f}" for name, value in sorted(scores.metrics.items())]
    return "\n".join(lines)


def by_word(rows: Sequence[dict], least: int = 5) -> dict[str, dict[str, float]]:
    """Word -> count and pointing, most frequent first; words seen `least` times or more."""
    hits: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if "pointing_trace" not in row:
            continue
        hits[row["word"].lower().strip(".,;:!?")].append(row["pointing_trace"])
    kept = sorted(
        (pair for pair in hits.items() if len(pair[1]) >= least), key=lambda p: -len(p[1])
    )
    return {w: {"count": len(h), "pointing_trace": round(float(np.mean(h)), 4)} for w, h in kept}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loctex.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="a run, or a save_pretrained folder"
    )
    parser.add_argument("--data", type=Path, required=True, help="a snapshot")
    parser.add_argument("--split", default="val", help="train, val or test [val]")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a folder [best]")
    parser.add_argument(
        "--rerank", type=int, default=RERANK, metavar="K",
        help=f"candidates that a matching head orders anew; 0: none [{RERANK}]",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, help="where to write result.json")
    parser.add_argument("--device", help="cpu, cuda ...; the GPU where there is one")
    given = parser.parse_args(arguments)
    try:
        folder = checkpoint.find(given.run, given.checkpoint)
        snapshot = Snapshot.open(given.data)
        device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model, words_of = models.load(folder).to(device), tokenizer.load(folder)
        split = snapshot.split(given.split)
        scores = score(model, words_of, split, rerank=given.rerank, has_progress=True)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    name = f"{given.data.resolve().name}-{given.split}-{Path(given.checkpoint).name}"
    to = given.to or given.run / "evaluations" / name / "result.json"
    result = {
        "metrics": scores.metrics,
        "num_images": scores.num_images,
        "num_narratives": scores.num_narratives,
        "num_words": scores.num_words,
        "checkpoint": folder.name,
        "snapshot": snapshot.hash,
        "split": given.split,
        "words": by_word(scores.words),
    }
    write_whole(to, json.dumps(result, indent=1))
    print(table(scores))
    print(f"written to {to}")


if __name__ == "__main__":
    main()
