"""Freeze narratives and their images into a snapshot: content-hashed parquet for training.

    python -m data_tools.snapshot --narratives FILE --images DIR [--regions FILE] --to DIR
    python -m data_tools.snapshot --workspace DIR --collection NAME ... --to DIR
    the same with --previous SNAPSHOT: what has not changed since is taken over, not made again

Images are kept as JPEG with a short side of at most 288 px. Splits: the official one where the
dataset_id names it, else 80/10/10 by hash of the image id; images of a previous snapshot stay in
theirs. The folder appears whole or not at all.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_tools.exchange.sources import CollectionSource, Files, Source
from data_tools.freezing.freeze import freeze
from data_tools.processes import stop_tidily


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m data_tools.snapshot", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter

    parser.add_argument("--narratives", type=Path, help="a Localized Narratives file")
    parser.add_argument("--images", type=Path, help="the folder of its pictures")
    parser.add_argument("--regions", type=Path, help="regions.jsonl: known masks and boxes")
    parser.add_argument("--license", help="the terms of the file, if its dataset_id is not public")
    parser.add_argument("--workspace", type=Path, help="the app's folder, instead of a file")
    parser.add_argument("--database", help="the workspace's database URL, if not its studio.db")
    parser.add_argument("--collection", nargs="+", help="collections of the workspace")
    parser.add_argument("--previous", type=Path, help="an earlier snapshot of the same, or of less")
    parser.add_argument("--workers", type=int, help="processes (one for each core)")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write")
    options = parser.parse_args(arguments)

    is_file = options.narratives is not None and options.images is not None
    if is_file == (options.workspace is not None and options.collection is not None):
        parser.error("give either --narratives and --images, or --workspace and --collection")

    try:
        with _sources(options) as sources, tqdm(unit="step", leave=False, disable=None) as bar:
            manifest = freeze(
                options.to,
                sources,
                lambda done, total: _show(bar, total),
                previous=options.previous,
                workers=options.workers,
            )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1

    _report(options.to, manifest)
    return 0


@contextmanager
def _sources(options: argparse.Namespace) -> Iterator[list[Source]]:
    if options.workspace is None:
        files = Files(options.narratives, options.images, options.regions, license=options.license)
        yield [files]
        return
    from data_tools.store import Store  # a file needs no database

    with closing(Store.of_workspace(options.workspace, options.database)) as store:
        yield [CollectionSource(store, name) for name in options.collection]


def _show(bar: tqdm, total: int) -> None:
    bar.total = total
    bar.update()


def _report(to: Path, manifest: dict[str, Any]) -> None:
    for split, count in manifest["splits"].items():
        print(f"{split:5}  {count['images']:7,} images  {count['narratives']:7,} narratives")
    if manifest["left_out"]["count"]:
        print(f"left out: {manifest['left_out']['count']:,}, as {manifest['left_out']['first'][0]}")
    if manifest["near_duplicates"]["count"]:
        a, b = manifest["near_duplicates"]["first"][0]["images"]
        print(
            f"look alike in two splits: {manifest['near_duplicates']['count']:,} pairs, as "
            f"{a['image_id']} in {a['split']} and {b['image_id']} in {b['split']} "
            "(snapshot.json has more)"
        )
    if manifest["previous"]:
        reused, shards = manifest["previous"]["reused"], sum(map(len, manifest["shards"].values()))
        print(f"{reused:,} of {shards:,} shards taken over from {manifest['previous']['name']}")
    print(f"snapshot {manifest['hash'][:12]} in {to}")


if __name__ == "__main__":
    stop_tidily()
    sys.exit(main())
