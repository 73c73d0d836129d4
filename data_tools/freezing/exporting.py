"""Export a collection: the public lines, images, voices, known regions, and a card that says what
it is; on request also as parquet, so that the folder opens as a snapshot and as a data set."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_tools.exchange.sources import CollectionSource
from data_tools.exchange.strict_lines import SIDE_FILE, line_of, side_record, strict_record
from data_tools.freezing.dataset_card import UNSTATED, VOICES, head
from data_tools.freezing.freeze import freeze
from data_tools.speech.voices import FOLDER, Voices, exported
from data_tools.store import Store, StoreError
from loctex.records import terms as public
from loctex.records.annotations import picture_name
from loctex.records.files import draft_file, whole_folder, write_whole
from loctex.records.narrative import Narrative, read_jsonl

SHARD = 50_000  # narratives a file
T = TypeVar("T")


def export_collection(
    store: Store,
    collection_id: int,
    to: Path,
    *,
    has_parquet: bool = False,
    has_all_keys: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write narratives.jsonl, images/, README.md and, where known, regions.jsonl, voices/; returns
    how many narratives. More than 50,000 are narratives-00000-of-00003.jsonl and so on.

    A line has the seven keys of the public format and no other, as Google's loader demands; what
    else a narrative has is in unknown_keys.jsonl, or in the line itself where has_all_keys.

    The folder appears whole or not at all, and can be imported again. progress(steps done, steps
    in all). ValueError: it holds something.
    """
    (collection,) = (c for c in store.collections() if c.id == collection_id)
    total = collection.num_images * (3 if has_parquet else 1) + collection.num_narratives
    num_done = 0

    def step(*_: int) -> None:
        nonlocal num_done
        num_done += 1
        if progress:
            progress(num_done, total)

    with whole_folder(to) as building:
        _copy_images(store, collection_id, building / "images", step)
        voices, provenance = Voices(store.images_folder.with_name(FOLDER)), _Provenance()
        count = _write_lines(
            building,
            (
                exported(voices, provenance.see(narrative), building)
                for _, narrative in _each(store.each_narrative(collection_id), step)
            ),
            has_all_keys,
        )
        lines = [json.dumps(region) + "\n" for region in store.each_region(collection_id)]
        if lines:
            write_whole(building / "regions.jsonl", "".join(lines))
        splits: Sequence[str] = ()
        has_voices = False
        if has_parquet:
            frozen = freeze(building / "frozen", [CollectionSource(store, collection.name)], step)
            splits = tuple(frozen["splits"])
            for path in list((building / "frozen").iterdir()):
                os.replace(path, building / path.name)
            (building / "frozen").rmdir()
            has_voices = _write_voices(building)
        text = card(collection.name, collection.license, provenance, splits, has_voices=has_voices)
        write_whole(building / "README.md", text)
    return count


def _copy_images(store: Store, collection_id: int, folder: Path, step: Callable[[], None]) -> None:
    folder.mkdir()
    for image in _each(store.each_image(collection_id), step):
        name = picture_name(image.dataset_id, image.image_id, image.path.suffix)
        if (folder / name).exists():
            raise StoreError(f"two images are named {name}: export them as two collections")
        shutil.copyfile(image.path, folder / name)


def _each(rows: Iterator[T], step: Callable[[], None]) -> Iterator[T]:
    for row in rows:
        yield row
        step()


def _write_lines(folder: Path, narratives: Iterator[Narrative], has_all_keys: bool) -> int:
    """One file, or shards of SHARD lines, and the side file where a line lost something; how many
    lines."""
    counts: list[int] = []
    with draft_file(folder / SIDE_FILE) as draft, open(draft, "w", encoding="utf-8") as side_file:
        while not counts or counts[-1] == SHARD:
            path = folder / f"{len(counts)}.jsonl"
            some = islice(narratives, SHARD)
            counts.append(_write_shard(path, some, None if has_all_keys else side_file))

    if not (folder / SIDE_FILE).stat().st_size:
        (folder / SIDE_FILE).unlink()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
        path.unlink()
    for i in range(len(counts)):
        name = f"narratives-{i:05d}-of-{len(counts):05d}" if len(counts) > 1 else "narratives"
        os.replace(folder / f"{i}.jsonl", folder / f"{name}.jsonl")
    return sum(counts)


