"""Narratives at rest: one at random from a snapshot, against its line of JSON.

    python -m tests.benchmarks.records [--count 10000]

Both give caption, words and traces as arrays. Also: what the snapshot's narratives take on disk, of
what the JSON Lines take, and what memory of its own a process needs to have read them all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from loctex.records.items import Split
from loctex.records.snapshot import Snapshot
from tests.benchmarks import made, turns

READS = 500  # a turn


def lines(path: Path) -> np.ndarray:
    """Where each line of the file begins, in bytes."""
    with open(path, "rb") as file:
        return np.cumsum([0, *map(len, file)])[:-1]


def read_line(path: Path, start: int) -> tuple[str, np.ndarray, list[np.ndarray]]:
    """Caption, word times and strokes of the line at byte `start`."""
    with open(path, "rb") as file:
        file.seek(start)
        record = json.loads(file.readline())
    times = np.array([(w["start_time"], w["end_time"]) for w in record["timed_caption"]])
    strokes = [np.array([(p["x"], p["y"], p["t"]) for p in s]) for s in record["traces"]]
    return record["caption"], times, strokes


def check(split: Split, path: Path, starts: np.ndarray) -> None:
    """Both readers agree: times to a microsecond, places to float32."""
    caption, times, strokes = read_line(path, starts[0])
    found = next(n for i in range(len(split)) for n in split[i].narratives if n.caption == caption)
    np.testing.assert_allclose([w[1:] for w in found.words], times, atol=1e-6)
    for ours, theirs in zip(found.strokes, strokes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def bytes_of_narratives(snapshot: Path) -> int:
    """What the columns below `narratives` take in the snapshot's parquet files, compressed."""
    total = 0
    for file in (snapshot / "data").glob("*.parquet"):
        metadata = pq.ParquetFile(file).metadata
        for group in range(metadata.num_row_groups):
            columns = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
            total += sum(
                column.total_compressed_size
                for column in columns
                if column.path_in_schema.startswith("narratives.")
            )
    return total


def own_memory() -> int:
    """Bytes of this process that no file backs."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def read_all(snapshot: Path) -> None:
    """Prints by how many bytes this process grew by opening a snapshot and reading it twice."""
    import datasets  # noqa: F401  what is imported is not what is read

    before = own_memory()
    split = Snapshot.open(snapshot).split("train")
    for index in range(2 * len(split)):
        split[index % len(split)]
    print(own_memory() - before)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.records", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=10_000, help="narratives [10000]")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args(arguments)
    if given.read:
        return read_all(given.read)
    with tempfile.TemporaryDirectory() as folder:
        snapshot = made.snapshot(Path(folder), given.count, size=(32, 24))
        path = Path(folder) / "narratives.jsonl"
        split, starts = Snapshot.open(snapshot).split("train"), lines(path)
        check(split, path, starts)
        chosen = np.random.default_rng(0).integers(given.count, size=READS).tolist()
        slow, fast = turns.seconds(
            [
                lambda: [read_line(path, starts[i]) for i in chosen],
                lambda: [split[i] for i in chosen],
            ],
            given.turns,
        )
        size, share = path.stat().st_size, bytes_of_narratives(snapshot) / path.stat().st_size
        command = [sys.executable, "-m", "tests.benchmarks.records", f"--read={snapshot}"]
        grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"JSON line {slow / READS * 1e6:,.0f} us, ours {fast / READS * 1e6:,.0f}")
    print(f"JSON Lines {size / given.count / 1000:.1f} KB a narrative, parquet 1/{1 / share:.1f}")
    print(f"memory to read {given.count:,} narratives: {grown / 1e6:.0f} MB")
    print(f"ratio {slow / fast:.1f}")


if __name__ == "__main__":
    main()
