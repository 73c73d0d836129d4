"""The scores of a split as one table, a narrative a row: making its rows, and reading them.

Torch is imported only where something is scored.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from loctex.records import words
from loctex.records.items import Item, Split
from loctex.records.word_classes import CLASSES, word_class
from loctex.scoring import metrics

if TYPE_CHECKING:
    from loctex.scoring.word_scores import Pair

MARK = pa.struct(  # a word with a trace, or a region's words
    [
        ("word", pa.string()),
        ("start", pa.int32()),  # caption characters
        ("end", pa.int32()),
        ("kind", pa.int8()),  # of CLASSES
        ("is_region", pa.bool_()),
        ("hit", pa.float32()),
        ("center", pa.float32()),  # what pointing at the middle of the picture would score
        ("certainty", pa.float32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)
NUMBERS = ("pointing_trace", "pointing_region", "lbm_0", "lbm_1", "cosine", "certainty")


def scorer(folder: Path, device: str = "auto") -> Callable[[Split, range], pa.Table]:
    """A function that scores these images of a split, by the model in `folder`."""
    import torch

    from loctex import distributed
    from loctex.loading import tokenization
    from loctex.model import build
    from loctex.scoring.score import encode

    loaded = build.load(folder, device=distributed.choose_device(device)).eval()
    tokenizer = tokenization.load(folder)

    @torch.inference_mode()
    def score(split: Split, images: range) -> pa.Table:
        items = [split[i] for i in images]
        embeddings: dict[str, list[np.ndarray]] = defaultdict(list)
        pairs = list(encode(loaded, tokenizer, items, embeddings))
        image, text = (np.concatenate(embeddings[name]) for name in ("image", "text"))
        places = [(i, k) for i, item in enumerate(items) for k in range(len(item.narratives))]
        rows = [
            _scored(pair, loaded.config.word_margin)
            | _said(items[i], images[i], k)
            | {"image": image[i], "text": text[n], "cosine": float(image[i] @ text[n])}
            for n, (pair, (i, k)) in enumerate(zip(pairs, places, strict=True))
        ]
        return pa.Table.from_pylist(rows, schema=_schema(image.shape[1]))

    return score


def _schema(size: int) -> pa.Schema:
    """One row a narrative. image, text: embeddings; row, number: its image and place there."""
    fields = [
        ("row", pa.int32()),
        ("number", pa.int32()),
        ("dataset_id", pa.string()),
        ("image_id", pa.string()),
        ("annotator_id", pa.int64()),
        ("caption", pa.string()),
    ]
    fields += [(name, pa.float32()) for name in NUMBERS]
    fields += [(name, pa.list_(pa.float32(), size)) for name in ("image", "text")]
    return pa.schema([*fields, ("marks", pa.list_(MARK))])


def _said(item: Item, row: int, number: int) -> dict[str, Any]:
    narrative = item.narratives[number]
    return {
        "row": row,
        "number": number,
        "dataset_id": item.dataset_id,
        "image_id": item.image_id,
        "annotator_id": narrative.annotator_id,
        "caption": narrative.caption,
    }


def _scored(pair: "Pair", margin: float) -> dict[str, Any]:
    """A narrative's numbers and its marks, by the functions of loctex.evaluate."""
    from loctex.scoring.predictor import word_maps
    from loctex.scoring.word_scores import score_words

    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    rows: list[dict] = []
    score_words(pair, margin, columns, rows)
    numbers = {
        name: _mean(np.concatenate(columns[name])) if columns[name] else math.nan
        for name in NUMBERS[:4]
    }
    maps, spans = pair.maps[""], [(row["start"], row["end"]) for row in rows]
    sure = np.zeros(0)
    if rows:
        sure = metrics.certainty(word_maps(maps, pair.offsets, spans))
    utterances = pair.narrative.words or words.estimate(pair.narrative.caption)
    all_maps = word_maps(maps, pair.offsets, words.spans(pair.narrative.caption, utterances))
    is_read = all_maps.any(axis=(1, 2))
    marks = [
        {
            "word": row["word"],
            "start": row["start"],
            "end": row["end"],
            "x": row["x"],
            "y": row["y"],
            "kind": CLASSES.index(word_class(row["word"])),
            "certainty": certainty,
            "is_region": "pointing_region" in row,
            "hit": row["pointing_region" if "pointing_region" in row else "pointing_trace"],
            "center": row["center"],
        }
        for row, certainty in zip(rows, sure, strict=True)
    ]
    return numbers | {"certainty": _mean(metrics.certainty(all_maps[is_read])), "marks": marks}


def _mean(values: np.ndarray) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else math.nan


def ranks(table: pa.Table) -> np.ndarray:
    """(N,) the rank of each caption's own image, or of one with an equal caption, among all: as
    metrics.retrieval counts it."""
    atlas = Atlas(table)
    own = np.searchsorted(atlas.image_rows, atlas.row)
    said = [words.plain(caption) for caption in atlas.caption.to_pylist()]
    images_of: dict[str, list[int]] = defaultdict(list)  # of all captions that are equal
    for caption, image in zip(said, own.tolist(), strict=True):
        images_of[caption].append(image)

    chunks = []
    for texts, captions in _chunks(atlas.texts, np.array(said), size=1000):
        is_own = np.zeros((len(texts), len(atlas.images)), dtype=bool)
        for row, caption in enumerate(captions.tolist()):
            is_own[row, images_of[caption]] = True
        chunks.append(metrics.own_ranks(texts @ atlas.images.T, is_own))
    return np.concatenate(chunks)


def _chunks(*arrays: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, ...]]:
    for first in range(0, len(arrays[0]), size):
        yield tuple(array[first : first + size] for array in arrays)


class Atlas:
    """The scores of a split, as columns: N narratives, M marks, I images, D numbers each.

    row, number, caption and the names of NUMBERS: (N,). mark: dictionary of (M,) columns, with
    "narrative" the row each belongs to. images (I, D) of the splits' `image_rows`; texts (N, D).
    """

    def __init__(self, table: pa.Table) -> None:
        self.about = json.loads((table.schema.metadata or {}).get(b"about", "{}"))
        self.row, self.number = (table[name].to_numpy() for name in ("row", "number"))
        self.caption = table["caption"].combine_chunks()
        self.table = table

        self.numbers = {
            name: table[name].to_numpy()
            for name in (*NUMBERS, "rank")
            if name in table.column_names
        }

        self.image_rows, first_rows = np.unique(self.row, return_index=True)
        self.images = _matrix(table["image"])[first_rows]
        self.texts = _matrix(table["text"])

        marks = table["marks"].combine_chunks()
        counts = marks.value_lengths().to_numpy()
        flat = marks.flatten()
        self.mark = {
            field.name: flat.field(field.name)
            if field.name == "word"
            else flat.field(field.name).to_numpy(zero_copy_only=False)
            for field in marks.type.value_type  # older tables have no center
        } | {"narrative": np.repeat(np.arange(len(counts)), counts)}

    @classmethod
    def open(cls, path: Path) -> "Atlas":
        """ValueError where the table is damaged."""
        try:
            return cls(feather.read_table(path, memory_map=True))
        except (pa.ArrowException, KeyError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it and score again") from error

    def __len__(self) -> int:
        return len(self.row)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Fixed-size lists -> (N, D)."""
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)