def _write_shard(path: Path, narratives: Iterable[Narrative], side_file: TextIO | None) -> int:
    """Strict lines, and what they lost into the side file; without one, all of a narrative."""
    count = 0
    with draft_file(path) as draft, open(draft, "w", encoding="utf-8") as file:
        for narrative in narratives:
            record = strict_record(narrative)
            if side_file is None:
                record |= narrative.to_json()
            elif side := side_record(narrative):
                side_file.write(line_of(side) + "\n")
            file.write(line_of(record) + "\n")
            count += 1
    return count


# As `datasets` keeps its Audio; the hub's viewer plays it.
_SOUND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_VOICES = pa.schema(
    [
        ("dataset_id", pa.string()),
        ("image_id", pa.string()),
        ("annotator_id", pa.int64()),
        ("caption", pa.string()),
        ("audio", _SOUND),
    ],
    {"huggingface": json.dumps({"info": {"features": {"audio": {"_type": "Audio"}}}})},
)


def _write_voices(folder: Path) -> bool:
    """voices.parquet of the voices in the folder, with what they say; False where there is none."""
    if not (folder / FOLDER).is_dir():
        return False
    with (
        draft_file(folder / VOICES) as draft,
        pq.ParquetWriter(draft, _VOICES, compression="zstd") as writer,
    ):
        for file in sorted(folder.glob("narratives*.jsonl")):
            for narrative in read_jsonl(file):
                if narrative.voice and (folder / narrative.voice).is_file():
                    writer.write_batch(_voice_row(narrative, folder / narrative.voice))
    return True


def _voice_row(narrative: Narrative, voice: Path) -> pa.RecordBatch:
    record = {
        "dataset_id": narrative.dataset_id,
        "image_id": narrative.image_id,
        "annotator_id": narrative.annotator_id,
        "caption": narrative.caption,
        "audio": {"bytes": voice.read_bytes(), "path": voice.name},
    }
    return pa.RecordBatch.from_pylist([record], _VOICES)


class _Provenance:
    """Of each dataset_id: who told how much of it."""

    def __init__(self) -> None:
        self.sources: dict[str, Counter[str]] = {}

    def see(self, narrative: Narrative) -> Narrative:
        counts = self.sources.setdefault(narrative.dataset_id, Counter())
        counts.update(
            {
                "narratives": 1,
                "words": len(narrative.words),
                "points": narrative.num_points,
                f"annotator {narrative.annotator_id}": 1,
            }
        )
        return narrative


def card(
    name: str,
    terms: str,
    provenance: _Provenance,
    splits: Sequence[str] = (),
    *,
    has_voices: bool = False,
) -> str:
    """README.md: what the folder holds, who told it, under which terms; Hugging Face reads its
    head. splits: of its parquet files; has_voices: whether voices.parquet is one of them."""
    rows, licenses = [], []
    for source, counts in sorted(provenance.sources.items()):
        people = sum(key.startswith("annotator ") for key in counts)
        known = public.of(source)
        licenses.append(str(known) if known else terms)
        rows.append(
            f"| {source} | {counts['narratives']:,} | {counts['words']:,} | {counts['points']:,} "
            f"| {people:,} | {licenses[-1] or UNSTATED} |"
        )
    table = "\n".join(rows)
    return f"""{head(name, licenses or [terms], splits, has_voices=has_voices)}
# {name}

Images that people described while they pointed at what they said, in the format of
[Localized Narratives](https://google.github.io/localized-narratives/): one JSON record a line,
coordinates in fractions of the image, times in seconds from the start.

| dataset_id | narratives | timed words | points | annotators | terms |
|---|---|---|---|---|---|
{table}

- `narratives*.jsonl`: dataset_id, image_id, annotator_id, caption, timed_caption, traces,
  voice_recording (a path in this folder, Ogg Vorbis; "" where nobody spoke)
- `unknown_keys.jsonl`, where needed: what else these lines had when they came; LocTex Studio puts
  it back
- `images/`: the pictures, named by image_id (COCO: 12 digits)
- `regions.jsonl`, where known: the exact place of what a caption names; for evaluation only
- `data/`, on request: the same as parquet, images at most 288 px on the short side, in splits
- `voices.parquet`, then: the voices beside their captions; `load_dataset(FOLDER, "voices")`

Exported by LocTex Studio. A dataset_id with "simulated" was told by nobody: it was made from boxes.
"""
